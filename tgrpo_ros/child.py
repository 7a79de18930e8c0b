"""The training loop as a child process: started, forwarded, controlled and stopped exactly once."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from tgrpo.errors import MissingDependencyError

COLUMNS = "110"
"""Width of the child's tables: launch prefixes each line and the terminal is unknown there."""


def find_command() -> str:
    """Path of the ``tgrpo`` command, which may belong to another Python than this node.

    Looks at ``$TGRPO_COMMAND``, then beside the running Python, then in ``PATH``.

    Raises:
        MissingDependencyError: It is nowhere.
    """
    candidates = (os.environ.get("TGRPO_COMMAND"), str(Path(sys.executable).parent / "tgrpo"), shutil.which("tgrpo"))
    for candidate in candidates:
        if candidate and os.access(candidate, os.X_OK):
            return candidate
    raise MissingDependencyError(
        "the command 'tgrpo' was not found. Run `make setup` in the checkout, then set "
        "TGRPO_COMMAND=/path/to/checkout/.venv/bin/tgrpo"
    )


def exit_code(returncode: int) -> int:
    """The code a shell would report: ``128 + n`` for a process ended by signal ``n``."""
    return returncode if returncode >= 0 else 128 - returncode


class TrainingProcess:
    """A running ``tgrpo train``; its output lines appear on this process's own stdout and stderr.

    The child gets a session of its own, so that Ctrl-C in the terminal reaches it once, through
    :meth:`interrupt`, and not a second time from the terminal. If this process is killed, the child
    sees its standard input end and stops by itself.
    """

    def __init__(self, command: Sequence[str]) -> None:
        """Starts the child.

        Args:
            command: Program and arguments.
        """
        environment = {"COLUMNS": COLUMNS, **os.environ, "PYTHONUNBUFFERED": "1"}
        self._process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
        self._interrupted = False
        self._forwarders = [
            threading.Thread(target=_forward, args=streams, daemon=True)
            for streams in ((self._process.stdout, sys.stdout), (self._process.stderr, sys.stderr))
        ]
        for thread in self._forwarders:
            thread.start()

    def send(self, word: str) -> bool:
        """Writes one control word to the child.

        Returns:
            Whether it arrived; false once the child has ended.
        """
        assert self._process.stdin is not None  # noqa: S101  (it was opened above)
        try:
            self._process.stdin.write(f"{word}\n".encode())
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            return False
        return self._process.poll() is None

    def interrupt(self) -> None:
        """Asks the child once to stop with a checkpoint; further calls do nothing."""
        if not self._interrupted:
            self._interrupted = True
            self._signal(signal.SIGINT)

    def terminate(self) -> None:
        """Ends the child without waiting for a checkpoint."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Ends the child and everything it started."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)

    def poll(self) -> int | None:
        """Exit code of the child, or nothing while it runs."""
        code = self._process.poll()
        return None if code is None else exit_code(code)

    def close(self, timeout: float = 5.0) -> int:
        """Waits for the child's end and for its last lines.

        Args:
            timeout: How long a forgotten grandchild may keep the output open [s].

        Returns:
            The exit code.
        """
        code = exit_code(self._process.wait())
        for thread in self._forwarders:
            thread.join(timeout)
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # a control word was still unread
                self._process.stdin.close()
        return code

    def _signal(self, number: signal.Signals) -> None:
        if self._process.poll() is None:
            self._process.send_signal(number)


def _forward(source: IO[bytes], sink: IO[str]) -> None:
    for line in source:
        sink.write(line.decode("utf-8", "replace"))
        sink.flush()
