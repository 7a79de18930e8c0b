"""`tgrpo train --dry-run`: what a run would take, found out with one optimiser step on made-up rollouts.

No simulator is started and nothing is written, so it also tells whether a large policy fits before anything else does.
"""

from __future__ import annotations

import math
import resource
import time
from dataclasses import dataclass

import msgspec
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from sim.libero import resolve_task, task_names
from sim.settings import TrainSettings, state_range, step_limit, worker_count
from tgrpo.errors import SettingsError
from tgrpo.learner import Learner
from tgrpo.policies.trainable import Trainable
from tgrpo.types import Observation, RolloutGroup, Trajectory

MEGABYTE = 2**20


@dataclass(frozen=True)
class Forecast:
    """What one rehearsal measured, and what follows for a run."""

    parameters: int
    trained: int
    """Parameters that training changes."""
    weights: int
    """Bytes of all weights."""
    peak: int
    """Most memory so far [bytes]: of the graphics card if the policy is on one, else of this process."""
    rows: int
    """Decisions of the rehearsed optimiser step."""
    step_seconds: float
    """Time of that step, with vision features and the reference."""
    decide_seconds: float
    """Time of the policy for one decision of a rollout, in a batch as rollouts have it."""
    episodes: int
    """Episodes that a run trains on."""
    evaluated: int
    """Episodes on held-out initial states."""
    steps: int
    """Environment steps of a run at most, evaluations included."""
    optimiser_steps: int
    """Optimiser steps of a run at most."""
    update_seconds: float
    """Time of all updates of a run at most, at the measured rate."""
    policy_seconds: float
    """Time of the policy in all rollouts of a run at most."""


def rehearse(policy: Trainable, settings: TrainSettings) -> Forecast:
    """Takes one optimiser step on made-up rollouts.

    Args:
        policy: Where training would start; it is changed.
        settings: The run.
    """
    once = msgspec.structs.replace(settings.learner, epochs=1)
    learner = Learner(policy, once, temperature=settings.temperature, seed=settings.seed)
    group, decide_seconds = made_up(policy, settings)
    rows = sum(len(trajectory.executed) for trajectory in group.trajectories)
    started = time.monotonic()
    update = learner.update([group])
    step_seconds = time.monotonic() - started
    if not math.isfinite(update.loss):
        raise SettingsError(f"the loss of made-up rollouts is {update.loss}; check the policy's weights and settings.")
    return _forecast(policy, settings, rows, step_seconds, decide_seconds)


def made_up(policy: Trainable, settings: TrainSettings) -> tuple[RolloutGroup, float]:
    """A group of random pictures and rewards that fills one minibatch, and the time of one decision [s]."""
    rng = np.random.default_rng(settings.seed)
    size = settings.group_size
    decisions = max(1, settings.learner.minibatch // size)
    name = task_names(settings.suite)[resolve_task(settings.suite, settings.task)]
    seen = [[_view(policy, name.replace("_", " "), rng) for _ in range(size)] for _ in range(decisions)]
    policy.reset(range(size))
    started = time.monotonic()
    chunks = [policy.act(views, temperature=settings.temperature) for views in seen]
    seconds = (time.monotonic() - started) / (decisions * size)
    executed = np.full(decisions, min(settings.execute, policy.spec.chunk))
    rewards = rng.random((size, int(executed.sum())))
    trajectories = [
        Trajectory([views[row] for views in seen], [part[row] for part in chunks], executed, rewards[row])
        for row in range(size)
    ]
    return RolloutGroup(settings.suite, 0, 0, 0, "made up", trajectories), seconds


def show(forecast: Forecast, settings: TrainSettings, console: Console) -> None:
    """Prints a forecast as a table."""
    table = Table(title="dry run", show_header=False)
    limit = step_limit(settings)
    rows = {
        "weights": f"{forecast.parameters / 1e6:.1f} M, {forecast.trained / 1e6:.2f} M of them trained, "
        f"{forecast.weights / MEGABYTE:.0f} MB",
        "peak memory": f"{forecast.peak / MEGABYTE:.0f} MB, rollout workers not counted",
        "one optimiser step": f"{forecast.step_seconds:.2f} s for {forecast.rows} decisions",
        "one decision": f"{forecast.decide_seconds * 1000:.1f} ms",
        "episodes": f"{forecast.episodes} to train on, {forecast.evaluated} to evaluate",
        "environment steps": f"at most {forecast.steps} ({limit} an episode); successes end earlier",
        "optimiser steps": f"at most {forecast.optimiser_steps}",
        "updates": f"at most {forecast.update_seconds / 60:.1f} min",
        "policy in rollouts": f"at most {forecast.policy_seconds / 60:.1f} min on {worker_count(settings)} workers; "
        "the simulator comes on top",
    }
    for name, text in rows.items():
        table.add_row(name, text)
    console.print(table)


def _view(policy: Trainable, instruction: str, rng: np.random.Generator) -> Observation:
    view = policy.spec.observation
    pictures = {name: rng.integers(0, 256, (view.size, view.size, 3), dtype=np.uint8) for name in view.cameras}
    return Observation(pictures, instruction, rng.normal(size=8).astype(np.float32))


def _forecast(
    policy: Trainable, settings: TrainSettings, rows: int, step_seconds: float, decide_seconds: float
) -> Forecast:
    weights = list(policy.model.parameters())
    episodes = settings.iterations * settings.groups * settings.group_size
    evaluations = 2 + (settings.iterations // settings.evaluate_every if settings.evaluate_every else 0)
    evaluated = evaluations * len(state_range(settings.held_out_states))
    decisions = episodes * math.ceil(step_limit(settings) / min(settings.execute, policy.spec.chunk))
    passes = decisions * settings.learner.epochs
    return Forecast(
        parameters=sum(value.numel() for value in weights),
        trained=sum(value.numel() for value in weights if value.requires_grad),
        weights=sum(value.numel() * value.element_size() for value in weights),
        peak=_peak(weights[0].device),
        rows=rows,
        step_seconds=step_seconds,
        decide_seconds=decide_seconds,
        episodes=episodes,
        evaluated=evaluated,
        steps=(episodes + evaluated) * step_limit(settings),
        optimiser_steps=math.ceil(passes / settings.learner.minibatch),
        update_seconds=passes / rows * step_seconds,
        policy_seconds=decisions * decide_seconds / worker_count(settings),
    )


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
