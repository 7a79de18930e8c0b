"""The versions of a session's policy: numbered checkpoint folders, and a pointer to the one that should be served.

Layout, inside a session::

    policies/0000/        where the session started
    policies/0001/        what was learned since, sealed, with lesson.json beside the weights
    policies/current.json which of them is to be served, and what was served before
    policies/studied.json the last episode that the learner has considered
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec

from tgrpo.errors import CheckpointError, SettingsError
from tgrpo.record import files
from tgrpo.settings import Strict, from_builtins, to_builtins

FOLDER, CURRENT, LESSON, STUDIED = "policies", "current.json", "lesson.json", "studied.json"
Number = Annotated[int, msgspec.Meta(ge=0)]


class Current(Strict, frozen=True):
    """Content of ``current.json``."""

    version: Number
    history: tuple[Number, ...] = ()
    """Versions that were current before, the oldest first."""


def start(session: Path, write: Callable[[Path], None]) -> Path:
    """Stores the policy that a session starts with as version 0, once; returns its folder."""
    folder = session / FOLDER / name(0)
    if not folder.exists():
        folder.parent.mkdir(exist_ok=True)
        files.write_folder(folder, write)
        _point(session, Current(version=0))
    return folder


def add(session: Path, write: Callable[[Path], None], about: Mapping[str, Any]) -> int:
    """Stores a new version and makes it current.

    Args:
        session: The session folder.
        write: Writes the checkpoint into a folder.
        about: What it learned from, and what the gate said.

    Returns:
        Its number.
    """
    number = max(known(session), default=-1) + 1

    def fill(folder: Path) -> None:
        write(folder)
        (folder / LESSON).write_text(json.dumps(dict(about), indent=1), encoding="utf-8")

    files.write_folder(session / FOLDER / name(number), fill)
    choose(session, number)
    return number


def note_studied(session: Path, episode: int) -> None:
    """Notes that the learner has considered all episodes up to this number."""
    files.write_json(session / FOLDER / STUDIED, {"episode": episode})


def studied(session: Path) -> int:
    """Number of the last episode that the learner has considered; -1 before the first."""
    try:
        return int(json.loads((session / FOLDER / STUDIED).read_text(encoding="utf-8"))["episode"])
    except (OSError, ValueError, KeyError, TypeError):
        return -1


def known(session: Path) -> list[int]:
    """Numbers of all versions, ascending."""
    return sorted(int(folder.name) for folder in (session / FOLDER).glob("*") if folder.name.isdigit())


def current(session: Path) -> Current:
    """Which version is to be served.

    Raises:
        SettingsError: The session has no versions.
        CheckpointError: The pointer is damaged.
    """
    path = session / FOLDER / CURRENT
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingsError(f"{session} has no versions of a policy; start with 'tgrpo learn {session}'.") from error
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: {error}. Choose a version with 'tgrpo learn --use N'.") from error
    return from_builtins(data, Current, source=str(path))


def folder_of(session: Path, number: int) -> Path:
    """Checkpoint folder of a version."""
    return session / FOLDER / name(number)


def choose(session: Path, number: int) -> int:
    """Makes a version current; returns its number.

    Raises:
        SettingsError: There is no such version.
        CheckpointError: It is damaged.
    """
    if number not in known(session):
        raise SettingsError(f"{session} has no version {number}; known: {', '.join(map(str, known(session)))}.")
    files.verify_folder(folder_of(session, number))
    try:
        before = current(session)
        history = before.history if before.version == number else (*before.history, before.version)
    except (SettingsError, CheckpointError):
        history = ()
    _point(session, Current(version=number, history=history))
    return number


def roll_back(session: Path) -> int:
    """Makes the version that was current before current again; returns its number.

    Raises:
        SettingsError: There was none before.
    """
    now = current(session)
    if not now.history:
        raise SettingsError(f"{session}: version {now.version} is the first one; there is nothing to go back to.")
    number = now.history[-1]
    files.verify_folder(folder_of(session, number))
    _point(session, Current(version=number, history=now.history[:-1]))
    return number


def name(number: int) -> str:
    """Folder name of a version."""
    return f"{number:04d}"


def _point(session: Path, to: Current) -> None:
    files.write_json(session / FOLDER / CURRENT, to_builtins(to))
