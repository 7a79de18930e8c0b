"""``tgrpo recover``: closes what a killed recorder left open, up to its last flush, and checks a session."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
import tyro
from rich.console import Console

from tgrpo.errors import CheckpointError, RecordingError, SettingsError
from tgrpo.record import files, mcap_file, streams
from tgrpo.record.episode import MCAP, OPEN, EpisodeInfo, EpisodeResult, folder_name, load, read_header, write_header
from tgrpo.record.mcap_file import McapWriter

EPISODES, INDEX = "episodes", "index.jsonl"
"""Folder of a session's episodes, and the journal beside it: one line for each episode that was begun or closed."""
SESSION = "session.json"


@dataclass(frozen=True)
class Arguments:
    """Closes the episodes that a killed recorder left open, and checks every byte and count of a session."""

    session: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SESSION")]
    """The session folder."""
    check: bool = False
    """Only check; change nothing."""


def close_open(folder: Path, target: Path) -> EpisodeResult:
    """Closes an episode whose recorder is gone.

    Everything up to the last flush is kept. An episode that was not labelled yet is marked ``interrupted``. Safe to
    repeat at any point.

    Args:
        folder: Folder of the open episode.
        target: Its place once it is closed.

    Returns:
        The result that the closed episode has.

    Raises:
        CheckpointError: The disk is full; nothing has changed.
    """
    if not _intact(target) and not (_intact(folder) and _labelled(folder)):
        files.write_folder(target, lambda place: _salvage(folder, place, int(target.name)))
    elif not target.exists():
        files.seal_folder(folder, target)
    if folder.exists():
        shutil.rmtree(folder)
    result = read_header(target)[2]
    if result is None:
        raise RecordingError(f"{target}: it is sealed without a result. Move the folder out of the session.")
    return result


def recover_session(path: Path) -> list[tuple[int, EpisodeResult]]:
    """Closes all open episodes of a session that nobody is recording.

    Args:
        path: The session folder.

    Returns:
        Number and result of each episode that was open.

    Raises:
        CheckpointError: The disk is full.
    """
    parent = path / EPISODES
    files.remove_leftovers(parent)
    found = []
    for folder in sorted(parent.glob(f"*{OPEN}")):
        number = int(folder.name.removesuffix(OPEN))
        result = close_open(folder, parent / folder_name(number))
        append_index(path, "recovered", number, result.outcome)
        found.append((number, result))
    return found


def append_index(path: Path, what: str, number: int, outcome: str = "") -> None:
    """Adds a line to the session's journal."""
    line = {"episode": number, "event": what, "outcome": outcome, "wall": streams.now().wall}
    files.append_line(path / INDEX, msgspec.json.encode(line).decode())


def begun(path: Path) -> list[int]:
    """Numbers of the episodes that were begun, from the journal; a torn last line is left out."""
    file = path / INDEX
    numbers = []
    for line in file.read_bytes().splitlines() if file.exists() else []:
        try:
            entry = msgspec.json.decode(line)
        except msgspec.DecodeError:
            continue
        if entry["event"] == "begun":
            numbers.append(int(entry["episode"]))
    return numbers


def problems(path: Path) -> list[str]:
    """Everything that is wrong with a session's files: bytes, counts, gaps. Empty if all is well."""
    parent = path / EPISODES
    names = sorted(folder.name for folder in parent.iterdir() if folder.is_dir())
    found = [f"episode {name.removesuffix(OPEN)} is still open" for name in names if name.endswith(OPEN)]
    closed = [name for name in names if name.isdigit()]
    wanted = [folder_name(number) for number in range(max([-1, *begun(path), *map(int, closed)]) + 1)]
    found += [f"episode {name} was begun and is not there" for name in wanted if not (set(names) & {name, name + OPEN})]
    for name in closed:
        try:
            episode = load(parent / name, cameras=())
        except RecordingError as error:
            found.append(str(error))
            continue
        if episode.number != int(name):
            found.append(f"{parent / name} says that it is episode {episode.number}")
    return found


def main(argv: list[str]) -> int:
    """Runs ``tgrpo recover``.

    Args:
        argv: Arguments after ``recover``.

    Returns:
        0 if every begun episode is closed, complete and undamaged, 1 otherwise.

    Raises:
        SettingsError: The folder is no session, or another process is recording into it.
    """
    arguments = tyro.cli(Arguments, args=argv, prog="tgrpo recover")
    console = Console(highlight=False, soft_wrap=True)
    if not (arguments.session / SESSION).is_file():
        raise SettingsError(f"{arguments.session} is not a session: it has no {SESSION}. Give the session's folder.")
    if not arguments.check:
        lock = files.lock_folder(arguments.session)
        if lock is None:
            raise SettingsError(f"{arguments.session}: a program is recording into it. Stop it first, or use --check.")
        for number, result in recover_session(arguments.session):
            count = sum(result.messages.values())
            console.print(f"episode {number}: {result.outcome}, {count} messages kept. {result.reason}", markup=False)
        os.close(lock)
    found = problems(arguments.session)
    for problem in found:
        console.print(f"problem: {problem}", markup=False, style="red")
    count = len(begun(arguments.session))
    console.print(f"{count} episodes begun, {'all closed and intact' if not found else f'{len(found)} problems'}.")
    return 1 if found else 0


def _intact(folder: Path) -> bool:
    try:
        files.verify_folder(folder)
    except CheckpointError:
        return False
    return True


def _labelled(folder: Path) -> bool:
    return read_header(folder)[2] is not None


def _salvage(folder: Path, place: Path, number: int) -> None:
    """Copies all intact messages of a torn recording into a whole one, and its label if it had one."""
    try:
        _, info, result = read_header(folder)
    except RecordingError:
        info, result = EpisodeInfo(), None
    counts: Counter[str] = Counter()
    writer = McapWriter(place / MCAP)
    first = last = None
    why = ""
    try:
        for raw in mcap_file.read(folder / MCAP):
            writer.write(raw)
            counts[raw.topic] += 1
            first, last = raw.time if first is None else min(first, raw.time), max(last or 0, raw.time)
    except RecordingError as error:
        why = f"the recorder was stopped by force, so this is what it had flushed ({error})"
    writer.finish()
    result = result or EpisodeResult(outcome="interrupted", labelled_by="recorder", reason="the recorder was killed")
    duration = 0.0 if first is None or last is None else streams.seconds(last - first)
    result = msgspec.structs.replace(
        result, messages=dict(counts), duration=duration, incomplete=result.incomplete or why
    )
    write_header(place, number, info, result)
