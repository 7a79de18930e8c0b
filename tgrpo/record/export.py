"""``tgrpo export``: recorded episodes in the formats that others read."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Annotated, Literal

import tyro
from rich.console import Console

from tgrpo.errors import MissingDependencyError, SettingsError, UnknownNameError
from tgrpo.record.episode import Episode, load
from tgrpo.record.session import closed_episodes, is_session

FORMATS = ("hdf5", "lerobot")
_EXTRAS = {"h5py": "sim", "pyarrow": "lerobot-export", "av": "record"}
_OUTCOMES = ("success", "failure", "aborted", "infrastructure", "interrupted")


@dataclass(frozen=True)
class Arguments:
    """Writes recorded episodes as LIBERO demonstrations (hdf5) or as a LeRobotDataset v3 (lerobot)."""

    format: Annotated[Literal["hdf5", "lerobot"], tyro.conf.Positional, tyro.conf.arg(metavar="{hdf5,lerobot}")]
    """What to write."""
    source: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="SESSION|EPISODE")]
    """Session or episode folders."""
    out: Annotated[Path, tyro.conf.arg(metavar="FOLDER")]
    """Folder to write to."""
    outcomes: tuple[Literal["success", "failure", "aborted", "infrastructure", "interrupted"], ...] = ("success",)
    """Episodes that are exported."""
    part: Literal["all", "human"] = "all"
    """hdf5 only: human exports the stretches in which a human was in control, of episodes with any outcome."""


def folders(sources: Sequence[Path]) -> list[Path]:
    """Episode folders that are meant by session and episode folders.

    Raises:
        SettingsError: A folder is neither.
    """
    found: list[Path] = []
    for source in sources:
        if is_session(source):
            found += closed_episodes(source)
        elif (source / "episode.json").is_file():
            found.append(source)
        else:
            raise SettingsError(f"{source} is neither a session (session.json) nor an episode (episode.json).")
    return found


def chosen(sources: Sequence[Path], outcomes: Sequence[str]) -> Iterator[Episode]:
    """Episodes with one of the outcomes, read and checked one after the other.

    Raises:
        RecordingError: An episode is damaged or not closed.
    """
    for folder in folders(sources):
        episode = load(folder)
        if episode.result.outcome in outcomes:
            yield episode


def main(argv: list[str]) -> int:
    """Runs ``tgrpo export``.

    Args:
        argv: Arguments after ``export``.

    Returns:
        0.

    Raises:
        SettingsError: There is nothing to export, or the target exists.
        RecordingError: An episode is damaged or not closed.
        MissingDependencyError: The package that writes the format is not installed.
    """
    if argv and argv[0] not in (*FORMATS, "-h", "--help"):
        raise UnknownNameError("export format", argv[0], FORMATS)
    arguments = tyro.cli(Arguments, args=argv, prog="tgrpo export")
    module = _writer(f"tgrpo.record.export_{arguments.format}")
    console = Console(highlight=False, soft_wrap=True)
    # Corrections are worth learning from whatever the episode came to.
    outcomes = _OUTCOMES if arguments.part == "human" else arguments.outcomes
    episodes = chosen(arguments.source, outcomes)
    if arguments.format == "hdf5":
        for name, count in module.export(episodes, arguments.out, arguments.part).items():
            console.print(f"{arguments.out / name}: {count} demonstrations", markup=False)
        return 0
    if arguments.part == "human":
        raise SettingsError("--part human is for hdf5; a LeRobot dataset has the column 'intervention' instead.")
    frames = module.export(episodes, arguments.out)
    console.print(f"{arguments.out}: {frames} frames", markup=False)
    return 0


def _writer(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get(str(error.name), "record")
        raise MissingDependencyError(
            f"this format needs the package {error.name!r}, which is not installed: pip install '.[{extra}]'"
        ) from error
