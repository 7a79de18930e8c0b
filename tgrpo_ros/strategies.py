"""How chunks of actions become commands: when the policy is asked again, and what of its answers is sent.

============================= ========================== ===========================================================
strategy                      asks again                 sends
============================= ========================== ===========================================================
``open_loop``                 when a chunk has ended     the chunk
``receding_horizon``          every ``execute`` actions  the chunk; its rest bridges the time of thinking
``temporal_ensembling``       every ``execute`` actions  for each instant the mean of all chunks that speak of it,
                                                         older ones weigh more: ``exp(-decay * i)``, i = 0 the oldest
============================= ========================== ===========================================================

The first is openpi's, the second that of diffusion policy (Chi et al., arXiv:2303.04137), the third that of ACT (Zhao
et al., arXiv:2304.13705). Time is the steady clock of the arm [s].
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from tgrpo.errors import SettingsError, UnknownNameError

Name = Literal["open_loop", "receding_horizon", "temporal_ensembling"]
NAMES: tuple[Name, ...] = get_args(Name)
Actions = NDArray[np.float32]
_JITTER = 1e-6
"""Rounding of a time [s]."""


@dataclass(frozen=True, eq=False)
class _Chunk:
    actions: Actions
    begins: float


class Strategy:
    """What was asked and what is being executed.

    Attributes:
        spare: Whether actions that bridge the time of thinking are sent too; a scene that waits needs none.
    """

    def __init__(self, name: str, period: float, *, execute: int, decay: float = 0.01) -> None:
        """Has asked for nothing.

        Args:
            name: One of :data:`NAMES`.
            period: Time of one action [s].
            execute: Actions of a chunk that are executed before the policy is asked again; unused in open loop.
            decay: Of the weights of older chunks in temporal ensembling.

        Raises:
            UnknownNameError: There is no such strategy.
            SettingsError: A number is out of range.
        """
        if name not in NAMES:
            raise UnknownNameError("strategy", name, NAMES)
        if execute < 1 or not decay >= 0.0 or not period > 0.0:
            raise SettingsError(
                f"execute {execute} must be at least 1, decay {decay} at least 0, period {period} above 0."
            )
        self._name, self._period, self._execute = name, period, execute
        self._decay, self.spare = decay, True
        self._chunks: list[_Chunk] = []
        self._due = -math.inf

    def due(self, now: float) -> bool:
        """Whether to ask the policy at this time [s]."""
        return now >= self._due - _JITTER

    def clear(self) -> None:
        """Forgets everything: somebody else moves the arm, or it has been stopped."""
        self._chunks.clear()
        self._due = -math.inf

    def combine(self, actions: Actions, observed: float, begins: float) -> Actions:
        """Takes a chunk and returns what to send.

        Args:
            actions: ``(K, A)``, one for each period.
            observed: When the observation behind them was made [s].
            begins: When the first one of those that are sent will be executed [s].

        Returns:
            ``(n, A)``, the first one meant for the time ``observed``.
        """
        count = len(actions) if self._name == "open_loop" else min(self._execute, len(actions))
        self._due = begins + count * self._period
        sent = actions
        if self._name == "temporal_ensembling":
            self._chunks = [c for c in self._chunks if self._index(c, observed) < len(c.actions)]
            self._chunks.append(_Chunk(actions, observed))
            sent = np.stack([self._mean(observed + step * self._period) for step in range(len(actions))])
        return sent if self.spare else sent[:count]

    def _index(self, chunk: _Chunk, time: float) -> int:
        return round((time - chunk.begins) / self._period)

    def _mean(self, time: float) -> Actions:
        """Weighted mean ``(A,)`` of what all chunks say about a time [s]."""
        places = [(chunk, self._index(chunk, time)) for chunk in self._chunks]
        said = np.stack([chunk.actions[place] for chunk, place in places if 0 <= place < len(chunk.actions)])
        weights = np.exp(-self._decay * np.arange(len(said)))
        mean: Actions = (weights @ said / weights.sum()).astype(np.float32)
        return mean
