"""A short fine-tuning before an episode, on the stored episodes that fit it, and back to the old weights after it.

Source: GC-TTT (arXiv 2507.18809); a reimplementation of its selection from its description, for use between episodes
only: never inside a control loop, on a robot only while the arm is parked.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import numpy as np
import torch

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


@contextlib.contextmanager
def adapted(model: torch.nn.Module, step: Callable[[], torch.Tensor], steps: int, rate: float) -> Iterator[None]:
    """Fine-tunes for the length of a ``with`` block; afterwards the weights are the old ones, bit for bit.

    Args:
        model: What is trained, in place.
        step: Computes the loss of one optimiser step.
        steps: Optimiser steps.
        rate: Learning rate of AdamW.
    """
    before = {name: value.detach().clone() for name, value in model.state_dict().items()}
    try:
        optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], rate, weight_decay=0.0)
        for _ in range(steps):
            optimiser.zero_grad(set_to_none=True)
            step().backward()
            optimiser.step()
        yield
    finally:
        model.load_state_dict(before)
