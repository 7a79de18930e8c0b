"""One process for each device on this machine: a second one is refused, and a killed one leaves nothing behind.

The ROS graph cannot tell: after ``kill -9`` a node is listed for many seconds.
"""

from __future__ import annotations

import fcntl
import os
import re
from types import TracebackType

from tgrpo import private_folder
from tgrpo.errors import RobotFault


class HostLock:
    """Held until :meth:`close` or the end of the process, whichever way it ends."""

    def __init__(self, device: str) -> None:
        """Takes the lock.

        Args:
            device: What must not be used twice, for example an arm's address.

        Raises:
            RobotFault: Another process has it.
        """
        folder = private_folder.ensure(private_folder.path())
        self._file = (folder / f"{re.sub(r'[^A-Za-z0-9]+', '-', device)}.lock").open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            holder = self._file.read().strip() or "unknown"
            self._file.close()
            raise RobotFault(f"{device} is already used by process {holder} of this machine; stop that one.") from None
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()

    def close(self) -> None:
        """Gives the lock back. May be called more than once."""
        self._file.close()

    def __enter__(self) -> HostLock:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
