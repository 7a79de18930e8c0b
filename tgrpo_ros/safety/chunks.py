"""Plays the actions of a chunk, one for each period, and never one that is too old."""

from __future__ import annotations

import numpy as np

from tgrpo.types import FloatArray
from tgrpo_ros.motion import Command
from tgrpo_ros.safety.settings import ChunkLimits

_ROUNDING = 1e-6
_JITTER = 0.25
"""Share of a period that a tick may be early or late without an action being skipped."""


class ChunkPlayer:
    """The newest chunk of one source and how far it has been played.

    Attributes:
        dropped: Actions that were never executed because their time had passed.
        oldest: Greatest age of an action at its execution, since its observation [s].
        taken: Sequence number of the command, and place in it, of the action that was taken last.
    """

    def __init__(self, limits: ChunkLimits, period: float) -> None:
        """Has nothing to play.

        Args:
            limits: How long actions stay valid.
            period: Time of one action [s].
        """
        self._limits, self._period = limits, period
        self._actions: FloatArray | None = None
        self._observed, self._next = 0.0, 0
        self.dropped, self.oldest = 0, 0.0
        self.taken = (-1, -1)
        self._sequence = -1

    @property
    def loaded(self) -> bool:
        """Whether there is a chunk, played or not."""
        return self._actions is not None

    def load(self, command: Command) -> None:
        """Replaces the chunk; what is left of the old one is dropped."""
        self._actions = np.asarray(command.actions, np.float64)
        self._observed, self._next, self._sequence = command.observed, 0, command.sequence

    def clear(self) -> None:
        """Drops the chunk."""
        self._actions = None

    def take(self, now: float) -> FloatArray | None:
        """The action ``(A,)`` to execute now, or None if there is none that is still meant for now.

        Args:
            now: Steady time [s]; called once for each period.
        """
        if self._actions is None:
            return None
        age = now - self._observed
        index = self._next
        if self._limits.align == "stamp":
            slack = _JITTER if index else -_ROUNDING
            index = max(index, int(max(0.0, age / self._period - slack)))
        if index >= len(self._actions) or age > self._limits.max_age:
            self.dropped += max(0, len(self._actions) - self._next)
            self._next = len(self._actions)
            return None
        self.dropped += index - self._next
        self.oldest = max(self.oldest, age)
        self._next = index + 1
        self.taken = (self._sequence, index)
        action: FloatArray = self._actions[index]
        return action
