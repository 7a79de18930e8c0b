"""A video file as a camera, for rehearsals without one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tgrpo.errors import MissingDependencyError, SettingsError
from tgrpo.types import Image
from tgrpo_ros.drivers.base import Frame


class VideoCamera:
    """Plays a video in a loop at its own rate; see :class:`tgrpo_ros.drivers.base.Camera`.

    Pictures whose time has passed are skipped, as a camera would not wait for its reader either.
    """

    still = True
    intrinsics = None

    def __init__(self, name: str, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Opens the file.

        Args:
            name: The view's name.
            path: Of the video.
            clock: Steady time [s].

        Raises:
            MissingDependencyError: PyAV is not installed.
            SettingsError: The file is missing or no video.
        """
        self.name = name
        self._path, self._clock = path, clock
        self._container, self._rate = _open(path)
        self._images = self._decode()
        self._begun = clock()
        self._taken = 0

    def read(self, timeout: float) -> Frame | None:
        """The picture that is due now.

        Args:
            timeout: How long to wait for it [s].
        """
        if self._container is None:
            return None
        due = self._begun + self._taken / self._rate
        wait = due - self._clock()
        if wait > timeout:
            time.sleep(timeout)
            return None
        if wait > 0.0:
            time.sleep(wait)
        newest = max(self._taken, int((self._clock() - self._begun) * self._rate))
        image = next(self._images)
        for _ in range(newest - self._taken):
            image = next(self._images)
        self._taken = newest + 1
        return Frame(image, self._begun + newest / self._rate, newest, "file")

    def close(self) -> None:
        """Closes the file."""
        if self._container is not None:
            self._container.close()
            self._container = None

    def _decode(self) -> Iterator[Image]:
        while True:
            pictures = 0
            for picture in self._container.decode(video=0):
                pictures += 1
                yield np.ascontiguousarray(picture.to_ndarray(format="rgb24"))
            if not pictures:
                raise SettingsError(f"{self._path}: the video has no pictures.")
            self._container.seek(0)


def _open(path: Path) -> tuple[Any, float]:
    try:
        import av
    except ImportError as error:
        raise MissingDependencyError("playing a video needs PyAV. Run: pip install 'av>=15'") from error
    try:
        container: Any = av.open(str(path))
        rate = float(container.streams.video[0].average_rate)
    except (OSError, IndexError, TypeError, ValueError) as error:
        raise SettingsError(f"{path}: not a video that can be played: {error}") from error
    return container, rate
