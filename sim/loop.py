"""The training loop: groups of rollouts, an update, and again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sim import stock
from sim.collecting import Collected, collect
from sim.pool import Pool, Progress
from sim.rollout import Spent, Unit
from sim.settings import TrainSettings, state_range, step_limit
from tgrpo.algo import sampling, strategies
from tgrpo.algo.replay import SuccessBuffer
from tgrpo.algo.samplers import Outcome, Request, accuracy
from tgrpo.learner import Learner, Update
from tgrpo.types import RolloutGroup, Trajectory


@dataclass
class Memory:
    """What a run remembers from one iteration to the next, for the strategies that look back."""

    outcomes: list[Outcome] = field(default_factory=list)
    """Every group so far; saved with checkpoints."""
    successes: SuccessBuffer = field(default_factory=SuccessBuffer)
    """Rollouts to replay; a resumed run starts with none."""


def plan(
    settings: TrainSettings, task: int, iteration: int, max_steps: int, outcomes: Sequence[Outcome] = ()
) -> list[Unit]:
    """Lays out one iteration: where each group starts, and the seeds of its rollouts.

    Args:
        settings: The run's settings.
        task: Index of the task.
        iteration: Iterations that are done.
        max_steps: Step limit of an episode.
        outcomes: What the groups before have achieved; samplers other than the uniform one look at it.
    """
    return [
        Unit(
            suite=settings.suite,
            task=task,
            init_states=(state,),
            env_seed=0,
            seeds=sampling.rollout_seeds(settings.seed, iteration * settings.groups + group, settings.group_size),
            temperature=settings.temperature,
            execute=settings.execute,
            max_steps=max_steps,
            group=group if settings.stop == "synchronised" else None,
            grace=settings.grace,
            patience=settings.patience,
        )
        for group, state in enumerate(_states(settings, task, iteration, outcomes))
    ]


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


def measure(
    collected: Sequence[Collected], update: Update, rollout_seconds: float, update_seconds: float
) -> dict[str, Any]:
    """The row of ``metrics.jsonl`` of one iteration, but for its counters.

    Rates and means are those of the rollouts from initial states.
    """
    groups = [one.first for one in collected]
    trajectories = [trajectory for group in groups for trajectory in group.trajectories]
    steps = sum(one.steps for one in collected)
    return {
        "success_rate": float(np.mean([t.success for t in trajectories])),
        "groups_solved": float(np.mean([any(t.success for t in group.trajectories) for group in groups])),
        "return_mean": float(np.mean([t.rewards.sum() for t in trajectories])),
        "length_mean": float(np.mean([t.steps for t in trajectories])),
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
    pool: Pool,
    policy: Path,
    learner: Learner,
    progress: Progress = lambda result: None,
    memory: Memory | None = None,
) -> dict[str, Any]:
    """Plays and learns once; returns the row of metrics. What was played is added to ``memory``."""
    memory = Memory() if memory is None else memory
    started, before = time.monotonic(), (pool.spent(), pool.lost, len(pool.quarantined))
    units = plan(settings, task, iteration, step_limit(settings), memory.outcomes)
    collected = collect(units, pool, policy, progress, settings.collector)
    played = time.monotonic()
    share = rate(settings, iteration)
    chosen = prepare(settings, iteration, collected, memory)
    update = learner.update(chosen, share)
    row = measure(collected, update, played - started, time.monotonic() - played)
    after = (pool.spent(), pool.lost, len(pool.quarantined))
    return row | usefulness(chosen, before, after) | {"learning_rate": settings.learner.learning_rate * share}


Accounts = tuple[Spent, int, int]
"""What a pool has spent, lost and left out."""


def usefulness(chosen: Sequence[RolloutGroup], before: Accounts, after: Accounts) -> dict[str, float]:
    """What the workers did, and how much of it enters the update.

    Args:
        chosen: What the update learns from; rollouts that are replayed were paid for earlier.
        before: The pool's accounts before the rollouts.
        after: And after them.
    """
    # A rollout may be part of several groups.
    fresh = {
        id(chunk): int(steps)
        for group in chosen
        for trajectory in group.trajectories
        if trajectory.source == "policy"
        for chunk, steps in zip(trajectory.chunks, trajectory.executed, strict=True)
    }
    simulated, inferred = after[0].simulated - before[0].simulated, after[0].inferred - before[0].inferred
    return {
        "simulated_steps": simulated,
        "useful_steps": sum(fresh.values()) / max(simulated, 1),
        "useful_observations": len(fresh) / max(inferred, 1),
        "rollouts_lost": after[1] - before[1],
        "rollouts_left_out": after[2] - before[2],
    }


def prepare(
    settings: TrainSettings, iteration: int, collected: Sequence[Collected], memory: Memory
) -> list[RolloutGroup]:
    """The groups to learn from: repaired, filtered, or with neither as they were played.

    Args:
        settings: The run's settings.
        iteration: Iterations that are done.
        collected: What was played; it is added to the memory.
        memory: What was played before.
    """
    memory.outcomes += [
        Outcome(g.init_state, sum(t.success for t in g.trajectories), len(g.trajectories))
        for g in (one.first for one in collected)
    ]
    groups = [group for one in collected for group in one.groups]
    chosen = groups
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
