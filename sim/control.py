"""What a person or another process may ask of a running training: pause, resume, checkpoint, stop."""

from __future__ import annotations

import logging
import os
import signal
import threading
from types import FrameType

_log = logging.getLogger(__name__)

COMMANDS = ("pause", "resume", "checkpoint", "stop")


class Control:
    """Collects requests while an iteration runs; the loop looks at them between iterations.

    The first Ctrl-C asks for a stop with a checkpoint, the second one ends the process at once.
    """

    def __init__(self) -> None:
        self._running = threading.Event()
        self._running.set()
        self._stopping = threading.Event()
        self._checkpoint = threading.Event()

    @property
    def stopping(self) -> bool:
        """A stop was asked for."""
        return self._stopping.is_set()

    @property
    def paused(self) -> bool:
        """A pause was asked for, and no resume or stop since."""
        return not self._running.is_set()

    def take_checkpoint(self) -> bool:
        """Whether a checkpoint was asked for since the last call."""
        asked = self._checkpoint.is_set()
        self._checkpoint.clear()
        return asked

    def wait_while_paused(self, seconds: float) -> None:
        """Returns when a paused run is resumed or stopped, or after some time.

        Args:
            seconds: Longest wait [s].
        """
        self._running.wait(seconds)

    def obey(self, command: str) -> None:
        """Takes one request; anything but the four commands is refused in the log."""
        if command == "pause":
            self._running.clear()
        elif command == "resume":
            self._running.set()
        elif command == "checkpoint":
            self._checkpoint.set()
        elif command == "stop":
            self._stopping.set()
            self._running.set()
        else:
            _log.warning("unknown request %r; known: %s", command, ", ".join(COMMANDS))

    def listen(self, descriptor: int) -> None:
        """Obeys lines of text, for example of standard input, in a thread. Their end is a stop.

        Args:
            descriptor: File descriptor to read from; whoever holds its other end watches over the run.
        """
        threading.Thread(target=self._listen, args=(descriptor,), name="control", daemon=True).start()

    def catch_interrupts(self) -> None:
        """Turns the first SIGINT or SIGTERM into a stop; the next one has its usual effect."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._interrupted)

    def _listen(self, descriptor: int) -> None:
        # Not through sys.stdin, whose lock this thread would keep while the interpreter shuts down.
        rest = b""
        while data := os.read(descriptor, 4096):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                if line.strip():
                    self.obey(line.strip().decode("utf-8", "replace"))
        self.obey("stop")

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self.obey("stop")
