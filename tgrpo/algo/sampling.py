"""Which initial state a group starts from, and which seed a rollout samples with.

Both are functions of the run's seed and of counters, without any state: a resumed run asks for the same
groups as an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def init_state(init_states: Sequence[int], seed: int, group: int) -> int:
    """Initial state of the ``group``-th group of a run.

    All initial states take their turn, in an order that is drawn anew for each round.

    Args:
        init_states: The initial states to train on.
        seed: Seed of the run.
        group: Number of groups before this one.
    """
    turn, place = divmod(group, len(init_states))
    order = np.random.default_rng((seed, turn)).permutation(len(init_states))
    return int(init_states[order[place]])


def rollout_seeds(seed: int, group: int, size: int) -> tuple[int, ...]:
    """Sampling seeds of the ``size`` rollouts of the ``group``-th group of a run."""
    return tuple(int(number) for number in np.random.SeedSequence((seed, group)).generate_state(size))


def fan_seeds(seeds: Sequence[int], fan: int, size: int) -> tuple[int, ...]:
    """Sampling seeds of the ``size`` rollouts of the ``fan``-th fan that a collector wants for a group, counted from 0.

    Args:
        seeds: Those of the group, see :func:`rollout_seeds`; the first fan has the first of them.
        fan: Number of fans before this one.
        size: Rollouts.
    """
    if fan == 0:
        return tuple(seeds[:size])
    return tuple(int(number) for number in np.random.SeedSequence((*seeds, fan)).generate_state(size))
