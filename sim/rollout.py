"""Rollouts of one policy in one simulator: several episodes of a group side by side, stopped together.

One environment plays all rollouts of a unit: each keeps a snapshot and takes its turn for one chunk of
actions. The policy then sees all of them in one batch, and a picture is rendered only when it is asked. Where another
process decides, there are two batches, and one is simulated while the other is decided.

Between two decisions a rollout is nothing but data. Half of a unit's rollouts can therefore move to another process,
when one has nothing left to do; they continue there as they would have here.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated, Literal, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from sim.libero import LiberoEnv
from sim.snapshot import Snapshot
from tgrpo.algo.cutting import deadline, stuck
from tgrpo.policies.base import Asynchronous, MeanTemperature, Policy
from tgrpo.rewards import StageFile, StageMachine
from tgrpo.rewards.machine import MachineState
from tgrpo.settings import Strict
from tgrpo.types import ActionChunk, Image, Observation, Trajectory

Stop = Literal["synchronised", "individual"]
STEPS_PER_FRAME = 2
"""Control steps between two pictures of a filmed rollout."""
WAVES = 2
"""Batches that a policy in another process decides in turns."""


class Unit(Strict, frozen=True):
    """Some rollouts of one task: what one worker plays side by side."""

    suite: str
    task: int
    init_states: Annotated[tuple[int, ...], msgspec.Meta(min_length=1)]
    """Initial state of each rollout, or one for all of them."""
    env_seed: int = 0
    """Seed of the environment: fixture poses."""
    seeds: tuple[int, ...] = (0,)
    """Seed of each rollout's sampling."""
    temperature: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    mean_temperature: MeanTemperature | None = None
    """At which the policy takes the mean of its bins at temperature 0; as its checkpoint says by default."""
    execute: Annotated[int, msgspec.Meta(ge=1)] = 8
    """Actions of each chunk that are executed before the policy is asked again."""
    max_steps: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Step limit; the suite's own by default."""
    keep: bool = True
    """Whether the observations and chunks come back (training needs them, evaluation does not)."""
    rewards: bool = True
    """Whether stage rewards are computed."""
    film: bool = False
    """Whether pictures of the first rollout come back, one for every second control step and the last one."""
    marks: bool = False
    """Whether the states between decisions come back, for other rollouts to start from."""
    lookahead: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Chunks that are tried before each decision; see :mod:`sim.lookahead`. 0 executes what the policy decides."""
    planner: bool = False
    """Whether a planner moves the hand where nothing is near, see :mod:`sim.approach`; then nothing is kept."""
    group: int | None = None
    """Units with the same number stop together, after the first success; without one rollouts run to their own ends."""
    grace: Annotated[float, msgspec.Meta(ge=1)] = 1.0
    """They stop when the first success has taken, times this."""
    patience: Annotated[int, msgspec.Meta(ge=0)] = 0
    """A rollout ends when it has completed no stage for so many control steps; 0: never. Needs rewards."""

    def start(self, row: int) -> int:
        """Initial state of one of its rollouts."""
        return self.init_states[row if len(self.init_states) > 1 else 0]


class Tally(Protocol):
    """Counts what is spent, whether or not anything comes of it."""

    simulated: int
    """Control steps."""
    inferred: int
    """Observations that a policy was asked about."""


@dataclass
class Spent:
    """A tally of this process; see :class:`Tally`."""

    simulated: int = 0
    inferred: int = 0


@dataclass
class Episode:
    """One rollout while it runs: nothing but data."""

    snapshot: Snapshot
    machine: MachineState | None = None
    """Where its stage machine stands, while no machine is kept for it."""
    origin: str = ""
    """Hash of the state that it started from; empty until it has begun."""
    observations: list[Observation] = field(default_factory=list)
    chunks: list[ActionChunk] = field(default_factory=list)
    executed: list[int] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    terms: list[dict[str, float]] = field(default_factory=list)
    stages: list[int] = field(default_factory=list)
    frames: list[Image] = field(default_factory=list)
    marks: list[Episode] = field(default_factory=list)
    """The states before its decisions and at its end."""
    steps: int = 0
    """Control steps since the initial state, also those before the state that it started from."""
    success: bool = False

    def goes_on(self, end: int, patience: int) -> bool:
        """Whether it is played further: until a control step, and while it gets somewhere."""
        return not self.success and self.steps < end and not stuck(self.stages, patience)

    def mark(self, machine: StageMachine | None) -> Episode:
        """A rollout that would start from here."""
        return Episode(self.snapshot, self.machine if machine is None else machine.state(), steps=self.steps)


@dataclass(frozen=True)
class Part:
    """Those rollouts of a unit that one process plays: all of them, or some that another one has begun."""

    unit: Unit
    rows: tuple[int, ...]
    """Places of its rollouts among the unit's seeds."""
    begun: tuple[Episode, ...] = ()
    """How far each of them is; empty if none has begun."""

    def without(self, rows: Iterable[int]) -> Part:
        """What is left of it when some of its rollouts are played elsewhere."""
        left = [place for place, row in enumerate(self.rows) if row not in set(rows)]
        begun = tuple(self.begun[place] for place in left) if self.begun else ()
        return Part(self.unit, tuple(self.rows[place] for place in left), begun)


@dataclass(frozen=True)
class UnitResult:
    """What came of one unit, or of a part of it."""

    unit: Unit
    rows: tuple[int, ...]
    """Places of the rollouts among the unit's seeds; those that had to be left out are missing."""
    state_hashes: tuple[str, ...]
    """Of the simulator state that each of them started from."""
    trajectories: list[Trajectory]
    frames: list[Image]
    """Pictures of the first rollout, if it was filmed."""
    seconds: float
    marks: list[list[Episode]] = field(default_factory=list)
    """States of each rollout before its decisions and at its end, if they were wanted."""
    planned: tuple[int, ...] = ()
    """Control steps of each rollout that a planner decided, if there was one."""


class StopSignal:
    """The control step at which a group stops; every unit of the group reads and lowers it.

    This one lives in the process; :mod:`sim.vector` has one in shared memory. Units never wait for each
    other: a rollout that ran past the stop is cut back afterwards, which gives the same trajectories. Until the
    group's first success all rollouts are alive; which of them share a batch changes nothing, as a policy decides each
    row by itself.
    """

    NEVER = 2**31 - 1
    """Later than any step limit."""

    def __init__(self) -> None:
        """Nothing has succeeded yet."""
        self._first = self.NEVER

    def get(self) -> int:
        """The earliest success so far [control steps]."""
        return self._first

    def lower(self, step: int, row: int) -> None:
        """Reports that a rollout of the unit has succeeded at a control step."""
        self._first = min(self._first, step)


class Helpers:
    """Those who would play some of the rollouts: nobody. :mod:`sim.worker` knows some."""

    def wanted(self, running: int) -> bool:
        """Asked before each decision, with the number of rollouts that are left; whether half of them may go."""
        return False

    def take(self, part: Part) -> None:
        """Takes rollouts over; they have begun."""

    def hear(self, progress: Callable[[], Part]) -> None:
        """Told after each chunk of a rollout; ``progress`` says how far all are, to go on from if they are lost."""


def play(
    env: LiberoEnv,
    policy: Policy,
    work: Unit | Part,
    *,
    stages: StageFile | None = None,
    stop: StopSignal | None = None,
    helpers: Helpers | None = None,
    tally: Tally | None = None,
) -> UnitResult:
    """Plays the rollouts of one unit, or a part of them.

    Args:
        env: The environment of the unit's task.
        policy: Decides the actions.
        work: What to play.
        stages: What is paid for; without it there are no rewards.
        stop: Stops all rollouts after the first success (and is told about it); None lets each run to its own end.
        helpers: May take over half of the rollouts before any decision; the result is then without them.
        tally: Counts control steps and observations.
    """
    started = time.monotonic()
    part = work if isinstance(work, Part) else whole(work)
    unit, helpers, tally = part.unit, helpers or Helpers(), tally or Spent()
    limit = unit.max_steps or env.max_steps
    # Rollouts that stop at once are compared over the same steps; others must not gain by failing slowly.
    horizon = limit if stop is None or unit.grace > 1 else None
    episodes, machines = _begin(env, part, stages, horizon)
    policy.reset(unit.seeds, [len(episodes[row].executed) if row in episodes else 0 for row in range(len(unit.seeds))])
    depth = WAVES if isinstance(policy, Asynchronous) else 1
    asked: deque[_Asked] = deque()
    while True:
        end = limit if stop is None else min(limit, deadline(stop.get(), unit.grace))
        running = [row for row, episode in episodes.items() if episode.goes_on(end, unit.patience)]
        idle = [row for row in running if not any(row in wave.rows for wave in asked)]
        if helpers.wanted(len(running)) and len(running) > 1:
            given = idle[max(0, len(running) // 2 - (len(running) - len(idle))) :]
            if given:
                helpers.take(_give(part, episodes, machines, given))
            running, idle = ([row for row in rows if row not in given] for rows in (running, idle))
        if not running:
            break
        share = -(-len(running) // depth)
        while idle and len(asked) < depth:
            asked.append(_ask(env, policy, episodes, idle[:share], unit.temperature))
            tally.inferred += len(idle[:share])
            idle = idle[share:]
        wave = asked.popleft()
        for row, observation, chunk in zip(wave.rows, wave.observations, wave.answer(), strict=True):
            episode = episodes[row]
            if unit.marks:
                episode.marks.append(episode.mark(machines.get(row)))
            count = min(unit.execute, limit - episode.steps)
            tally.simulated += execute(env, episode, machines.get(row), chunk, count, unit.film and row == 0)
            if unit.keep:
                episode.observations.append(observation)
                episode.chunks.append(chunk)
            if episode.success and stop is not None:
                stop.lower(episode.steps, row)
            helpers.hear(partial(_progress, part, episodes, machines))
    marks = [[*e.marks, e.mark(machines.get(row))] for row, e in episodes.items()] if unit.marks else []
    return UnitResult(
        unit,
        tuple(episodes),
        tuple(episode.origin for episode in episodes.values()),
        [finish(episode) for episode in episodes.values()],
        episodes[0].frames if 0 in episodes else [],
        time.monotonic() - started,
        marks,
    )


def whole(unit: Unit) -> Part:
    """All rollouts of a unit, none of them begun."""
    return Part(unit, tuple(range(len(unit.seeds))))


def join(unit: Unit, parts: Sequence[UnitResult]) -> UnitResult:
    """The result of a unit from those of its parts."""
    rows = {row: (part, place) for part in parts for place, row in enumerate(part.rows)}
    ordered = [rows[row] for row in sorted(rows)]
    return UnitResult(
        unit,
        tuple(sorted(rows)),
        tuple(part.state_hashes[place] for part, place in ordered),
        [part.trajectories[place] for part, place in ordered],
        [frame for part in parts for frame in part.frames],
        sum(part.seconds for part in parts),
        [part.marks[place] for part, place in ordered] if unit.marks else [],
        tuple(part.planned[place] for part, place in ordered) if unit.planner else (),
    )


def _begin(
    env: LiberoEnv, part: Part, stages: StageFile | None, horizon: int | None
) -> tuple[dict[int, Episode], dict[int, StageMachine]]:
    """Episodes and stage machines, by row."""
    episodes: dict[int, Episode] = {}
    machines: dict[int, StageMachine] = {}
    for place, row in enumerate(part.rows):
        if part.begun:
            episode = part.begun[place]
            env.restore(episode.snapshot)
        else:
            env.reset(part.unit.start(row), part.unit.env_seed)
            episode = Episode(env.snapshot())
            if part.unit.film and row == 0:
                episode.frames.append(env.film())
        episode.origin = episode.origin or env.state_hash()
        episodes[row] = episode
        if stages is not None:
            machines[row] = _machine(env, StageMachine(stages, horizon), episode)
    return episodes, machines


@dataclass(frozen=True)
class _Asked:
    """Rollouts whose next chunk is being decided."""

    rows: list[int]
    observations: list[Observation]
    answer: Callable[[], list[ActionChunk]]
    """Waits for the chunks."""


def _ask(env: LiberoEnv, policy: Policy, episodes: dict[int, Episode], rows: list[int], temperature: float) -> _Asked:
    observations = [_observe(env, episodes[row]) for row in rows]
    if isinstance(policy, Asynchronous):
        return _Asked(rows, observations, policy.ask(observations, temperature=temperature, rows=rows))
    return _Asked(rows, observations, partial(policy.act, observations, temperature=temperature, rows=rows))


def _machine(env: LiberoEnv, machine: StageMachine, episode: Episode) -> StageMachine:
    """Sets a machine to where an episode is."""
    if episode.machine is None:
        machine.reset(env.quantities())
    else:
        machine.restore(episode.machine)
    return machine


def _give(part: Part, episodes: dict[int, Episode], machines: dict[int, StageMachine], rows: list[int]) -> Part:
    """Takes rollouts out of those that are played here."""
    return _progress(part, {row: episodes.pop(row) for row in rows}, machines)


def _progress(part: Part, episodes: dict[int, Episode], machines: dict[int, StageMachine]) -> Part:
    """How far rollouts are."""
    begun = (replace(e, machine=machines[row].state()) if row in machines else e for row, e in episodes.items())
    return Part(part.unit, tuple(episodes), tuple(begun))


def _observe(env: LiberoEnv, episode: Episode) -> Observation:
    env.restore(episode.snapshot)
    return env.observation()


def execute(
    env: LiberoEnv, episode: Episode, machine: StageMachine | None, chunk: ActionChunk, count: int, filmed: bool
) -> int:
    """Executes the first ``count`` actions of a chunk in a rollout; returns how many it took."""
    env.restore(episode.snapshot)
    done = 0
    for action in chunk.actions[:count]:
        episode.success = env.step(action)
        done += 1
        if machine is not None:
            reward = machine.step(env.quantities())
            episode.rewards.append(reward.total)
            episode.terms.append(reward.terms)
            episode.stages.append(reward.stage)
        if filmed and (episode.success or (episode.steps + done) % STEPS_PER_FRAME == 0):
            episode.frames.append(env.film())
        if episode.success:
            break
    episode.steps += done
    episode.executed.append(done)
    episode.snapshot = env.snapshot()
    return done


def finish(episode: Episode) -> Trajectory:
    """What a rollout came to."""
    names = episode.terms[0] if episode.terms else {}
    terms: dict[str, NDArray[np.float64]] = {name: np.array([t[name] for t in episode.terms]) for name in names}
    return Trajectory(
        observations=episode.observations,
        chunks=episode.chunks,
        executed=np.array(episode.executed, np.int64),
        rewards=np.array(episode.rewards, np.float64),
        terms=terms,
        stages=np.array(episode.stages, np.int64),
        success=episode.success,
    )
