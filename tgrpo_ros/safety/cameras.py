"""Watches cameras: missing, late, from the future, or frozen behind fresh stamps."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from tgrpo.errors import UnknownNameError
from tgrpo.types import Image
from tgrpo_ros.motion import Source
from tgrpo_ros.safety.ladder import Level, Reason
from tgrpo_ros.safety.settings import Watchdogs


def digest(image: Image) -> int:
    """A fingerprint of a picture: noise makes any two pictures of a working camera differ."""
    return zlib.crc32(np.ascontiguousarray(image).data)


@dataclass
class _Camera:
    arrived: float
    age: float = 0.0
    digest: int | None = None
    repeats: int = 0


class CameraWatch:
    """Remembers the last frame of each camera; a camera that never sent one is missing from the start."""

    def __init__(self, names: Iterable[str], settings: Watchdogs, now: float, still: Iterable[str] = ()) -> None:
        """Expects frames from now on.

        Args:
            names: Of the cameras that must work.
            settings: How old frames may be.
            now: Steady time [s].
            still: Cameras whose pictures may repeat: simulated ones have no noise.
        """
        self._settings, self._still = settings, frozenset(still)
        self._cameras = {name: _Camera(now) for name in names}

    def see(self, name: str, captured: float, fingerprint: int, now: float) -> None:
        """Takes note of a frame.

        Args:
            name: Of the camera.
            captured: When the picture was taken [s], on the steady clock.
            fingerprint: Result of :func:`digest`.
            now: Steady time [s].

        Raises:
            UnknownNameError: Nobody expects this camera.
        """
        camera = self._cameras.get(name)
        if camera is None:
            raise UnknownNameError("camera", name, self._cameras)
        same = fingerprint == camera.digest
        camera.repeats = camera.repeats + 1 if same else 0
        camera.arrived, camera.age, camera.digest = now, now - captured, fingerprint

    def reasons(self, now: float) -> list[Reason]:
        """Why the pictures must not be acted on."""
        found = (self._fault(name, camera, now) for name, camera in self._cameras.items())
        return [Reason(Level.HOLD, kind, detail, Source.SAFETY) for kind, detail in found if kind]

    def _fault(self, name: str, camera: _Camera, now: float) -> tuple[str, str]:
        limits = self._settings
        silent = now - camera.arrived
        if silent > limits.camera_hold:
            return "camera_lost", f"camera {name!r} has sent nothing for {silent:.2f} s; check its cable and its node"
        if camera.age > limits.frame_age:
            return "camera_late", f"a frame of camera {name!r} was {camera.age:.2f} s old, limit {limits.frame_age} s"
        if camera.age < -limits.future:
            return "camera_clock", f"a frame of camera {name!r} is {-camera.age:.2f} s from the future; check its clock"
        if camera.repeats >= limits.frozen_frames and name not in self._still:
            return "camera_frozen", f"camera {name!r} has sent the same picture {camera.repeats + 1} times; restart it"
        return "", ""
