"""The plan of an evaluation: which policy plays which task from which start, in which order, and when it is enough.

Two policies take turns from the same starts, in an order that is drawn for each pair: whatever drifts during a day
(light, the gripper's grip, the person who resets) meets both of them alike. Blind, the person who labels is told an
alias that changes with each episode and so says nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from tgrpo.errors import SettingsError
from tgrpo.record.episode import COUNTED, Outcome
from tgrpo.record.sequential import e_path
from tgrpo.settings import Strict, from_builtins, load_yaml

Positive = Annotated[int, msgspec.Meta(ge=1)]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]


class PlannedPolicy(Strict, frozen=True):
    """One of the policies that are compared."""

    name: Text
    checkpoint: str = ""
    """What is to be served under this name: a folder, or the name of one that ships; empty: somebody serves it."""
    server: str = ""
    """Address of its server; empty: the one that is started for its checkpoint."""


class PlannedTask(Strict, frozen=True):
    """One of the tasks that are played."""

    instruction: Text
    """What the policy is told."""
    name: str = ""
    suite: str = ""
    """LIBERO suite in simulation, or the name of the robot's task set."""
    task: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Index in the suite."""
    starts: Annotated[tuple[Annotated[int, msgspec.Meta(ge=0)], ...], msgspec.Meta(min_length=1)] = (0,)
    """Initial states in simulation, or numbers of the marked positions on the table; used in turn."""
    time_limit: Annotated[float, msgspec.Meta(gt=0.0, le=3600.0)] = 30.0
    """Longest rollout [s]."""
    stages: tuple[str, ...] = ()
    """Names of the task's stages, for labels."""


class Plan(Strict, frozen=True):
    """An evaluation at an arm."""

    policies: Annotated[tuple[PlannedPolicy, ...], msgspec.Meta(min_length=1, max_length=2)]
    """One, or two that are compared; the first is the baseline."""
    tasks: Annotated[tuple[PlannedTask, ...], msgspec.Meta(min_length=1)]
    episodes: Positive
    """Episodes of each policy in each task; with ``stop_early`` the most that are played."""
    name: str = ""
    purpose: Literal["eval", "correct", "collect"] = "eval"
    """``eval`` measures, in ``correct`` a person takes over and the policy learns, ``collect`` plays groups."""
    group: Annotated[int, msgspec.Meta(ge=0, le=64)] = 0
    """Episodes in a row from one start, which TGRPO compares; 0: each begins at the next start."""
    temperature: Annotated[float, msgspec.Meta(ge=0.0, le=10.0)] = 0.0
    """At which policies sample; 0 takes the most likely actions."""
    stop_early: bool = False
    """Ends when the e-value of the comparison reaches ``stop_at``, which may be looked at after every pair."""
    stop_at: Annotated[float, msgspec.Meta(gt=1.0)] = 20.0
    """20 is a level of 5 %."""
    blind: bool = True
    """Whether the person who labels does not learn which policy plays."""
    attempts: Positive = 2
    """How often one is played at most, when an attempt says nothing about the policy; each attempt is recorded."""
    seed: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Of the order."""


@dataclass(frozen=True)
class Slot:
    """One episode of a plan."""

    number: int
    """Place in the order."""
    policy: int
    task: int
    pair: int
    """Which of the task's repetitions; the same for both policies."""
    start: int
    """Initial state, or number of the marked position."""


@dataclass(frozen=True)
class Played:
    """What is known of an episode that was closed."""

    policy: str
    suite: str
    task: int
    pair: int
    outcome: Outcome


@dataclass(frozen=True)
class Next:
    """What to play next."""

    slot: Slot
    attempt: int
    """1, or more after attempts that say nothing about the policy."""


def load(path: Path) -> Plan:
    """Reads a plan.

    Raises:
        SettingsError: A key is unknown or missing, a value is out of range, or two policies share a name.
    """
    plan = load_yaml(path, Plan)
    check(plan, str(path))
    return plan


def check(plan: Plan, source: str = "plan") -> None:
    """Refuses what the fields alone cannot.

    Raises:
        SettingsError: Two policies or two tasks cannot be told apart, or there is nothing to stop early for.
    """
    names = [policy.name for policy in plan.policies]
    if len(set(names)) < len(names):
        raise SettingsError(f"{source}: two policies are called {names[0]!r}; results could not be told apart.")
    tasks = [(task.suite, task.task) for task in plan.tasks]
    if len(set(tasks)) < len(tasks):
        raise SettingsError(f"{source}: two tasks have the same suite and task number {tasks}; give each its own.")
    if plan.group and plan.temperature <= 0.0:
        raise SettingsError(f"{source}: a group of equal episodes teaches nothing; set a temperature above 0.")
    if plan.stop_early and len(plan.policies) < 2:
        raise SettingsError(f"{source}: stop_early compares two policies; name a second one, or leave it out.")


def order(plan: Plan) -> list[Slot]:
    """All episodes of a plan in their order: repetitions, in each of them all tasks, in each of these both policies.

    The first policy of a pair is drawn by the plan's seed, in blocks of two pairs so that each goes first as often.
    """
    rng = np.random.default_rng(plan.seed)
    slots: list[Slot] = []
    turns: list[int] = []
    for pair in range(plan.episodes):
        for index, task in enumerate(plan.tasks):
            turns = turns or rng.permutation(2).tolist()
            first = turns.pop() % len(plan.policies)
            for turn in range(len(plan.policies)):
                policy = (first + turn) % len(plan.policies)
                start = task.starts[(pair // max(plan.group, 1)) % len(task.starts)]
                slots.append(Slot(len(slots), policy, index, pair, start))
    return slots


def upcoming(plan: Plan, played: Sequence[Played]) -> Next | None:
    """What to play next; nothing if the plan is done or a difference has been found.

    Args:
        plan: What was planned.
        played: All closed episodes of the session, in their order.
    """
    if plan.stop_early and decided(plan, played) is not None:
        return None
    found: dict[tuple[str, str, int, int], list[Outcome]] = {}
    for episode in played:
        found.setdefault((episode.policy, episode.suite, episode.task, episode.pair), []).append(episode.outcome)
    for slot in order(plan):
        task = plan.tasks[slot.task]
        attempts = found.get((plan.policies[slot.policy].name, task.suite, task.task, slot.pair), [])
        if not any(outcome in COUNTED for outcome in attempts) and len(attempts) < plan.attempts:
            return Next(slot, len(attempts) + 1)
    return None


def pairs(plan: Plan, played: Iterable[Played]) -> list[tuple[bool, bool]]:
    """Success of both policies from the same starts, in the order in which the pairs were completed."""
    names = [policy.name for policy in plan.policies]
    halves: dict[tuple[str, int, int], dict[str, bool]] = {}
    complete = []
    for episode in played:
        if episode.outcome not in COUNTED or episode.policy not in names:
            continue
        half = halves.setdefault((episode.suite, episode.task, episode.pair), {})
        if episode.policy in half:  # of repeated ones the first counts
            continue
        half[episode.policy] = episode.outcome == "success"
        if len(names) == 2 and len(half) == 2:
            complete.append((half[names[0]], half[names[1]]))
    return complete


def decided(plan: Plan, played: Iterable[Played]) -> tuple[int, str] | None:
    """Pairs after which the second policy was found ``better`` or ``worse``; None while the e-value is below."""
    return e_path(pairs(plan, played)).decided(plan.stop_at)


def alias(plan: Plan, number: int) -> str:
    """What the person who labels is told instead of a policy's name."""
    return f"episode {number}" if plan.blind else plan.policies[order(plan)[number].policy].name


def of_session(data: dict[str, Any]) -> Plan:
    """The plan that a session was started with, see :class:`tgrpo.record.session.SessionInfo`.

    Raises:
        SettingsError: The session has no plan, or one of another version.
    """
    if not data:
        raise SettingsError("this session was started without a plan; start a new one with 'tgrpo session eval PLAN'.")
    return from_builtins(data, Plan, source="plan of the session")
