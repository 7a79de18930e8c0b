"""The pictures that a decision is made on: the newest of each camera, of one moment as far as that is possible.

Pictures of several cameras never arrive together, even if they were taken together. Whoever decides at the first one
decides on pictures of the others that are a whole interval older; whoever waits for all loses time if the cameras are
not triggered together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tgrpo.types import Image
from tgrpo.view import fitted
from tgrpo_ros.frames import Header, Sighting

OVERDUE = 1.5
"""Intervals after a picture at which its successor is no longer waited for."""


@dataclass(frozen=True)
class View:
    """When a camera's newest picture was taken, and when the next one is to be expected."""

    captured: float
    """Steady time [s]."""
    arrived: float
    """Steady time [s]."""
    interval: float | None = None
    """Between the newest two pictures [s]; None after the first one."""

    def wait(self, now: float) -> float:
        """Time until the next picture arrives [s]; infinite if none is to be expected."""
        if self.interval is None or now > self.arrived + OVERDUE * self.interval:
            return float("inf")
        return max(self.arrived + self.interval - now, 0.0)


def worth_waiting(views: Sequence[View], now: float) -> bool:
    """Whether the oldest picture would become younger by more than the time of waiting for it.

    Args:
        views: One of each camera.
        now: Steady time [s].
    """
    ordered = sorted(views, key=lambda view: view.captured)
    for count in range(1, len(ordered)):  # wait for the successors of so many of the oldest pictures
        behind, kept = ordered[:count], ordered[count:]
        wait = max(view.wait(now) for view in behind)
        oldest = min(
            *(view.captured + (view.interval or 0.0) for view in behind),
            *(view.captured for view in kept),
        )
        if oldest - ordered[0].captured > 2.0 * wait:  # younger by this difference less the wait
            return True
    return False


class Views:
    """The newest picture of each camera.

    Attributes:
        newest: Camera to its picture.
    """

    def __init__(self) -> None:
        """Has seen nothing."""
        self.newest: dict[str, Sighting] = {}
        self._views: dict[str, View] = {}
        self._scaled: dict[tuple[str, int], tuple[Sighting, Image]] = {}

    def add(self, arrived: Mapping[str, Sighting], now: float) -> None:
        """Takes note of new pictures.

        Args:
            arrived: Camera to its picture.
            now: Steady time [s].
        """
        for camera, sighting in arrived.items():
            last = self.newest.get(camera)
            interval = None if last is None else _interval(last.header, sighting.header)
            self._views[camera] = View(sighting.header.captured, now, interval)
            self.newest[camera] = sighting

    def settled(self, cameras: Iterable[str], now: float) -> bool:
        """Whether it is not worth waiting for a further picture of these cameras, all of which have sent one."""
        return not worth_waiting([self._views[camera] for camera in cameras], now)

    def scaled(self, camera: str, size: int) -> Image | None:
        """The newest picture of a camera as a policy wants it, scaled once; None if only its mark has come.

        Args:
            camera: One that has sent a picture.
            size: Height and width of the result [px].
        """
        sighting = self.newest[camera]
        if sighting.image is None:
            return None
        known = self._scaled.get((camera, size))
        if known is None or known[0] is not sighting:
            known = self._scaled[camera, size] = sighting, fitted(sighting.image, size)
        return known[1]


def _interval(last: Header, new: Header) -> float | None:
    """Time between two pictures of a camera [s]; None if it was started anew between them."""
    if last.sender != new.sender or new.sequence <= last.sequence or new.captured <= last.captured:
        return None
    return (new.captured - last.captured) / (new.sequence - last.sequence)
