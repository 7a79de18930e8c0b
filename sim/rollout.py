"""Rollouts of one policy in one simulator: several episodes of a group side by side, stopped together.

One environment plays all rollouts of a unit: each keeps a snapshot and takes its turn for one chunk of
actions. The policy then sees all of them in one batch, and a picture is rendered only when it is asked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from sim.libero import LiberoEnv
from sim.snapshot import Snapshot
from tgrpo.errors import SimulationError
from tgrpo.policies.base import Policy
from tgrpo.rewards import StageFile, StageMachine
from tgrpo.settings import Strict
from tgrpo.types import ActionChunk, Image, Observation, Trajectory

Stop = Literal["synchronised", "individual"]
STEPS_PER_FRAME = 2
"""Control steps between two pictures of a filmed rollout."""


class Unit(Strict, frozen=True):
    """Some rollouts of one group: what one worker plays in one go."""

    suite: str
    task: int
    init_state: int
    env_seed: int = 0
    """Seed of the environment: fixture poses."""
    seeds: tuple[int, ...] = (0,)
    """Seed of each rollout's sampling."""
    temperature: Annotated[float, msgspec.Meta(ge=0)] = 0.0
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
    group: int | None = None
    """Units with the same number stop together, at the first success of any of their rollouts; without a number
    each rollout runs to its own end."""


@dataclass
class Episode:
    """One rollout while it runs."""

    snapshot: Snapshot
    machine: StageMachine | None
    observations: list[Observation] = field(default_factory=list)
    chunks: list[ActionChunk] = field(default_factory=list)
    executed: list[int] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    terms: list[dict[str, float]] = field(default_factory=list)
    stages: list[int] = field(default_factory=list)
    frames: list[Image] = field(default_factory=list)
    steps: int = 0
    success: bool = False


@dataclass(frozen=True)
class UnitResult:
    """What came of one unit."""

    unit: Unit
    state_hash: str
    trajectories: list[Trajectory]
    frames: list[Image]
    """Pictures of the first rollout, if it was filmed."""
    seconds: float


class StopSignal:
    """The control step at which a group stops; every unit of the group reads and lowers it.

    This one lives in the process; :mod:`sim.vector` has one in shared memory. Units never wait for each
    other: a rollout that ran past the stop is cut back afterwards, which gives the same trajectories. Until the
    group's first success all rollouts of a unit are alive, so not even the policy's batches depend on the timing.
    """

    NEVER = 2**31 - 1
    """Later than any step limit."""

    def __init__(self) -> None:
        """Nothing has succeeded yet."""
        self._first = self.NEVER

    def get(self) -> int:
        """The earliest success so far [control steps]."""
        return self._first

    def lower(self, step: int) -> None:
        """Reports a success at a control step."""
        self._first = min(self._first, step)


def play(
    env: LiberoEnv,
    policy: Policy,
    unit: Unit,
    *,
    stages: StageFile | None = None,
    stop: StopSignal | None = None,
    alive: Callable[[], None] = lambda: None,
) -> UnitResult:
    """Plays the rollouts of one unit.

    Args:
        env: The environment of the unit's task.
        policy: Decides the actions.
        unit: What to play.
        stages: What is paid for; without it there are no rewards.
        stop: Stops all rollouts at the first success (and is told about it); None lets each run to its own end.
        alive: Called before each decision, for whoever watches over this process.
    """
    started = time.monotonic()
    env.reset(unit.init_state, unit.env_seed)
    state_hash = env.state_hash()
    limit = unit.max_steps or env.max_steps
    # Rollouts that stop together are compared over the same steps; others must not gain by failing slowly.
    horizon = limit if stop is None else None
    episodes = [_begin(env, StageMachine(stages, horizon) if stages is not None else None) for _ in unit.seeds]
    if unit.film:
        episodes[0].frames.append(env.film())
    policy.reset(unit.seeds)
    while True:
        alive()
        end = limit if stop is None else min(limit, stop.get())
        running = [row for row, episode in enumerate(episodes) if not episode.success and episode.steps < end]
        if not running:
            break
        observations = [_observe(env, episodes[row]) for row in running]
        chunks = policy.act(observations, temperature=unit.temperature, rows=running)
        for row, observation, chunk in zip(running, observations, chunks, strict=True):
            filmed = unit.film and row == 0
            _execute(env, episodes[row], chunk, min(unit.execute, limit - episodes[row].steps), filmed)
            if unit.keep:
                episodes[row].observations.append(observation)
                episodes[row].chunks.append(chunk)
            if episodes[row].success and stop is not None:
                stop.lower(episodes[row].steps)
    return UnitResult(unit, state_hash, [_finish(e) for e in episodes], episodes[0].frames, time.monotonic() - started)


def cut(trajectory: Trajectory, steps: int) -> Trajectory:
    """The first ``steps`` control steps of a trajectory; a success later than that is gone."""
    if trajectory.steps <= steps:
        return trajectory
    ends = np.cumsum(trajectory.executed)
    decisions = int(np.searchsorted(ends, steps)) + 1
    executed = trajectory.executed[:decisions].copy()
    executed[-1] -= int(ends[decisions - 1]) - steps
    return replace(
        trajectory,
        observations=trajectory.observations[:decisions],
        chunks=trajectory.chunks[:decisions],
        executed=executed,
        rewards=trajectory.rewards[:steps],
        terms={name: values[:steps] for name, values in trajectory.terms.items()},
        stages=trajectory.stages[:steps],
        success=False,
    )


def synchronise(trajectories: Sequence[Trajectory]) -> list[Trajectory]:
    """Stops the trajectories of a group together, at the first success of any of them."""
    successes = [trajectory.steps for trajectory in trajectories if trajectory.success]
    if not successes:
        return list(trajectories)
    return [cut(trajectory, min(successes)) for trajectory in trajectories]


def same_start(results: Sequence[UnitResult]) -> str:
    """The state hash that all units of a group share.

    Raises:
        SimulationError: Two units started from different states, so they must not be compared.
    """
    hashes = {result.state_hash for result in results}
    if len(hashes) != 1:
        unit = results[0].unit
        raise SimulationError(
            f"{unit.suite} task {unit.task} init state {unit.init_state}: the rollouts of a group started from "
            f"{len(hashes)} different simulator states. Check that all workers run the same package versions."
        )
    return hashes.pop()


def _begin(env: LiberoEnv, machine: StageMachine | None) -> Episode:
    episode = Episode(env.snapshot(), machine)
    if episode.machine is not None:
        episode.machine.reset(env.quantities())
    return episode


def _observe(env: LiberoEnv, episode: Episode) -> Observation:
    env.restore(episode.snapshot)
    return env.observation()


def _execute(env: LiberoEnv, episode: Episode, chunk: ActionChunk, count: int, filmed: bool) -> None:
    env.restore(episode.snapshot)
    done = 0
    for action in chunk.actions[:count]:
        episode.success = env.step(action)
        done += 1
        if episode.machine is not None:
            reward = episode.machine.step(env.quantities())
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


def _finish(episode: Episode) -> Trajectory:
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
