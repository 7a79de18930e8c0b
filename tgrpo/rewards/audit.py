"""Whether a stage file pays for the right thing, judged by rollouts: pure functions of recorded progress.

Source: ours. A stage file has to score 1 where the task is done and little where it starts, and what it pays on the way
has to rank rollouts that will succeed above those that will not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tgrpo.types import FloatArray

START_BELOW = 0.3
"""Largest score of an initial state."""
CORRELATION_ABOVE = 0.5
"""Smallest rank correlation of progress with success."""
FEWEST = 4
"""Rollouts below which, or without both outcomes, no correlation is judged."""


@dataclass(frozen=True, eq=False)
class Rollout:
    """One rollout as the stage machine saw it."""

    kind: str
    """Who acted: ``expert``, ``random`` or ``policy``."""
    start: float
    """Score of the initial state, 0 to 1."""
    progress: FloatArray
    """Score after each control step ``(T,)``, 0 to 1: level and shaping."""
    success: bool

    @property
    def best(self) -> float:
        """Largest score before the step that completed the task, so that success itself does not count."""
        before = self.progress[:-1] if self.success else self.progress
        return float(max(before, default=self.start))


@dataclass(frozen=True)
class Verdict:
    """What the rollouts say about a stage file."""

    rollouts: int
    successes: int
    start: float
    """Largest score of an initial state."""
    end: float | None
    """Smallest score of a success state; nothing without a success."""
    correlation: float | None
    """Spearman correlation of the best progress with success; nothing where it cannot be judged."""
    ordered: float | None
    """Share of the pairs of a success and a failure whose progress is in the right order."""
    problems: tuple[str, ...]
    """What is wrong; empty if the stage file passes."""


def judge(rollouts: Sequence[Rollout]) -> Verdict:
    """Applies the rules of this module to some rollouts, at least one."""
    start = max(rollout.start for rollout in rollouts)
    ends = [float(rollout.progress[-1]) for rollout in rollouts if rollout.success]
    best = np.array([rollout.best for rollout in rollouts])
    success = np.array([rollout.success for rollout in rollouts], np.float64)
    both = len(rollouts) >= FEWEST and 0 < success.sum() < len(rollouts)
    correlation = spearman(best, success) if both else None
    found = []
    if start >= START_BELOW:
        found.append(f"an initial state scores {start:.2f}; it must be below {START_BELOW}. Tighten the first stages.")
    if not ends:
        found.append("no rollout succeeded, so nothing is known about success states.")
    elif min(ends) < 1.0:
        found.append(f"a success state scores {min(ends):.2f}; it must be 1.")
    if correlation is not None and correlation < CORRELATION_ABOVE:
        found.append(
            f"progress ranks rollouts with correlation {correlation:.2f} to success; at least {CORRELATION_ABOVE} is "
            "needed. A stage pays for something that failures do, too."
        )
    return Verdict(
        rollouts=len(rollouts),
        successes=len(ends),
        start=start,
        end=min(ends, default=None),
        correlation=correlation,
        ordered=ordered_pairs(best, success) if both else None,
        problems=tuple(found),
    )


def spearman(first: FloatArray, second: FloatArray) -> float:
    """Correlation of ranks, equals sharing their mean rank; 0 where one side has no spread."""
    a, b = (_ranks(values) for values in (first, second))
    spread = float(a.std() * b.std())
    return float(((a - a.mean()) * (b - b.mean())).mean()) / spread if spread else 0.0


def ordered_pairs(values: FloatArray, success: FloatArray) -> float:
    """Share of the pairs of a success and a failure in which the success has more; equals count half."""
    good, bad = values[success > 0][:, None], values[success == 0][None]
    return float(((good > bad) + 0.5 * (good == bad)).mean())


def _ranks(values: FloatArray) -> FloatArray:
    below = (values[:, None] > values[None]).sum(axis=1)
    equal = (values[:, None] == values[None]).sum(axis=1)
    return np.asarray(below + (equal + 1) / 2, np.float64)
