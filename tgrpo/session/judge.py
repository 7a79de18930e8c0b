"""`tgrpo judge`: shows a person two episodes of a group at a time and asks which is better."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import tyro
from rich.console import Console

from tgrpo.errors import RecordingError, SettingsError
from tgrpo.record import video
from tgrpo.record.episode import Episode
from tgrpo.record.session import require_session
from tgrpo.record.steps import Pictures, steps
from tgrpo.session import preferences
from tgrpo.session.learn import Reader, complete_groups, numbers
from tgrpo.settings import Strict, validated
from tgrpo.types import Image

FILMS = "judging"
GAP = 8
"""Between the two pictures [px]."""
ANSWERS = "l: left, r: right, n: neither, then the group is left out, q: stop"


class JudgeSettings(Strict, frozen=True):
    """Asks which of two episodes is better, for `tgrpo learn --method preferences`.

    Both are shown without their labels, as one video. A group of 4 takes 4 or 5 questions, one of 8 at most 13.
    """

    session: Annotated[Path, tyro.conf.Positional]
    """The session folder."""
    group_size: Annotated[int, msgspec.Meta(ge=2)] = 4
    """Episodes of one group."""
    camera: str = ""
    """Camera of the videos; the first by default."""


class _StopError(Exception):
    """Whoever judges wants to stop."""


def film(left: Episode, right: Episode, camera: str = "") -> Iterator[Image]:
    """Two episodes beside each other, each until its end or until a human took over; then its last picture stays.

    Raises:
        RecordingError: The policy did nothing in one of them, or it has no such camera.
    """
    halves = _frames(left, camera, "left"), _frames(right, camera, "right")
    gap = np.zeros((len(halves[0][0]), GAP, 3), np.uint8)
    for index in range(max(map(len, halves))):
        first, second = (half[min(index, len(half) - 1)] for half in halves)
        yield np.concatenate([first, gap, second], axis=1)


def _frames(episode: Episode, camera: str, side: str) -> list[Image]:
    table = steps(episode)
    mine = table.unaided
    if not mine:
        raise RecordingError(f"{episode.folder}: the policy did nothing in it that could be judged.")
    pictures = Pictures(episode, camera or next(iter(episode.cameras()), ""), table.stamps)
    texts = [f"{side}  ·  step {index}" for index in range(mine)]
    texts[-1] += "  ·  end"
    return [video.annotate(video.enlarged(pictures[index]), text) for index, text in enumerate(texts)]


class Interview:
    """Asks a person, but nothing twice."""

    def __init__(self, settings: JudgeSettings, console: Console) -> None:
        """Begins with the answers that the session has."""
        self._settings, self._console = settings, console
        self._choices = preferences.read(settings.session)

    def rank(self, group: Sequence[Episode]) -> None:
        """Asks until the group is ranked, and prints the order."""
        members = dict(zip(numbers(group), group, strict=True))

        def ask(first: int, second: int) -> int | None:
            try:
                return preferences.known(self._choices)(first, second)
            except preferences.UnjudgedError:
                # Not always the same side for the first, as whoever judges may like one of them better.
                left, right = (first, second) if (first + second) % 2 else (second, first)
                return self._ask(members[left], members[right])

        places = preferences.places(list(members), ask)
        ranked = None if places is None else [list(members)[place] for place in np.argsort(places)]
        order = "left out" if ranked is None else " > ".join(map(str, ranked))
        self._console.print(f"group of episodes {numbers(group)}: {order}", markup=False)

    def _ask(self, left: Episode, right: Episode) -> int | None:
        session, camera = self._settings.session, self._settings.camera
        path = session / FILMS / f"{left.number:06d}_{right.number:06d}.mp4"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            video.write_video(path, film(left, right, camera), fps=left.info.rate)
        self._console.print(f"{left.info.instruction}: {path}", markup=False)
        meanings = {"l": left.number, "r": right.number, "n": None}
        while (said := self._console.input("which is better? ").strip().lower()) not in meanings:
            if said == "q":
                raise _StopError
            self._console.print(ANSWERS)
        preferences.add(session, left.number, right.number, meanings[said])
        self._choices = preferences.read(session)
        return meanings[said]


def run(settings: JudgeSettings, console: Console) -> None:
    """Asks about all complete groups of a session.

    Raises:
        SettingsError: The folder is no session, or has no complete group.
    """
    require_session(settings.session)
    groups = complete_groups(Reader().read_new(settings.session), settings.group_size)
    if not groups:
        raise SettingsError(
            f"{settings.session} has no complete group of {settings.group_size} episodes from one start. Play some "
            f"with a plan of purpose: collect and group: {settings.group_size}."
        )
    console.print(ANSWERS)
    interview = Interview(settings, console)
    try:
        for group in groups:
            interview.rank(group)
    except (_StopError, EOFError):
        console.print("stopped; what was answered is kept")
        return
    console.print(f"Learn from it: tgrpo learn {settings.session} --method preferences", markup=False)


def main(argv: Sequence[str]) -> int:
    """``tgrpo judge``."""
    settings = validated(tyro.cli(JudgeSettings, prog="tgrpo judge", args=list(argv)))
    run(settings, Console(highlight=False, soft_wrap=True))
    return 0
