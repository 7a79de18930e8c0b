"""Settings of a training run, and the presets."""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal

import msgspec

from sim import stock
from sim.libero import MAX_STEPS, Mode, resolve_task, task_names
from sim.rollout import Stop
from tgrpo.algo import estimate, strategies
from tgrpo.errors import SettingsError
from tgrpo.learner import Count, LearnerSettings
from tgrpo.policies.base import MeanTemperature
from tgrpo.policies.streams import Exploration
from tgrpo.rewards import load_stages
from tgrpo.settings import Strict

Preset = Literal["fast", "paper"]
Temperature = Annotated[float, msgspec.Meta(ge=0.05)]
Index = Annotated[int, msgspec.Meta(ge=0)]


class TrainSettings(Strict, frozen=True):
    """One training run."""

    suite: str = "libero_spatial"
    """LIBERO suite of the task."""
    task: int | str = 2
    """Index or name of the task."""
    preset: Preset = "fast"
    """Where the settings below start from: `fast`, or `paper` for the method as published."""
    policy: str = "tiny-libero"
    """Checkpoint to start from: a folder, or the name of one that ships with the package."""
    seed: Index = 0
    """Seed of everything that is drawn."""
    iterations: Count = 16
    """Rounds of rollouts and updates."""
    schedule: Literal["constant", "linear"] = "linear"
    """Whether the learning rate stays or falls to 0 over the iterations."""
    groups: Count = 4
    """Groups of rollouts in one iteration."""
    group_size: Annotated[int, msgspec.Meta(ge=2)] = 8
    """Rollouts of one group."""
    temperature: Temperature = 0.5
    """At which rollouts sample; evaluation does not."""
    exploration: Exploration = "token"
    """Whether each token is sampled on its own, or those of a `chunk` or an `episode` lean one way together."""
    mean_temperature: MeanTemperature = 0.0
    """What evaluations and the trained policy do without sampling: the mean of all bins at this temperature, or, at 0,
    the most likely bins."""
    execute: Count = 8
    """Actions of each chunk that are executed before the policy is asked again."""
    stop: Stop = "individual"
    """Whether all rollouts of a group stop after its first success, or each at its own end."""
    grace: Annotated[float, msgspec.Meta(ge=1)] = 1.0
    """A synchronised group stops when its first success has taken, times this."""
    patience: Index = 0
    """A rollout ends when it has completed no stage for so many control steps; 0 plays all to their ends."""
    mode: Mode = "fast"
    """Simulator: `exact` equals stock LIBERO in pixels and states, `fast` simplifies pictures."""
    max_steps: Count | None = None
    """Step limit of an episode; the suite's own if not given."""
    sampler: str = "uniform"
    """Which initial states come next: `uniform`, `step`, `accuracy`, `information`."""
    collector: str = "flat"
    """Which rollouts a group consists of: `flat`, or from later states `restart`, `branching`, `tree`."""
    replay: Literal["none", "success"] = "none"
    """`success` puts a stored success into groups that fail entirely."""
    group_filter: Literal["none", "accuracy"] = "none"
    """`accuracy` learns only from groups whose success rate is between 0.1 and 0.9."""
    train_states: Annotated[str, msgspec.Meta(pattern=r"^\d+-\d+$")] = "0-24"
    """Initial states that groups start from."""
    held_out_states: Annotated[str, msgspec.Meta(pattern=r"^\d+-\d+$")] = "25-49"
    """Initial states of the evaluation; none may be trained on."""
    evaluate_every: Index = 4
    """Iterations between evaluations on the held-out states; 0 evaluates before and after only."""
    checkpoint_every: Count = 4
    """Iterations between checkpoints."""
    workers: Index = 0
    """Rollout processes; 0 takes one for each core."""
    learner: LearnerSettings = LearnerSettings()
    """How rollouts change the policy."""


PRESETS: dict[str, TrainSettings] = {
    "fast": TrainSettings(),
    "paper": TrainSettings(
        preset="paper",
        group_size=4,
        groups=1,
        temperature=1.0,
        stop="synchronised",
        execute=1,
        iterations=100,
        schedule="constant",
        learner=LearnerSettings(ratio="action", clip_low=0.2, clip_high=0.2, kl=0.01, learning_rate=1e-5, epochs=1),
    ),
}


def state_range(text: str) -> tuple[int, ...]:
    """Initial states of a range: ``"0-24"`` is 0 to 24, both included.

    Raises:
        SettingsError: The range is empty.
    """
    first, last = (int(part) for part in text.split("-"))
    if last < first:
        raise SettingsError(f"{text!r}: an empty range of initial states; write the smaller number first.")
    return tuple(range(first, last + 1))


def check(settings: TrainSettings) -> None:
    """Refuses what a run would fail on later: settings that contradict each other or name what does not exist.

    Raises:
        UnknownNameError: There is no such suite, task or strategy, or nobody has said what the task's stages are.
        SettingsError: An initial state does not exist, or a held-out one is also trained on.
    """
    strategies.sampler(settings.sampler)
    strategies.collector(settings.collector)
    if settings.collector != "flat" and settings.replay != "none":
        raise SettingsError(
            f"--replay {settings.replay} needs --collector flat: a stored success starts at an initial state, the "
            f"rollouts of --collector {settings.collector} at others. Drop one of the two."
        )
    estimate.check(settings.learner)
    task = resolve_task(settings.suite, settings.task)
    load_stages(settings.suite, task_names(settings.suite)[task])
    for states in (settings.train_states, settings.held_out_states):
        check_states(settings.suite, task, states)
    shared = set(state_range(settings.train_states)) & set(state_range(settings.held_out_states))
    if shared:
        raise SettingsError(
            f"initial states {min(shared)} to {max(shared)} are both trained on ({settings.train_states}) and held "
            f"out ({settings.held_out_states}); a success there would not count. Make the ranges disjoint."
        )


def check_states(suite: str, task: int, states: str) -> None:
    """Refuses initial states that a task does not have.

    Raises:
        SettingsError: The range goes too far or is empty.
    """
    last, known = state_range(states)[-1], len(stock.init_states(suite, task))
    if last >= known:
        raise SettingsError(f"initial states {states}: task {task} of {suite} has 0-{known - 1}.")


def step_limit(settings: Any) -> int:
    """Step limit of an episode: as set, or the suite's own."""
    return int(settings.max_steps or MAX_STEPS[settings.suite])


def worker_count(settings: Any) -> int:
    """Rollout processes: as set, or one for each core that this process may use."""
    return int(settings.workers) or len(os.sched_getaffinity(0))
