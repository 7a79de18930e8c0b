"""Episodes in which several chunks are tried in the simulator before the best is executed: `tgrpo eval --lookahead`.

LOOP (:mod:`tgrpo.algo.lookahead`) with the exact model. A chunk is worth the stage score that it leads to. What it
shows is how far a policy's samples reach, not what a robot could do.
"""

from __future__ import annotations

import time

import numpy as np

from sim.libero import LiberoEnv
from sim.rollout import Episode, Helpers, Part, Tally, UnitResult, execute, finish
from tgrpo.algo.lookahead import try_out
from tgrpo.policies.base import Policy
from tgrpo.rewards import StageFile, StageMachine
from tgrpo.types import ActionChunk


def play(env: LiberoEnv, policy: Policy, part: Part, stages: StageFile, helpers: Helpers, tally: Tally) -> UnitResult:
    """Plays the rollouts of a part one after another, always from their beginning.

    Args:
        env: The environment of the unit's task.
        policy: Is asked for as many chunks as the unit looks ahead with.
        part: What to play.
        stages: What a chunk is judged by.
        helpers: Hears after each decision that the process lives.
        tally: Counts control steps, tried ones too, and observations.
    """
    started = time.monotonic()
    episodes = [_episode(env, policy, part, row, stages, helpers, tally) for row in part.rows]
    return UnitResult(
        part.unit,
        part.rows,
        tuple(episode.origin for episode in episodes),
        [finish(episode) for episode in episodes],
        [frame for episode in episodes for frame in episode.frames],
        time.monotonic() - started,
    )


def _episode(
    env: LiberoEnv, policy: Policy, part: Part, row: int, stages: StageFile, helpers: Helpers, tally: Tally
) -> Episode:
    unit, width, filmed = part.unit, part.unit.lookahead, part.unit.film and row == 0
    limit = unit.max_steps or env.max_steps
    env.reset(unit.start(row), unit.env_seed)
    episode = Episode(env.snapshot(), origin=env.state_hash())
    machine = StageMachine(stages, limit)
    machine.reset(env.quantities())
    policy.reset([unit.seeds[row] * width + number for number in range(width)])
    while not episode.success and episode.steps < limit:
        observation = env.observation()
        candidates = policy.act([observation] * width, temperature=unit.temperature)
        count = min(unit.execute, limit - episode.steps)
        chunk = candidates[best(env, machine, candidates, count)]
        tally.inferred += width
        tally.simulated += width * count + execute(env, episode, machine, chunk, count, filmed)
        if unit.keep:
            episode.observations.append(observation)
            episode.chunks.append(chunk)
        helpers.hear(lambda: part)
    return episode


def best(env: LiberoEnv, machine: StageMachine, candidates: list[ActionChunk], count: int) -> int:
    """Place of the chunk whose first actions lead to the highest stage score; the first of equals.

    Args:
        env: Where the episode is; the same afterwards.
        machine: Of the episode; the same afterwards.
        candidates: Chunks to try.
        count: Actions that would be executed.
    """
    saved, score = machine.state(), 0.0

    def begin() -> None:
        nonlocal score
        machine.restore(saved)
        score = 0.0

    def gain() -> float:
        nonlocal score
        before, score = score, machine.step(env.quantities()).progress
        return score - before

    returns = try_out(env, [chunk.actions[:count] for chunk in candidates], gain, begin=begin)
    machine.restore(saved)
    return int(np.argmax(returns))
