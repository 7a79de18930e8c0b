"""Which initial states the next groups start from: one module for each way, chosen by the setting ``sampler``.

A module has ``choose(request)``. It is a function of the run's seed, of counters and of the outcomes so far, without
any state of its own: a resumed run asks for the same groups as an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from tgrpo.types import FloatArray

SMOOTHING = 0.7
"""Weight of the old estimate of a success rate when a group has been played."""
UNKNOWN = 0.5
"""Success rate of a state that has not been played."""


class Outcome(NamedTuple):
    """What one group achieved."""

    state: int
    """Initial state."""
    successes: int
    rollouts: int


@dataclass(frozen=True, eq=False)
class Request:
    """A wish for the initial states of ``count`` groups."""

    states: Sequence[int]
    """The initial states to train on."""
    count: int
    """Number of groups."""
    first: int
    """Groups of the run before these."""
    seed: int
    """Seed of the run."""
    rollouts: int = 1
    """Rollouts that each group will have."""
    outcomes: Sequence[Outcome] = ()
    """All groups before, in their order."""
    features: FloatArray = field(default_factory=lambda: np.zeros((0, 0)))
    """Where the objects lie in each of ``states`` ``(S, F)`` [m, rad]; for samplers that compare states."""

    @property
    def rng(self) -> np.random.Generator:
        """A random generator that depends on the seed and the counter only."""
        return np.random.default_rng((self.seed, self.first))


def smoothed(old: float, successes: int, rollouts: int, keep: float = SMOOTHING) -> float:
    """Exponential smoothing of a success rate by one group's share of successes."""
    return keep * old + (1 - keep) * successes / rollouts


def success_rates(states: Sequence[int], outcomes: Sequence[Outcome]) -> dict[int, float]:
    """Smoothed success rate of each state.

    Args:
        states: The states to estimate.
        outcomes: Groups in their order; of other states, too.
    """
    rates = dict.fromkeys(states, UNKNOWN)
    for outcome in outcomes:
        if outcome.state in rates:
            rates[outcome.state] = smoothed(rates[outcome.state], outcome.successes, outcome.rollouts)
    return rates
