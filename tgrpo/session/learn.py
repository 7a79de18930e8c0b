"""`tgrpo learn`: turns the episodes of a session into better versions of its policy, between episodes.

It runs beside the session, in a process of its own. It only writes new versions into the session's folder; whoever runs
the episodes has the server load the current one before the next episode, never during one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import tyro
from rich.console import Console

from tgrpo.apprentice import Apprentice, ImitationSettings, Verdict, gate
from tgrpo.errors import RecordingError, SettingsError
from tgrpo.learner import Learner, LearnerSettings
from tgrpo.policies import shipped
from tgrpo.policies.trainable import Trainable, load_trainable
from tgrpo.record import demo_file
from tgrpo.record import episode as episodes
from tgrpo.record.episode import Episode
from tgrpo.record.session import closed_episodes, is_session, require_session
from tgrpo.session import preferences, versions
from tgrpo.session.lessons import Lesson, demonstrated, group, lessons
from tgrpo.settings import Strict, validated
from tgrpo.spec import PolicySpec
from tgrpo.types import RolloutGroup

HELD_OUT = 5
"""Every so many episodes with lessons one is held out to judge new versions by."""
GROUPS_HELD_OUT = 8
"""The same of groups that differ: each is several episodes, which an arm plays one after another."""
FRANKA = LearnerSettings(scalariser="gated", learning_rate=2e-4, minibatch=128, epochs=1)
"""Preset ``franka``: groups of consecutive episodes, whose lengths differ, and faults that outrank rewards."""
RANKED = msgspec.structs.replace(FRANKA, baseline="grpo")
"""The same where whole episodes are ranked: there is nothing to compare within them."""
_log = logging.getLogger(__name__)


class LearnSettings(Strict, frozen=True):
    """Improves the policy of a session from what was recorded in it."""

    session: Annotated[Path, tyro.conf.Positional]
    """The session folder."""
    policy: str = "tiny-libero"
    """Where the session starts: a checkpoint folder, or the name of one that ships with the package."""
    method: Literal["imitation", "tgrpo", "preferences"] = "imitation"
    """``imitation`` of human corrections and own successes; ``tgrpo`` on groups of consecutive labelled episodes;
    ``preferences``: the same with the ranks of `tgrpo judge` as rewards."""
    watch: bool = False
    """Goes on until Ctrl-C, learning after each episode."""
    poll: Annotated[float, msgspec.Meta(gt=0.0)] = 1.0
    """Time between two looks at the session while watching [s]."""
    group_size: Annotated[int, msgspec.Meta(ge=2)] = 4
    """Episodes of one group, for ``tgrpo`` and ``preferences``."""
    demos: tuple[str, ...] = ()
    """Demonstrations that are taught beside what a session shows: files, folders or patterns; for ``imitation``."""
    window: Annotated[int, msgspec.Meta(ge=1)] = 4
    """Groups of one update of these: the newest, and those before it, whose ratios know the version that played."""
    temperature: Annotated[float, msgspec.Meta(gt=0.0)] = 0.5
    """At which the policy sampled, for these."""
    tolerance: Annotated[float, msgspec.Meta(ge=0.0)] = 0.05
    """How much the loss on the held-out decisions may grow: of imitation [nat], or of the surrogate of the others."""
    use: int = -1
    """Only makes this version current."""
    rollback: bool = False
    """Only makes the version before the current one current."""
    imitation: ImitationSettings = ImitationSettings()


class Reader:
    """Reads each closed episode of a session once.

    Attributes:
        last: Highest number that was read; -1 before the first.
    """

    def __init__(self) -> None:
        """Has read nothing."""
        self._read: set[str] = set()
        self.last = -1

    def read_new(self, session: Path) -> list[Episode]:
        """The episodes that were closed since the last time, without damaged ones."""
        fresh = [folder for folder in closed_episodes(session) if folder.name not in self._read]
        self._read |= {folder.name for folder in fresh}
        self.last = max([self.last, *(int(folder.name) for folder in fresh)])
        found = []
        for folder in fresh:
            try:
                found.append(episodes.load(folder))
            except RecordingError as error:
                _log.warning("nothing is learned from it: %s", error)
        return found


def complete_groups(found: Iterable[Episode], size: int) -> list[list[Episode]]:
    """Groups of consecutive counted episodes that have all their members; more than ``size`` are left out."""
    members: dict[tuple[str, int, int], list[Episode]] = {}
    for episode in found:
        one = episode.info
        if one.group is not None and episode.result.counted:
            members.setdefault((one.suite, one.task, one.group), []).append(episode)
    return [of[:size] for of in members.values() if len(of) >= size]


def numbers(members: Sequence[Episode]) -> list[int]:
    """The numbers of some episodes."""
    return [episode.number for episode in members]


def earlier(patterns: Sequence[str], spec: PolicySpec) -> list[Lesson]:
    """What successful demonstrations from before the session show.

    Raises:
        SettingsError: A pattern matches nothing, or actions have another length than the policy's.
        UnknownNameError: A demonstration lacks one of the policy's cameras.
    """
    found = demo_file.successes(patterns, spec.observation.cameras)
    return [lesson for demo in found for lesson in demonstrated(demo, spec)]


class Imitator:
    """Learns from corrections and successes as they come in.

    Attributes:
        reader: Of the session.
    """

    def __init__(self, policy: Trainable, settings: LearnSettings) -> None:
        """Starts from a policy, which is changed in place."""
        self.reader, self._tolerance = Reader(), settings.tolerance
        self._apprentice = Apprentice(policy, settings.imitation)
        self._taught = earlier(settings.demos, policy.spec)
        self._held_out: list[Lesson] = []
        self._instructive = 0

    def study(self, session: Path) -> Verdict | None:
        """Learns what is new; None if nothing is."""
        corrected = False
        for episode in self.reader.read_new(session):
            shown = lessons(episode, self._apprentice.policy.spec)
            if not shown:
                continue
            self._instructive += 1
            if self._instructive % HELD_OUT:
                self._taught += shown
                corrected |= any(lesson.kind == "correction" for lesson in shown)
            else:
                self._held_out += shown
        return self._apprentice.try_out(self._taught, self._held_out, self._tolerance) if corrected else None

    def export(self, folder: Path) -> None:
        """Writes the policy as it is now."""
        self._apprentice.export(folder)

    def about(self) -> dict[str, Any]:
        """What was learned from."""
        demonstrated = sum(lesson.kind == "demonstration" for lesson in self._taught)
        return {
            "method": "imitation",
            "episodes": sorted({lesson.episode for lesson in self._taught if lesson.kind != "demonstration"}),
            "held_out": sorted({lesson.episode for lesson in self._held_out}),
            "decisions": len(self._taught),
            "demonstrated": demonstrated,
        }


class Comparer:
    """Learns from complete groups of labelled or ranked episodes.

    Attributes:
        reader: Of the session.
    """

    def __init__(self, policy: Trainable, settings: LearnSettings) -> None:
        """Starts from a policy, which is changed in place."""
        self.reader, self._settings = Reader(), settings
        self._ranked = settings.method == "preferences"
        how = RANKED if self._ranked else FRANKA
        self._learner = Learner(policy, how, temperature=settings.temperature, seed=settings.imitation.seed)
        self._waiting: list[Episode] = []
        self._used: list[int] = []
        self._window: list[RolloutGroup] = []
        self._held_out: list[RolloutGroup] = []
        self._kept: list[int] = []
        self._telling = 0

    def study(self, session: Path) -> Verdict | None:
        """Takes a TGRPO update on the groups that became complete; None if none did."""
        self._waiting += (fresh := self.reader.read_new(session))
        groups = complete_groups(self._waiting, self._settings.group_size)
        choices = preferences.read(session) if self._ranked else {}
        if self._ranked:
            complete = len(groups)
            groups = [of for of in groups if preferences.is_judged(numbers(of), choices)]
            if fresh and len(groups) < complete:
                _log.warning("groups that wait to be judged: %d. Run: tgrpo judge %s", complete - len(groups), session)
        if not groups:
            return None
        used = {number for of in groups for number in numbers(of)}
        self._waiting = [episode for episode in self._waiting if episode.number not in used]
        taught = [one for of in groups if (one := self._teaches(of, choices)) is not None]
        if not taught:
            return Verdict(accepted=False, before=0.0, after=0.0, decisions=0, why="no group differs in how it went")
        # One group says little. Those before it still do: they were played by almost the same policy.
        self._window = window = [*self._window, *taught][-self._settings.window :]
        decisions = sum(len(rollout.chunks) for one in self._held_out for rollout in one.trajectories)
        learner, held_out = self._learner, self._held_out
        tolerance = self._settings.tolerance
        return gate(learner, lambda: learner.update(window), lambda: learner.judge(held_out), decisions, tolerance)

    def _teaches(self, members: Sequence[Episode], choices: preferences.Choices) -> RolloutGroup | None:
        """The episodes as rollouts to learn from; None if nothing tells them apart, or they are held out."""
        rollouts = group(members, self._learner.policy.spec)
        if self._ranked:
            places = preferences.places(numbers(members), preferences.known(choices))
            if places is None:
                return None
            rollouts = preferences.paid(rollouts, places)
        if len({float(rollout.rewards.sum()) for rollout in rollouts.trajectories}) == 1:
            return None
        self._telling += 1
        if self._telling % GROUPS_HELD_OUT == 0:
            self._held_out.append(rollouts)
            self._kept += numbers(members)
            return None
        self._used += numbers(members)
        return rollouts

    def export(self, folder: Path) -> None:
        """Writes the policy as it is now."""
        self._learner.export(folder)

    def about(self) -> dict[str, Any]:
        """What was learned from."""
        return {"method": self._settings.method, "episodes": self._used, "held_out": self._kept}


def run(settings: LearnSettings, console: Console) -> int:
    """Learns once, or until interrupted; returns the number of new versions.

    Raises:
        SettingsError: The folder is no session, or there is no such version.
    """
    session = settings.session
    while settings.watch and not is_session(session):  # whoever plays it may be about to begin
        time.sleep(settings.poll)
    require_session(session)
    if settings.rollback or settings.use >= 0:
        number = versions.roll_back(session) if settings.rollback else versions.choose(session, settings.use)
        console.print(f"version {number} is current; it is loaded before the next episode")
        return 0
    if settings.demos and settings.method != "imitation":
        raise SettingsError(f"demos teach imitation, not {settings.method}; leave --demos away, or the method.")
    origin = load_trainable(shipped(settings.policy))
    versions.start(session, origin.save)
    policy = load_trainable(versions.folder_of(session, versions.current(session).version))
    student = (Imitator if settings.method == "imitation" else Comparer)(policy, settings)
    made = 0
    try:
        while True:
            made += _turn(session, student, console)
            if not settings.watch:
                return made
            time.sleep(settings.poll)
    except KeyboardInterrupt:
        console.print(f"stopped after {made} new versions")
        return made


def _turn(session: Path, student: Imitator | Comparer, console: Console) -> int:
    before = student.reader.last
    made = _study(session, student, console)
    if student.reader.last > before:
        versions.note_studied(session, student.reader.last)
    return made


def _study(session: Path, student: Imitator | Comparer, console: Console) -> int:
    verdict = student.study(session)
    if verdict is None:
        return 0
    if not verdict.accepted:
        console.print(f"no new version, {verdict}")
        return 0
    about = {**student.about(), "verdict": str(verdict)}
    number = versions.add(session, student.export, about)
    console.print(f"version {number}, {verdict}; from {len(about['episodes'])} episodes")
    return 1


def main(argv: Sequence[str]) -> int:
    """``tgrpo learn``."""
    settings = validated(tyro.cli(LearnSettings, prog="tgrpo learn", args=list(argv)))
    run(settings, Console(highlight=False))
    return 0
