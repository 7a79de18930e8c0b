"""The folder of one run: what is in it, who may write to it, and which checkpoints stay."""

from __future__ import annotations

import io
import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeAlias

import msgspec
import numpy as np
import yaml
from PIL import Image as Pillow

from tgrpo.errors import CheckpointError, SettingsError
from tgrpo.record import files
from tgrpo.types import Image

State: TypeAlias = Literal["starting", "evaluating", "training", "paused", "stopping", "finished", "failed"]

_log = logging.getLogger(__name__)


class RunFolder:
    """One run on disk. The process that writes to it holds a lock until :meth:`close`.

    Example:
        >>> with RunFolder.create(Path("runs/first")) as run:  # doctest: +SKIP
        ...     run.write_settings(settings)
        ...     run.save_checkpoint(10, policy.save)
    """

    def __init__(self, path: Path) -> None:
        """Refers to a folder without touching it; use :meth:`create` or :meth:`resume` to write to it.

        Args:
            path: The run folder.
        """
        self.path = path
        self._lock: int | None = None

    @classmethod
    def create(cls, path: Path) -> RunFolder:
        """Starts a new run.

        Raises:
            SettingsError: The folder exists and is not empty.
            CheckpointError: The disk is full.
        """
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise SettingsError(
                f"{path} exists and is not empty. Choose another run folder, or continue that run with --resume."
            )
        with files.disk_guard(path):
            path.mkdir(parents=True, exist_ok=True)
        run = cls(path)
        run._acquire()
        return run

    @classmethod
    def resume(cls, path: Path) -> RunFolder:
        """Continues a run and removes what a killed writer left half done.

        Raises:
            CheckpointError: There is no such run.
            SettingsError: Another process is writing to it.
        """
        if not (path / "settings.yaml").is_file():
            raise CheckpointError(f"{path}: there is no run to resume here (no settings.yaml).")
        run = cls(path)
        run._acquire()
        for parent in (path, path / "checkpoints", path / "live", path / "videos"):
            files.remove_leftovers(parent)
        return run

    def close(self) -> None:
        """Releases the lock."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> RunFolder:
        """Returns itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Releases the lock."""
        self.close()

    def write_settings(self, settings: msgspec.Struct) -> None:
        """Writes the resolved settings to ``settings.yaml``."""
        text = yaml.safe_dump(msgspec.to_builtins(settings), sort_keys=False, allow_unicode=True)
        files.write_text(self.path / "settings.yaml", text)

    def read_settings(self) -> dict[str, Any]:
        """The plain content of ``settings.yaml``; empty if there is none."""
        file = self.path / "settings.yaml"
        return dict(yaml.safe_load(file.read_text(encoding="utf-8")) or {}) if file.exists() else {}

    def write_json(self, name: str, data: Any) -> None:
        """Replaces a JSON file of the run, for example ``summary.json``."""
        files.write_json(self.path / name, data)

    def read_json(self, name: str) -> dict[str, Any] | None:
        """Reads a JSON file of the run; None if there is none yet.

        Raises:
            CheckpointError: The file is not valid JSON.
        """
        file = self.path / name
        if not file.exists():
            return None
        try:
            return dict(json.loads(file.read_text(encoding="utf-8")))
        except ValueError as error:
            raise CheckpointError(f"{file}: not valid JSON: {error}.") from error

    def write_status(self, state: State, iteration: int, iterations: int, message: str = "") -> None:
        """Replaces ``status.json``, which other processes read while the run goes on.

        Args:
            state: What the run is doing.
            iteration: Iterations that are done.
            iterations: Iterations that were asked for.
            message: One line for a person.
        """
        status = {"state": state, "iteration": iteration, "iterations": iterations, "message": message}
        files.write_bytes(self.path / "status.json", json.dumps(status).encode(), durable=False)

    def write_frame(self, image: Image) -> None:
        """Replaces ``live/frame.jpg``, the latest picture of a rollout.

        Args:
            image: Upright RGB ``(H, W, 3)``.
        """
        buffer = io.BytesIO()
        Pillow.fromarray(np.ascontiguousarray(image)).save(buffer, format="JPEG", quality=85)
        files.write_bytes(self.path / "live" / "frame.jpg", buffer.getvalue(), durable=False)

    def checkpoint(self, iteration: int) -> Path:
        """Where the checkpoint of an iteration lies."""
        return self.path / "checkpoints" / f"{iteration:06d}"

    def checkpoints(self) -> list[int]:
        """Iterations that have a checkpoint, oldest first; whether it is intact is not checked."""
        return sorted(int(file.name) for file in (self.path / "checkpoints").glob("[0-9]*") if file.name.isdigit())

    def save_checkpoint(self, iteration: int, writer: Callable[[Path], None]) -> Path:
        """Writes a checkpoint and, once it is complete on disk, points ``latest`` at it.

        Args:
            iteration: Iterations that are done.
            writer: Called once with an empty folder that it fills.

        Raises:
            CheckpointError: The disk is full; earlier checkpoints and ``latest`` are untouched.
        """
        path = self.checkpoint(iteration)
        files.write_folder(path, writer)
        files.write_text(path.parent / "latest", path.name + "\n")
        return path

    def latest_checkpoint(self) -> Path:
        """The checkpoint to resume from: the newest whose bytes are intact. Skipped ones are logged with the reason.

        Raises:
            CheckpointError: There is none.
        """
        for iteration in reversed(self.checkpoints()):
            path = self.checkpoint(iteration)
            try:
                files.verify_folder(path)
            except CheckpointError as error:
                _log.warning("skipping a damaged checkpoint: %s", error)
                continue
            return path
        raise CheckpointError(
            f"{self.path}: no intact checkpoint under checkpoints/. Start a new run in another folder."
        )

    def prune(self, keep_last: int = 2, best: int | None = None) -> None:
        """Deletes old checkpoints.

        Args:
            keep_last: How many of the newest stay, at least 1.
            best: Iteration of one more that stays.

        Raises:
            SettingsError: ``keep_last`` is below 1.
        """
        if keep_last < 1:
            raise SettingsError(f"keep_last {keep_last}: at least 1 checkpoint must stay.")
        for iteration in self.checkpoints()[:-keep_last]:
            if iteration != best:
                shutil.rmtree(self.checkpoint(iteration))

    def _acquire(self) -> None:
        self._lock = files.lock_folder(self.path)
        if self._lock is None:
            raise SettingsError(f"{self.path}: another process is writing to this run. Stop it first.")
