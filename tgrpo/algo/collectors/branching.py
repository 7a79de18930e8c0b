"""Groups of alternatives along one main line, each from a snapshot of the same state.

Source: TL-GRPO (arXiv 2601.16480); idea of, from its abstract and a note. On the credit chain it is no better than
return-to-go at the same stage, for twice the simulator's steps.

Shapes: ``L`` branch points, ``W`` alternatives at each, the first of which is the main line's own.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tgrpo.algo.advantages import standardised
from tgrpo.algo.collectors import Collection, Fan
from tgrpo.algo.cutting import tail
from tgrpo.errors import SettingsError
from tgrpo.types import FloatArray

POINTS = 4
"""Branch points along a main line that :func:`collect` wants."""


class Branch(NamedTuple):
    """Alternatives to play from one state of the main line."""

    decision: int
    """Decision of the main line before which the snapshot was taken."""
    alternatives: int
    """Rollouts to start there, besides the main line itself."""
    horizon: int
    """Decisions of each."""


def plan(decisions: int, alternatives: int, *, every: int = 1, horizon: int | None = None) -> list[Branch]:
    """Where to branch off a main line.

    Args:
        decisions: Length of the main line.
        alternatives: Rollouts to start at each branch point.
        every: Decisions between branch points.
        horizon: Decisions of an alternative; to the end of the main line if not given.

    Raises:
        SettingsError: A number is below 1.
    """
    if min(decisions, alternatives, every) < 1 or (horizon is not None and horizon < 1):
        raise SettingsError(
            f"branching {alternatives} times every {every} of {decisions} decisions for {horizon}: "
            "all of these must be at least 1."
        )
    left = range(0, decisions, every)
    return [Branch(at, alternatives, min(horizon or decisions, decisions - at)) for at in left]


def cost(branches: list[Branch]) -> int:
    """Decisions that the alternatives take at most, besides the main line's."""
    return sum(branch.alternatives * branch.horizon for branch in branches)


def advantages(rewards: Tensor) -> Tensor:
    """Compares the alternatives of each branch point with each other, never with those of another.

    Args:
        rewards: Reward of each alternative ``(L, W)``.

    Returns:
        ``(L, W)``.
    """
    values = rewards.double().T
    return standardised(values, torch.ones_like(values, dtype=torch.bool)).T


def run_value(rewards: FloatArray) -> float:
    """Value of a main line whose turns are attempts at one thing: its best turn.

    Args:
        rewards: Reward of each alternative ``(L, W)``, the main line first.
    """
    return float(np.max(rewards[:, 0]))


def collect(size: int) -> Collection:
    """A main line and, at up to :data:`POINTS` of its decisions, a group of its rest and ``size - 1`` alternatives.

    Alternatives run to the end of the episode, so that all rewards of a group cover the same time.
    """
    (line,) = yield [Fan(1, marks=True)]
    main = line.group.trajectories[0]
    decisions = len(main.executed)
    branches = plan(decisions, size - 1, every=-(-decisions // POINTS))
    played = yield [Fan(branch.alternatives, line.marks[0][branch.decision]) for branch in branches]
    return [
        replace(others.group, trajectories=[tail(main, branch.decision), *others.group.trajectories])
        for branch, others in zip(branches, played, strict=True)
    ]
