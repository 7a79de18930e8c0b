"""Teleoperation with the keys of a terminal; works over ssh, without a display.

======= ================== ======= ======================
keys    translation        keys    rotation
======= ================== ======= ======================
w s     forward, back      j l     roll left, right
a d     left, right        i k     pitch up, down
r f     up, down           q e     yaw left, right
======= ================== ======= ======================

Space closes or opens the gripper, Escape lets go. Enter, y, n and x say go, success, failure and abort to a session.
"""

from __future__ import annotations

import contextlib
import os
import select
import termios
import time
import tty
from collections.abc import Callable
from typing import Any

import numpy as np

from tgrpo.errors import SettingsError
from tgrpo_ros.drivers.base import Reading
from tgrpo_ros.drivers.teleop import TeleopSettings, shaped

KEYS: dict[bytes, tuple[int, float]] = {
    b"w": (0, 1.0), b"s": (0, -1.0), b"a": (1, 1.0), b"d": (1, -1.0), b"r": (2, 1.0), b"f": (2, -1.0),
    b"j": (3, -1.0), b"l": (3, 1.0), b"i": (4, -1.0), b"k": (4, 1.0), b"q": (5, 1.0), b"e": (5, -1.0),
}  # fmt: skip
"""Key to axis and direction."""
WORDS = {b"\n": "go", b"\r": "go", b"y": "success", b"n": "failure", b"x": "abort"}
"""What keys say to a session."""
_GRIPPER, _LET_GO = b" ", b"\x1b"


class Keyboard:
    """A terminal; see :class:`tgrpo_ros.drivers.base.Teleop`."""

    def __init__(self, descriptor: int, settings: TeleopSettings, clock: Callable[[], float] = time.monotonic) -> None:
        """Takes single keys from a terminal until it is closed.

        Args:
            descriptor: File descriptor of a terminal, for example that of standard input.
            settings: How it feels.
            clock: Steady time [s].

        Raises:
            SettingsError: It is no terminal.
        """
        if not os.isatty(descriptor):
            raise SettingsError("the keyboard needs a terminal; start this in one, not through a pipe or a service.")
        self._descriptor, self._settings, self._clock = descriptor, settings, clock
        self._before: list[Any] | None = termios.tcgetattr(descriptor)
        tty.setcbreak(descriptor)
        self._pressed: dict[int, tuple[float, float]] = {}
        self._closed, self._touched = False, False
        self._connected = True

    def read(self) -> Reading:
        """The keys that are held now."""
        now, word = self._clock(), ""
        for key in self._keys():
            if key in KEYS:
                axis, direction = KEYS[key]
                self._pressed[axis] = (direction, now)
            elif key == _GRIPPER:
                self._closed, self._touched = not self._closed, True
            elif key == _LET_GO:
                self._pressed.clear()
            word = WORDS.get(key, word)
        axes = np.zeros(6)
        for axis, (direction, since) in self._pressed.items():
            if now - since <= self._settings.key_hold:
                axes[axis] = direction
        gripper = (1.0 if self._closed else -1.0) if self._touched else 0.0
        if not self._connected:
            return Reading(connected=False)
        return Reading(shaped(axes, self._settings), gripper, bool(axes.any()), word=word)

    def close(self) -> None:
        """Gives the terminal back as it was."""
        if self._before is not None:
            with contextlib.suppress(termios.error):  # the terminal is gone
                termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._before)
            self._before = None

    def _keys(self) -> list[bytes]:
        data = b""
        with contextlib.suppress(BlockingIOError):
            while self._connected and select.select([self._descriptor], [], [], 0.0)[0]:
                try:
                    more = os.read(self._descriptor, 64)
                except OSError:  # what a terminal that hung up answers
                    more = b""
                self._connected = bool(more)
                data += more
        return [data[index : index + 1] for index in range(len(data))]
