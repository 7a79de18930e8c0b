"""Which stored episodes a policy is fine-tuned on for a short while, because they fit the episode that comes.

Source: GC-TTT (arXiv 2507.18809); a reimplementation of its selection from its description, for use between episodes
only: never inside a control loop, on a robot only while the arm is parked. :mod:`sim.adapt` does it in evaluations.
"""

from __future__ import annotations

import numpy as np

from tgrpo.types import FloatArray

KEPT = 0.2
"""Share of the relevant sub-trajectories that is kept."""


def values(rewards: FloatArray, last: FloatArray, gamma: float) -> FloatArray:
    """Value of each sub-trajectory: ``sum_h gamma^h r_h + gamma^H V(s_H)``.

    Args:
        rewards: ``(M, H)``.
        last: Value of the state that each ends in ``(M,)``.
        gamma: Discount.
    """
    horizon = rewards.shape[1]
    return np.asarray(rewards @ gamma ** np.arange(horizon) + gamma**horizon * last)


def select(estimates: FloatArray, distances: FloatArray, near: float, share: float = KEPT) -> list[int]:
    """Sub-trajectories that start near the present state and lead to the goal; both filters are needed.

    Args:
        estimates: Value of each ``(M,)``.
        distances: Of each start from the present state ``(M,)``.
        near: Largest distance to count as relevant.
        share: Share of the relevant ones to keep, at least one.

    Returns:
        Places, the most valuable first; empty where none is near.
    """
    relevant = [int(place) for place in np.flatnonzero(distances < near)]
    count = max(1, int(share * len(relevant))) if relevant else 0
    return sorted(relevant, key=lambda place: -float(estimates[place]))[:count]
