"""The training loop: groups of rollouts, an update, and again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sim.rollout import Unit, UnitResult, same_start, synchronise
from sim.settings import TrainSettings, state_range, worker_count
from sim.vector import WorkerPool
from tgrpo.algo import sampling
from tgrpo.learner import Learner, Update
from tgrpo.types import RolloutGroup, Trajectory

Progress = Callable[[UnitResult], None]


def plan(settings: TrainSettings, task: int, iteration: int, max_steps: int) -> list[list[Unit]]:
    """Lays out the rollouts of one iteration: the units of each group, split evenly over the workers.

    Args:
        settings: The run's settings.
        task: Index of the task.
        iteration: Iterations that are done.
        max_steps: Step limit of an episode.
    """
    states = state_range(settings.train_states)
    groups = []
    for group in range(settings.groups):
        number = iteration * settings.groups + group
        seeds = sampling.rollout_seeds(settings.seed, number, settings.group_size)
        state = sampling.init_state(states, settings.seed, number)
        parts = min(worker_count(settings), len(seeds))
        units = [
            Unit(
                suite=settings.suite,
                task=task,
                init_state=state,
                env_seed=0,
                seeds=tuple(seeds[part::parts]),
                temperature=settings.temperature,
                execute=settings.execute,
                max_steps=max_steps,
                group=group if settings.stop == "synchronised" else None,
            )
            for part in range(parts)
        ]
        groups.append(units)
    return groups


def collect(groups: Sequence[Sequence[Unit]], pool: WorkerPool, policy: Path, progress: Progress) -> list[RolloutGroup]:
    """Plays one iteration's rollouts and puts the groups together."""
    results = iter(pool.play([unit for units in groups for unit in units], policy, progress))
    collected = []
    for units in groups:
        parts = [next(results) for _ in units]
        trajectories = [trajectory for part in parts for trajectory in part.trajectories]
        unit = units[0]
        if unit.group is not None:
            trajectories = synchronise(trajectories)
        collected.append(
            RolloutGroup(
                unit.suite,
                unit.task,
                unit.init_state,
                unit.env_seed,
                same_start(parts),
                trajectories,
                sum(part.seconds for part in parts),
            )
        )
    return collected


def measure(
    groups: Sequence[RolloutGroup], update: Update, rollout_seconds: float, update_seconds: float
) -> dict[str, Any]:
    """The row of ``metrics.jsonl`` of one iteration, but for its counters."""
    trajectories = [trajectory for group in groups for trajectory in group.trajectories]
    steps = sum(trajectory.steps for trajectory in trajectories)
    return {
        "success_rate": float(np.mean([t.success for t in trajectories])),
        "groups_solved": float(np.mean([any(t.success for t in group.trajectories) for group in groups])),
        "return_mean": float(np.mean([t.rewards.sum() for t in trajectories])),
        "length_mean": steps / len(trajectories),
        **{name: getattr(update, name) for name in update.__dataclass_fields__},
        "groups": len(groups),
        "episodes": len(trajectories),
        "environment_steps": steps,
        "steps_per_second": steps / max(rollout_seconds, 1e-9),
        "rollout_seconds": rollout_seconds,
        "update_seconds": update_seconds,
        "terms": _term_means(trajectories),
        "stages": _stage_shares(trajectories),
    }


def rate(settings: TrainSettings, iteration: int) -> float:
    """Share of the learning rate to use in an iteration: all of it, or a straight line that ends at 0."""
    return 1.0 - iteration / settings.iterations if settings.schedule == "linear" else 1.0


def iterate(
    settings: TrainSettings,
    task: int,
    iteration: int,
    max_steps: int,
    pool: WorkerPool,
    policy: Path,
    learner: Learner,
    progress: Progress = lambda result: None,
) -> dict[str, Any]:
    """Plays and learns once; returns the row of metrics."""
    started = time.monotonic()
    groups = collect(plan(settings, task, iteration, max_steps), pool, policy, progress)
    played = time.monotonic()
    share = rate(settings, iteration)
    update = learner.update(groups, share)
    row = measure(groups, update, played - started, time.monotonic() - played)
    return row | {"learning_rate": settings.learner.learning_rate * share}


def _term_means(trajectories: Sequence[Trajectory]) -> dict[str, float]:
    names = sorted({name for t in trajectories for name in t.terms})
    return {name: float(np.mean(np.concatenate([t.terms[name] for t in trajectories]))) for name in names}


def _stage_shares(trajectories: Sequence[Trajectory]) -> list[float]:
    reached = [int(t.stages.max()) if len(t.stages) else 0 for t in trajectories]
    return [float(np.mean([r >= stage for r in reached])) for stage in range(max(reached) + 1)]
