"""Which of two episodes a person prefers, and the ranks of a group that come of it.

Source: ArenaRL (arXiv 2601.06487), seeded single elimination, with a person in the place of its language model. For
tasks in which every episode succeeds or none does, and some are better all the same.

The answers lie in the session as ``preferences.csv``, a line for each question: ``first,second,better``, numbers of
episodes. ``better`` is one of the two or ``neither``: whoever judges a pair has to choose, as a place in a ranking
cannot be shared; a group with a pair that is ``neither`` teaches nothing. Of two answers to one question the later
counts.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np

from tgrpo.algo import ranks
from tgrpo.errors import RecordingError, SettingsError
from tgrpo.types import FloatArray, RolloutGroup

FILE = "preferences.csv"
HEADER = ("first", "second", "better")
NEITHER = "neither"
Choices: TypeAlias = Mapping[tuple[int, int], int | None]
"""Pair of episodes, the lower number first, to the better one; None for neither."""
Ask: TypeAlias = Callable[[int, int], int | None]
"""Which of two episodes is better; None for neither."""


class UnjudgedError(SettingsError):
    """A pair was not judged yet."""


def read(session: Path) -> dict[tuple[int, int], int | None]:
    """The answers that were given in a session, none if nobody was asked.

    Raises:
        RecordingError: A line cannot be read, or names neither of its two episodes as the better.
    """
    path = session / FILE
    if not path.exists():
        return {}
    found: dict[tuple[int, int], int | None] = {}
    lines = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    for number, line in enumerate(lines[1:], start=2):
        try:
            first, second = sorted(int(word) for word in line[:2])
            better = None if line[2] == NEITHER else int(line[2])
        except (ValueError, IndexError):
            raise RecordingError(f"{path}:{number}: {','.join(line)!r} is not {','.join(HEADER)}.") from None
        if first == second or better not in (first, second, None):
            raise RecordingError(f"{path}:{number}: better is {line[2]}; choose one of two episodes, or {NEITHER!r}.")
        found[first, second] = better
    return found


def add(session: Path, first: int, second: int, better: int | None) -> None:
    """Writes one answer down."""
    path = session / FILE
    fresh = not path.exists()
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if fresh:
            writer.writerow(HEADER)
        writer.writerow((first, second, NEITHER if better is None else better))


def known(choices: Choices) -> Ask:
    """Answers what a person has answered before.

    Raises:
        UnjudgedError: From the function that is returned: that pair was not judged.
    """

    def ask(first: int, second: int) -> int | None:
        pair = min(first, second), max(first, second)
        if pair not in choices:
            raise UnjudgedError(f"episodes {first} and {second} were not compared yet. Run: tgrpo judge SESSION")
        return choices[pair]

    return ask


def places(numbers: Sequence[int], ask: Ask) -> FloatArray | None:
    """Ranks a group by a tournament.

    Args:
        numbers: Its ``N`` episodes.
        ask: Compares two of them.

    Returns:
        Place of each episode ``(N,)``, 0 the best; None if a pair is judged neither way.
    """

    def judge(first: int, second: int) -> tuple[float, float]:
        better = ask(numbers[first], numbers[second])
        if better is None:
            raise _UndecidedError
        return float(better == numbers[first]), float(better == numbers[second])

    try:
        return ranks.tournament(judge, len(numbers))
    except _UndecidedError:
        return None


def is_judged(numbers: Sequence[int], choices: Choices) -> bool:
    """Whether all questions that a group's tournament asks were answered."""
    try:
        places(numbers, known(choices))
    except UnjudgedError:
        return False
    return True


def paid(group: RolloutGroup, found: FloatArray) -> RolloutGroup:
    """The group with its ranks as the only reward, paid at the end; faults still cost what they cost.

    Args:
        group: ``N`` rollouts.
        found: Place of each ``(N,)``.
    """
    trajectories = []
    for rollout, value in zip(group.trajectories, ranks.rewards_of_places(found), strict=True):
        rank = np.zeros(rollout.steps)
        rank[-1] = value
        violation = rollout.terms["violation"]
        terms = {"rank": rank, "violation": violation}
        trajectories.append(replace(rollout, rewards=rank + violation, terms=terms))
    return replace(group, trajectories=trajectories)


class _UndecidedError(Exception):
    """Ends a tournament."""
