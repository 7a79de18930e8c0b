"""Parts of trajectories: up to a control step, or from a decision on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tgrpo.types import Trajectory


def cut(trajectory: Trajectory, steps: int) -> Trajectory:
    """The first ``steps`` control steps of a trajectory; a success later than that is gone."""
    if trajectory.steps <= steps:
        return trajectory
    ends = np.cumsum(trajectory.executed)
    decisions = int(np.searchsorted(ends, steps)) + 1
    executed = trajectory.executed[:decisions].copy()
    executed[-1] -= int(ends[decisions - 1]) - steps
    return replace(
        trajectory,
        observations=trajectory.observations[:decisions],
        chunks=trajectory.chunks[:decisions],
        executed=executed,
        rewards=trajectory.rewards[:steps],
        terms={name: values[:steps] for name, values in trajectory.terms.items()},
        stages=trajectory.stages[:steps],
        success=False,
    )


def deadline(first: int, grace: float) -> int:
    """When a group stops [control steps], if its first success took ``first`` steps."""
    return math.ceil(first * grace)


def stuck(stages: Sequence[int], patience: int) -> bool:
    """Whether a rollout has stopped getting anywhere.

    A failure mostly shows early: long before the step limit nothing more is completed, and what follows teaches nothing
    new.

    Args:
        stages: Stages that were complete after each control step so far.
        patience: Control steps in which a stage must be completed; 0 for as long as it takes.
    """
    if not patience or len(stages) < patience:
        return False
    furthest = max(stages)
    return len(stages) - (stages.index(furthest) + 1 if furthest else 0) >= patience


def synchronise(trajectories: Sequence[Trajectory], grace: float = 1.0) -> list[Trajectory]:
    """Stops the trajectories of a group together.

    Args:
        trajectories: From one start.
        grace: They stop when the first success of any of them has taken, times this; at least 1.
    """
    successes = [trajectory.steps for trajectory in trajectories if trajectory.success]
    if not successes:
        return list(trajectories)
    return [cut(trajectory, deadline(min(successes), grace)) for trajectory in trajectories]


def tail(trajectory: Trajectory, decision: int) -> Trajectory:
    """A rollout from a decision on."""
    steps = int(trajectory.executed[:decision].sum())
    return replace(
        trajectory,
        observations=trajectory.observations[decision:],
        chunks=trajectory.chunks[decision:],
        executed=trajectory.executed[decision:],
        rewards=trajectory.rewards[steps:],
        terms={name: values[steps:] for name, values in trajectory.terms.items()},
        stages=trajectory.stages[steps:],
    )
