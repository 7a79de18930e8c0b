"""What the server counts, as numbers by name and as text for Prometheus."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Mapping

COUNTED = (
    "requests", "answered", "busy", "expired", "invalid", "contract", "policy", "revoked", "damaged", "undelivered",
    "batches", "swaps",
)  # fmt: skip
TIMED = ("queue_ms", "infer_ms")
WINDOW = 1024
"""Latest measurements that medians and percentiles are taken of."""


class Counters:
    """Counts and recent times; safe to use from any thread."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter(dict.fromkeys(COUNTED, 0))
        self._times: dict[str, deque[float]] = {name: deque(maxlen=WINDOW) for name in TIMED}
        self._lock = threading.Lock()

    def add(self, name: str) -> None:
        """Counts one event."""
        with self._lock:
            self._counts[name] += 1

    def time(self, name: str, milliseconds: float) -> None:
        """Notes one duration [ms]."""
        with self._lock:
            self._times[name].append(milliseconds)

    def values(self) -> dict[str, float]:
        """Everything by name; of durations the median and the 95th percentile [ms]."""
        with self._lock:
            found = {name: float(count) for name, count in self._counts.items()}
            times = {name: sorted(values) for name, values in self._times.items()}
        for name, ordered in times.items():
            for share in (50, 95):
                found[f"{name}_p{share}"] = ordered[(len(ordered) - 1) * share // 100] if ordered else 0.0
        return found


def prometheus(values: Mapping[str, float], version: str) -> str:
    """The text exposition format of Prometheus."""
    lines = [f'tgrpo_serve_info{{version="{_escaped(version)}"}} 1']
    for name, value in values.items():
        total = "_total" if name in COUNTED else ""
        lines.append(f"# TYPE tgrpo_serve_{name}{total} {'counter' if total else 'gauge'}")
        lines.append(f"tgrpo_serve_{name}{total} {value:g}")
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
