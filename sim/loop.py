"""The training loop: groups of rollouts, an update, and again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sim import stock
from sim.rollout import Spent, Unit, UnitResult, same_start, synchronise
from sim.settings import TrainSettings, state_range, step_limit, worker_count
from sim.vector import WorkerPool
from tgrpo.algo import sampling, strategies
from tgrpo.algo.replay import SuccessBuffer
from tgrpo.algo.samplers import Outcome, Request, accuracy
from tgrpo.errors import WorkerError
from tgrpo.learner import Learner, Update
from tgrpo.types import RolloutGroup, Trajectory

Progress = Callable[[UnitResult], None]


@dataclass
class Memory:
    """What a run remembers from one iteration to the next, for the strategies that look back."""

    outcomes: list[Outcome] = field(default_factory=list)
    """Every group so far; saved with checkpoints."""
    successes: SuccessBuffer = field(default_factory=SuccessBuffer)
    """Rollouts to replay; a resumed run starts with none."""


def plan(
    settings: TrainSettings, task: int, iteration: int, max_steps: int, outcomes: Sequence[Outcome] = ()
) -> list[list[Unit]]:
    """Lays out the rollouts of one iteration: the units of each group, split evenly over the workers.

    Args:
        settings: The run's settings.
        task: Index of the task.
        iteration: Iterations that are done.
        max_steps: Step limit of an episode.
        outcomes: What the groups before have achieved; samplers other than the uniform one look at it.
    """
    groups = []
    for group, state in enumerate(_states(settings, task, iteration, outcomes)):
        number = iteration * settings.groups + group
        seeds = sampling.rollout_seeds(settings.seed, number, settings.group_size)
        parts = min(worker_count(settings), len(seeds))
        units = [
            Unit(
                suite=settings.suite,
                task=task,
                init_states=(state,),
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


def _states(settings: TrainSettings, task: int, iteration: int, outcomes: Sequence[Outcome]) -> list[int]:
    """Initial state of each group of an iteration."""
    states = state_range(settings.train_states)
    features = stock.init_states(settings.suite, task)[list(states), 1:] if settings.sampler == "information" else None
    request = Request(
        states=states,
        count=settings.groups,
        first=iteration * settings.groups,
        seed=settings.seed,
        rollouts=settings.group_size,
        outcomes=outcomes,
        features=np.zeros((0, 0)) if features is None else features,
    )
    return strategies.sampler(settings.sampler).choose(request)


def collect(groups: Sequence[Sequence[Unit]], pool: WorkerPool, policy: Path, progress: Progress) -> list[RolloutGroup]:
    """Plays one iteration's rollouts and puts the groups together; one that is not complete is dropped.

    Raises:
        WorkerError: No group is complete.
    """
    results = iter(pool.play([unit for units in groups for unit in units], policy, progress))
    collected = []
    for units in groups:
        parts = [next(results) for _ in units]
        trajectories = [trajectory for part in parts for trajectory in part.trajectories]
        unit = units[0]
        if len(trajectories) < sum(len(unit.seeds) for unit in units):
            continue  # advantages of a part of a group would compare with too few
        if unit.group is not None:
            trajectories = synchronise(trajectories)
        collected.append(
            RolloutGroup(
                unit.suite,
                unit.task,
                unit.start(0),
                unit.env_seed,
                same_start(parts),
                trajectories,
                sum(part.seconds for part in parts),
            )
        )
    if not collected:
        raise WorkerError(
            "no group is complete, as rollouts had to be left out of each; the log names them and the reasons."
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
    pool: WorkerPool,
    policy: Path,
    learner: Learner,
    progress: Progress = lambda result: None,
    memory: Memory | None = None,
) -> dict[str, Any]:
    """Plays and learns once; returns the row of metrics. What was played is added to ``memory``."""
    memory = Memory() if memory is None else memory
    started, before = time.monotonic(), (pool.spent(), pool.lost, len(pool.quarantined))
    groups = collect(plan(settings, task, iteration, step_limit(settings), memory.outcomes), pool, policy, progress)
    played = time.monotonic()
    share = rate(settings, iteration)
    chosen = prepare(settings, iteration, groups, memory)
    update = learner.update(chosen, share)
    row = measure(groups, update, played - started, time.monotonic() - played)
    after = (pool.spent(), pool.lost, len(pool.quarantined))
    return row | usefulness(chosen, before, after) | {"learning_rate": settings.learner.learning_rate * share}


Accounts = tuple[Spent, int, int]
"""What a pool has spent, lost and left out."""


def usefulness(chosen: Sequence[RolloutGroup], before: Accounts, after: Accounts) -> dict[str, float]:
    """How much of what the workers did enters the update.

    Args:
        chosen: What the update learns from; rollouts that are replayed were paid for earlier.
        before: The pool's accounts before the rollouts.
        after: And after them.
    """
    fresh = [t for group in chosen for t in group.trajectories if t.source == "policy"]
    simulated, inferred = after[0].simulated - before[0].simulated, after[0].inferred - before[0].inferred
    return {
        "useful_steps": sum(t.steps for t in fresh) / max(simulated, 1),
        "useful_observations": sum(len(t.executed) for t in fresh) / max(inferred, 1),
        "rollouts_lost": after[1] - before[1],
        "rollouts_left_out": after[2] - before[2],
    }


def prepare(
    settings: TrainSettings, iteration: int, groups: Sequence[RolloutGroup], memory: Memory
) -> list[RolloutGroup]:
    """The groups to learn from: repaired, filtered, or with neither as they were played.

    Args:
        settings: The run's settings.
        iteration: Iterations that are done.
        groups: What was played; it is added to the memory.
        memory: What was played before.
    """
    memory.outcomes += [
        Outcome(g.init_state, sum(t.success for t in g.trajectories), len(g.trajectories)) for g in groups
    ]
    chosen = list(groups)
    if settings.replay == "success":
        rng = np.random.default_rng((settings.seed, iteration))
        chosen = [memory.successes.repair(group, rng) for group in groups]
        for group in groups:
            memory.successes.add(group)
    if settings.group_filter == "accuracy":
        rates = [float(np.mean([t.success for t in group.trajectories])) for group in chosen]
        chosen = [chosen[place] for place in accuracy.kept(rates)]
    return chosen


def _term_means(trajectories: Sequence[Trajectory]) -> dict[str, float]:
    names = sorted({name for t in trajectories for name in t.terms})
    return {name: float(np.mean(np.concatenate([t.terms[name] for t in trajectories]))) for name in names}


def _stage_shares(trajectories: Sequence[Trajectory]) -> list[float]:
    reached = [int(t.stages.max()) if len(t.stages) else 0 for t in trajectories]
    return [float(np.mean([r >= stage for r in reached])) for stage in range(max(reached) + 1)]
