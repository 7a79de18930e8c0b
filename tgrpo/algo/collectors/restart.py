"""A first round of drafts, and a second one that restarts from where the best draft completed its last stage.

Source: iGRPO (arXiv 2602.09000); idea of: its drafts become part of the prompt, ours a state to start from. Nothing is
learned from drafts. For long tasks whose groups otherwise fail entirely.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tgrpo.algo.collectors import Collection, Fan
from tgrpo.types import Trajectory


class Restart(NamedTuple):
    """Where the second round starts."""

    draft: int
    """Rollout of the first round."""
    decision: int
    """Decision of that rollout before which to restore; 0 is the initial state."""


def best_draft(scores: Sequence[float]) -> int:
    """The draft with the highest score, the first of equals."""
    return int(np.argmax(scores))


def last_boundary(trajectory: Trajectory) -> int:
    """The first decision of a rollout that was taken in its highest stage; 0 if none was completed."""
    if not len(trajectory.stages):
        return 0
    highest = trajectory.stages.max()
    if highest == 0:
        return 0
    step = int(np.argmax(trajectory.stages >= highest))
    # The decision that reached the stage may still run; the next one is the first taken in it.
    decision = int(np.searchsorted(np.cumsum(trajectory.executed), step, side="right")) + 1
    return min(decision, len(trajectory.executed) - 1)


def plan(drafts: Sequence[Trajectory]) -> Restart | None:
    """Where to restart; nothing where a draft has already succeeded."""
    if any(draft.success for draft in drafts):
        return None
    best = best_draft([float(draft.rewards.sum()) for draft in drafts])
    return Restart(best, last_boundary(drafts[best]))


def collect(size: int) -> Collection:
    """A group of ``size`` drafts; if they all fail, a group from where the best of them got to instead."""
    (drafts,) = yield [Fan(size, marks=True)]
    where = plan(drafts.group.trajectories)
    if where is None or where.decision == 0:
        return [drafts.group]
    (again,) = yield [Fan(size, drafts.marks[where.draft][where.decision])]
    return [again.group]
