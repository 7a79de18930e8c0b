"""Reward terms: small pure functions of numbers.

``level`` pays for the stage the task is in, ``shaping`` for the way to the next stage, ``success`` once at the end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def near(value: float, scale: float) -> float:
    """Closeness from a distance: 1 at 0, about 0.24 at ``scale``, towards 0 far away; ``1 - tanh(value / scale)``."""
    return 1.0 - math.tanh(value / scale)


def amount(value: float, scale: float) -> float:
    """Share of ``scale`` that ``value`` has reached, 0 to 1."""
    return min(max(value / scale, 0.0), 1.0)


def level(reached: int, best: int) -> int:
    """Stages of one sub-goal that are paid in full.

    The ratchet: whoever falls back from ``best`` keeps all stages but the last one, and is paid for that one in
    proportion to the ground recovered (see :func:`fraction`). So falling back never pays, and neither does gaining a
    stage twice.

    Args:
        reached: Stage the sub-goal is in now.
        best: Highest stage it has ever been in.
    """
    return best if reached == best else best - 1


def fraction(closeness: float, reached: int, best: int) -> float:
    """Share of the next stage that is paid as shaping, 0 to 1.

    Args:
        closeness: How close the next stage is, 0 to 1.
        reached: Stage the sub-goal is in now.
        best: Highest stage it has ever been in.
    """
    return closeness if reached == best else (reached + closeness) / best


def weighted_mean(values: Sequence[float], weights: Sequence[float]) -> float:
    """Mean of ``values``; 0 without any."""
    total = sum(weights)
    return sum(value * weight for value, weight in zip(values, weights, strict=True)) / total if total else 0.0


def success(steps: int, paid: float, bonus: float, repay: float, horizon: int) -> float:
    """Payment at the step that completes the task.

    With ``repay`` 1 the episode counts as if the task had been complete all along: its return is ``steps`` (or
    ``horizon``, if longer) plus ``bonus``, which no rollout that fails can reach, however long it hovers near the goal.

    Args:
        steps: Control steps of the episode, this one included.
        paid: Sum of the level and shaping terms so far, this step included.
        bonus: Payment on top.
        repay: Share of the missed payments that is paid back, 0 to 1.
        horizon: Control steps the episode counts for at least.
    """
    return bonus + repay * (max(steps, horizon) - paid)
