"""Reads what a training run writes to its folder, piece by piece, while it is being written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class MetricsTail:
    """Follows ``metrics.jsonl``."""

    def __init__(self, path: Path) -> None:
        """Follows a file that need not exist yet.

        Args:
            path: The metrics file.
        """
        self._path = path
        self._offset = 0

    def read(self) -> list[str]:
        """The complete lines written since the last call, without line ends.

        A line is handed out only once its end has been written. A file that became shorter (a resumed run drops
        iterations after its checkpoint) is read again from the start.
        """
        try:
            with self._path.open("rb") as file:
                if file.seek(0, 2) < self._offset:
                    self._offset = 0
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        complete = data.rfind(b"\n") + 1
        self._offset += complete
        return [line for line in data[:complete].decode("utf-8").splitlines() if line.strip()]


class FrameWatch:
    """Notices a new ``live/frame.jpg``, at most as often as asked."""

    def __init__(self, path: Path, period: float) -> None:
        """Watches a file that need not exist yet.

        Args:
            path: The picture, replaced atomically by its writer.
            period: Least time between two pictures [s].
        """
        self._path = path
        self._period = period
        self._seen = 0
        self._next = float("-inf")

    def read(self, now: float) -> bytes | None:
        """The picture's bytes if it is new and due.

        Args:
            now: Time on any steadily increasing clock [s].
        """
        if now < self._next:
            return None
        try:
            changed = self._path.stat().st_mtime_ns
            if changed == self._seen:
                return None
            data = self._path.read_bytes()
        except FileNotFoundError:
            return None
        self._seen, self._next = changed, now + self._period
        return data


def read_status(path: Path) -> dict[str, Any]:
    """The content of ``status.json``; ``{"state": "starting"}`` before there is one."""
    try:
        status = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {"state": "starting"}
    return status if isinstance(status, dict) else {"state": "starting"}
