"""Several chunks are tried in the simulator before the best is executed: `tgrpo eval --lookahead`.

LOOP (:mod:`tgrpo.algo.lookahead`) with the exact model. A chunk is worth the stage score that it leads to.
"""

from __future__ import annotations

import numpy as np

from sim.libero import LiberoEnv
from sim.rollout import Part, Tally
from sim.solo import Decision
from tgrpo.algo.lookahead import try_out
from tgrpo.policies.base import Policy
from tgrpo.rewards import StageMachine
from tgrpo.types import ActionChunk


class Lookahead:
    """Asks a policy for as many chunks as the unit looks ahead with; see :class:`sim.solo.Decider`."""

    def __init__(self, env: LiberoEnv, policy: Policy, tally: Tally) -> None:
        """Looks at nothing yet.

        Args:
            env: The environment of the episodes.
            policy: Is sampled.
            tally: Counts control steps that are tried, and observations.
        """
        self._env, self._policy, self._tally = env, policy, tally
        self._width, self._temperature = 0, 0.0

    def begin(self, part: Part, row: int) -> None:
        """An episode has begun."""
        self._width, self._temperature = part.unit.lookahead, part.unit.temperature
        self._policy.reset([part.unit.seeds[row] * self._width + number for number in range(self._width)])

    def decide(self, machine: StageMachine, left: int) -> Decision:
        """The best of some sampled chunks."""
        observation = self._env.observation()
        candidates = self._policy.act([observation] * self._width, temperature=self._temperature)
        self._tally.inferred += self._width
        self._tally.simulated += self._width * left
        return Decision(candidates[best(self._env, machine, candidates, left)], observation)


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
