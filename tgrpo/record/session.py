"""The folder of a session: numbered episodes, a journal of what was begun, and one process that writes.

Layout::

    session.json           what the session is about
    provenance.json        code, packages, machine
    index.jsonl            one line for each episode begun, closed or recovered
    episodes/000000/       a closed, sealed episode: episode.mcap, episode.json, manifest.json
    episodes/000001.open/  the episode that is being recorded
"""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from tgrpo.errors import CheckpointError, RecordingError, SettingsError
from tgrpo.record import files, provenance
from tgrpo.record.episode import OPEN, EpisodeInfo, EpisodeResult, folder_name, write_header
from tgrpo.record.recorder import EpisodeRecorder, RecorderSettings
from tgrpo.record.recover import EPISODES, SESSION, append_index, begun, recover_session
from tgrpo.settings import Strict, from_builtins, to_builtins

SCHEMA = "tgrpo/session/1"


class SessionInfo(Strict, frozen=True):
    """What a session is about."""

    name: str = ""
    """Title of the report."""
    baseline: str = ""
    """Policy that the others are compared with; the first that was run by default."""
    stop_at: float = 20.0
    """E-value at which a difference is claimed and the evaluation may stop: 20 is a level of 5 %."""
    plan: dict[str, Any] = msgspec.field(default_factory=dict)
    """The evaluation's plan, as it was read; the record does not depend on it."""
    schema: str = SCHEMA


class SessionFolder:
    """One session on disk. The process that records holds a lock until :meth:`close`."""

    def __init__(self, path: Path, settings: RecorderSettings | None = None) -> None:
        """Refers to a folder without touching it; use :meth:`create` or :meth:`resume` to record.

        Args:
            path: The session folder.
            settings: How episodes are recorded.
        """
        self.path = path
        self.recovered: list[tuple[int, EpisodeResult]] = []
        """Episodes that had been left open and were closed by :meth:`resume`."""
        self._settings = settings or RecorderSettings()
        self._lock: int | None = None
        self._recorder: EpisodeRecorder | None = None

    @classmethod
    def create(cls, path: Path, info: SessionInfo, settings: RecorderSettings | None = None) -> SessionFolder:
        """Starts a session.

        Raises:
            SettingsError: The folder exists and is not empty.
            CheckpointError: The disk is full.
        """
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise SettingsError(f"{path} exists and is not empty. Choose another folder, or resume that session.")
        session = cls(path, settings)
        with files.disk_guard(path):
            (path / EPISODES).mkdir(parents=True)
            session._acquire()
        provenance.save(path, provenance.collect())
        files.write_json(path / SESSION, to_builtins(info))
        return session

    @classmethod
    def resume(cls, path: Path, settings: RecorderSettings | None = None) -> SessionFolder:
        """Continues a session and closes what a killed recorder left open, see :attr:`recovered`.

        Raises:
            RecordingError: There is no such session.
            SettingsError: Another process is recording into it.
        """
        if not (path / SESSION).is_file():
            raise RecordingError(f"{path}: there is no session to resume here (no {SESSION}).")
        session = cls(path, settings)
        session._acquire()
        session.recovered = recover_session(path)
        return session

    def begin(self, info: EpisodeInfo) -> EpisodeRecorder:
        """Begins the next episode.

        Raises:
            SettingsError: The episode before it is not closed.
            RecordingError: Less space is free than the reserve and an episode need.
        """
        if self._recorder is not None and not self._recorder.closed:
            raise SettingsError(f"episode {self._recorder.number} is still open; close it first.")
        number = self.next_number()
        place = self.path / EPISODES / folder_name(number)
        folder = place.with_name(place.name + OPEN)
        try:
            files.require_space(place, 2 * self._settings.reserve_mb * 1_000_000)
            staging = place.with_name(f".tmp-{place.name}")
            staging.mkdir()
            write_header(staging, number, info)
            staging.rename(folder)
            files.sync(folder.parent)
            # After the folder: a kill in between must not leave a number without an episode.
            append_index(self.path, "begun", number)
            self._recorder = EpisodeRecorder(folder, place, info, self._settings, self._closed)
        except CheckpointError as error:
            raise RecordingError(str(error)) from error
        return self._recorder

    def next_number(self) -> int:
        """Number of the next episode: one more than the highest that was ever begun."""
        folders = [folder.name.removesuffix(OPEN) for folder in (self.path / EPISODES).iterdir()]
        return max([-1, *begun(self.path), *(int(name) for name in folders if name.isdigit())]) + 1

    def episodes(self) -> list[Path]:
        """Folders of all closed episodes, in order."""
        return closed_episodes(self.path)

    def info(self) -> SessionInfo:
        """What the session is about."""
        return read_info(self.path)

    def close(self) -> None:
        """Closes an open episode as interrupted and releases the lock.

        Raises:
            RecordingError: The disk is full; ``tgrpo recover`` closes the episode later.
        """
        try:
            if self._recorder is not None:
                self._recorder.end("the session was closed")
        finally:
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

    def __enter__(self) -> SessionFolder:
        """Enters a ``with`` block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the session."""
        self.close()

    def _closed(self, place: Path, result: EpisodeResult) -> None:
        append_index(self.path, "closed", int(place.name), result.outcome)

    def _acquire(self) -> None:
        self._lock = files.lock_folder(self.path)
        if self._lock is None:
            raise SettingsError(f"{self.path}: another process is recording into this session. Stop it first.")


def closed_episodes(path: Path) -> list[Path]:
    """Folders of all closed episodes of a session, in order."""
    return sorted(folder for folder in (path / EPISODES).glob("*") if folder.name.isdigit())


def read_info(path: Path) -> SessionInfo:
    """What a session is about.

    Raises:
        SettingsError: The folder is no session.
    """
    try:
        data = msgspec.json.decode((path / SESSION).read_bytes())
    except (OSError, msgspec.DecodeError) as error:
        raise SettingsError(f"{path} is not a session: {SESSION} is missing or damaged ({error}).") from error
    return from_builtins(data, SessionInfo, source=str(path / SESSION))


def require_session(path: Path) -> None:
    """Refuses a folder that is no session.

    Raises:
        SettingsError: It is none.
    """
    if not is_session(path):
        raise SettingsError(f"{path} is no session; it has no session.json and episodes.")


def is_session(path: Path) -> bool:
    """Whether a folder is a session."""
    return (path / SESSION).is_file() and (path / EPISODES).is_dir()
