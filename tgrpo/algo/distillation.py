"""Rollouts of trained specialists as demonstrations for one policy.

Source: RLDG (arXiv 2412.09858): successes of narrow policies, imitated by a generalist with its usual loss. The filters
are ours; the imitation is :mod:`tgrpo.session.distill`.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from tgrpo.types import Trajectory

TOO_LONG = 1.2
"""Successes longer than this multiple of the median success are left out: they wandered."""
STILL = 1e-4
"""Actions whose six motion entries are all smaller than this, with an unchanged gripper, do nothing."""


def select(successes: Sequence[bool], lengths: Sequence[int], too_long: float = TOO_LONG) -> list[int]:
    """Places of the episodes to keep: successes that are not much longer than the median success.

    Args:
        successes: Whether each episode completed its task ``(E,)``.
        lengths: Control steps of each ``(E,)``.
        too_long: Longest episode to keep, as a multiple of the median.
    """
    good = [place for place, success in enumerate(successes) if success]
    if not good:
        return []
    limit = too_long * float(np.median([lengths[place] for place in good]))
    return [place for place in good if lengths[place] <= limit]


def balanced(tasks: Sequence[Hashable], rng: np.random.Generator) -> list[int]:
    """Places of as many episodes of each task as the task with the fewest has, drawn at random, in order."""
    places: dict[Hashable, list[int]] = {}
    for place, task in enumerate(tasks):
        places.setdefault(task, []).append(place)
    fewest = min((len(own) for own in places.values()), default=0)
    return sorted(int(place) for own in places.values() for place in rng.permutation(own)[:fewest])


def moving(actions: NDArray[np.float32]) -> NDArray[np.bool_]:
    """True for the actions that do something ``(T,)``.

    Args:
        actions: Executed actions ``(T, 7)``: six of motion, the gripper last.
    """
    still = (np.abs(actions[:, :6]) < STILL).all(axis=1)
    changed = np.diff(actions[:, 6], prepend=actions[:1, 6]) != 0
    return np.asarray(~still | changed)


def executed_actions(trajectory: Trajectory) -> NDArray[np.float32]:
    """All actions that a rollout executed ``(T, 7)``: the labels of its imitation."""
    parts = [chunk.actions[:count] for chunk, count in zip(trajectory.chunks, trajectory.executed, strict=True)]
    return np.concatenate(parts) if parts else np.zeros((0, 7), np.float32)
