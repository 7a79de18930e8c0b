"""Metrics of a training: one JSON object an iteration in ``metrics.jsonl``, and the same curves for TensorBoard."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Mapping
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore[import-untyped]
from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]
from tensorboard.summary.writer.record_writer import RecordWriter  # type: ignore[import-untyped]

from tgrpo.record.files import disk_guard, write_bytes

FILE = "metrics.jsonl"
_log = logging.getLogger(__name__)


class MetricsWriter:
    """Appends one row an iteration; a kill loses at most the row that was being written.

    Example:
        >>> with MetricsWriter(run.path) as metrics:  # doctest: +SKIP
        ...     metrics.write({"iteration": 1, "loss": 0.5, "terms": {"reach": 0.1}})
    """

    def __init__(self, folder: Path, *, resume_after: int | None = None) -> None:
        """Opens the files.

        Args:
            folder: The run folder.
            resume_after: Iteration that training resumes after; rows beyond it are dropped. None starts afresh.

        Raises:
            CheckpointError: The disk is full.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / FILE
        _keep(self._path, -1 if resume_after is None else resume_after)
        self._lines = self._path.open("ab", buffering=0)
        self._events = _Events(folder, resume_after)

    def write(self, row: Mapping[str, Any]) -> None:
        """Appends one row and hands it to the operating system.

        Args:
            row: Must have ``iteration``; numbers, lists of numbers and mappings become TensorBoard curves. A value that
                is not finite is stored as null.

        Raises:
            CheckpointError: The disk is full.
        """
        row = _finite(row)
        with disk_guard(self._path):
            _append(self._lines, json.dumps(row, allow_nan=False).encode() + b"\n")
        self._events.write(int(row["iteration"]), row)

    def close(self) -> None:
        """Closes both files."""
        self._lines.close()
        self._events.close()

    def __enter__(self) -> MetricsWriter:
        """Returns itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes both files."""
        self.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The complete rows of ``metrics.jsonl``; a line that a kill cut off is left out.

    Args:
        path: The file, or the run folder that has it. A missing one gives no rows.
    """
    file = path / FILE if path.is_dir() else path
    if not file.exists():
        return []
    return [row for line in file.read_bytes().splitlines() if (row := _parse(line)) is not None]


def flatten(row: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Numbers of a nested row by their path, for example ``terms/reach`` or ``stages/2``."""
    flat: dict[str, float] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}/")
        elif isinstance(value, (list, tuple)):
            flat |= flatten({str(index): item for index, item in enumerate(value)}, f"{prefix}{name}/")
        elif isinstance(value, (int, float)):
            flat[prefix + name] = float(value)
    return flat


class _Events:
    """TensorBoard's file format, written at once: its own writer does so in a thread that dies silently."""

    def __init__(self, folder: Path, resume_after: int | None) -> None:
        stamp = time.time()
        file = folder / f"events.out.tfevents.{stamp:.6f}.tgrpo"
        self._writer: RecordWriter | None = RecordWriter(file.open("ab"))
        self._append(Event(wall_time=stamp, file_version="brain.Event:2"))
        # TensorBoard drops what an earlier process wrote at this step and later.
        first = 0 if resume_after is None else resume_after + 1
        self._append(Event(wall_time=stamp, step=first, session_log=SessionLog(status=SessionLog.START)))

    def write(self, step: int, row: Mapping[str, Any]) -> None:
        values = [Summary.Value(tag=tag, simple_value=number) for tag, number in flatten(row).items()]
        self._append(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def _append(self, event: Event) -> None:
        if self._writer is None:
            return
        try:
            self._writer.write(event.SerializeToString())
            self._writer.flush()
        except OSError as error:
            _log.warning("TensorBoard events are no longer written: %s. metrics.jsonl has all of them.", error)
            self._writer = None


def _append(stream: FileIO, line: bytes) -> None:
    """Appends a whole line or nothing."""
    start = stream.seek(0, os.SEEK_END)
    try:
        written = stream.write(line)
        while written < len(line):
            written += stream.write(line[written:])
    except OSError:
        stream.truncate(start)
        raise


def _keep(path: Path, last: int) -> None:
    """Drops the rows after an iteration and a line that was cut off."""
    if path.exists():
        rows = [row for row in read_metrics(path) if row["iteration"] <= last]
        write_bytes(path, b"".join(json.dumps(row).encode() + b"\n" for row in rows))


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and "iteration" in row else None


def _finite(value: Any) -> Any:
    """JSON has no NaN or infinity; numpy's numbers become Python's."""
    if isinstance(value, Mapping):
        return {str(name): _finite(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if hasattr(value, "tolist"):
        return _finite(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
