"""How often something happens, and how regularly."""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass

WINDOW = 256
"""Events that are looked back at."""


@dataclass(frozen=True)
class Pulse:
    """What a meter shows."""

    count: int
    """Events since the start."""
    rate: float
    """Mean of the window [1/s]; 0 before the second event."""
    jitter: float
    """Longest interval of the window less the mean one [s]."""
    age: float
    """Time since the last event [s]; infinite before the first one."""


class Meter:
    """Counts events; one thread may tick while others read."""

    def __init__(self) -> None:
        """Has seen nothing."""
        self._times: deque[float] = deque(maxlen=WINDOW)
        self._count = 0

    def tick(self, now: float) -> None:
        """One event at a steady time [s]."""
        self._times.append(now)
        self._count += 1

    def read(self, now: float) -> Pulse:
        """Rate, jitter and age at a steady time [s]."""
        times = list(self._times)
        if not times:
            return Pulse(0, 0.0, 0.0, float("inf"))
        gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
        mean = sum(gaps) / len(gaps) if gaps else 0.0
        rate = 1.0 / mean if mean > 0.0 else 0.0
        return Pulse(self._count, rate, max(gaps, default=0.0) - mean, now - times[-1])
