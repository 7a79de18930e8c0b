"""Episodes that are played one after another, because somebody looks at the simulator before each decision.

Looking ahead (:mod:`sim.lookahead`) and a planner in free space (:mod:`sim.approach`) say what comes next. They read
what a robot does not have, so they show how far an idea reaches, and are not what a robot would run.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol

from sim.libero import LiberoEnv
from sim.rollout import Episode, Helpers, Part, Tally, UnitResult, execute, finish
from tgrpo.rewards import StageFile, StageMachine
from tgrpo.types import ActionChunk, Observation


@dataclass(frozen=True)
class Decision:
    """What is executed next."""

    chunk: ActionChunk
    """Its actions are executed, as many as there is time for."""
    observation: Observation | None = None
    """What the policy saw; nothing if another one decided."""


class Decider(Protocol):
    """Says what comes next in one episode after another."""

    def begin(self, part: Part, row: int) -> None:
        """An episode has begun; the environment is at its start."""
        ...

    def decide(self, machine: StageMachine, left: int) -> Decision:
        """What to do, of which ``left`` actions count; environment and machine are where the episode is, and stay."""
        ...


def play(env: LiberoEnv, decider: Decider, part: Part, stages: StageFile, helpers: Helpers, tally: Tally) -> UnitResult:
    """Plays the rollouts of a part, always from their beginning.

    Args:
        env: The environment of the unit's task.
        decider: Decides.
        part: What to play.
        stages: Where the task is.
        helpers: Hears after each decision that the process lives.
        tally: Counts the control steps that are executed.
    """
    started = time.monotonic()
    played = [_episode(env, decider, part, row, stages, helpers, tally) for row in part.rows]
    return UnitResult(
        part.unit,
        part.rows,
        tuple(episode.origin for episode, _ in played),
        [finish(episode) for episode, _ in played],
        [frame for episode, _ in played for frame in episode.frames],
        time.monotonic() - started,
        planned=tuple(planned for _, planned in played),
    )


def _episode(
    env: LiberoEnv, decider: Decider, part: Part, row: int, stages: StageFile, helpers: Helpers, tally: Tally
) -> tuple[Episode, int]:
    """One episode, and how many of its control steps the policy did not decide."""
    unit, filmed = part.unit, part.unit.film and row == 0
    limit, planned = unit.max_steps or env.max_steps, 0
    env.reset(unit.start(row), unit.env_seed)
    episode = Episode(env.snapshot(), origin=env.state_hash())
    machine = StageMachine(stages, limit)
    machine.reset(env.quantities())
    decider.begin(part, row)
    while not episode.success and episode.steps < limit:
        left = min(unit.execute, limit - episode.steps)
        decision = decider.decide(machine, left)
        done = execute(env, episode, machine, decision.chunk, min(left, len(decision.chunk.actions)), filmed)
        tally.simulated += done
        if decision.observation is None:
            planned += done
        elif unit.keep:
            episode.observations.append(decision.observation)
            episode.chunks.append(decision.chunk)
        helpers.hear(lambda: part)
    return episode, planned
