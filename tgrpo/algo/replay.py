"""Success replay: a group that fails entirely gets one success from before, so that it carries a gradient.

Source: ARPO (arXiv 2505.16282), replay buffer; a reimplementation from its description. ARPO recomputes the
log-probabilities of what it inserts, so that the ratio starts at 1; we keep those of the policy that acted, and the
clip bounds the ratio at ``1 + clip_high``. A replayed rollout is compared as a whole only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from tgrpo.types import RolloutGroup, Trajectory

DEPTH = 8
"""Successes that are kept for each task and initial state."""
MEAN_BELOW, SPREAD_BELOW = 0.2, 0.05
"""A group is repaired if the mean and the standard deviation of its successes are below these."""


@dataclass
class SuccessBuffer:
    """First in, first out, for each task and initial state."""

    depth: int = DEPTH
    _stored: dict[Hashable, deque[Trajectory]] = field(default_factory=dict)

    def add(self, group: RolloutGroup) -> None:
        """Keeps the fresh successes of a group."""
        for trajectory in group.trajectories:
            if trajectory.success and trajectory.source == "policy":
                self._stored.setdefault(key(group), deque(maxlen=self.depth)).append(trajectory)

    def stored(self, group: RolloutGroup) -> list[Trajectory]:
        """Successes from the initial state of a group, the oldest first."""
        return list(self._stored.get(key(group), ()))

    def repair(self, group: RolloutGroup, rng: np.random.Generator) -> RolloutGroup:
        """Puts a random stored success in the place of a hopeless group's first rollout; other groups stay as they are.

        Args:
            group: What was just played.
            rng: Draws the success.
        """
        successes = self.stored(group)
        if not successes or not hopeless([t.success for t in group.trajectories]):
            return group
        chosen = replace(successes[int(rng.integers(len(successes)))], source="replay")
        return replace(group, trajectories=[chosen, *group.trajectories[1:]])


def key(group: RolloutGroup) -> tuple[str, int, int]:
    """What successes are kept for."""
    return group.suite, group.task, group.init_state


def hopeless(successes: Iterable[bool]) -> bool:
    """Whether a group has next to no successes and no contrast between them."""
    values = np.asarray(list(successes), np.float64)
    return bool(values.mean() < MEAN_BELOW and values.std(ddof=1) < SPREAD_BELOW)
