"""Teleoperation with a SpaceMouse, through pyspacemouse."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np

from tgrpo.errors import MissingDependencyError, RobotFault
from tgrpo_ros.drivers.base import Reading
from tgrpo_ros.drivers.teleop import TeleopSettings, shaped

_AXES = ("x", "y", "z", "roll", "pitch", "yaw")
_REPORTS = 64
"""Most reports that one reading takes: a device sends some hundred a second, and only the newest state counts."""


class SpaceMouse:
    """A SpaceMouse; see :class:`tgrpo_ros.drivers.base.Teleop`. Its first button closes the gripper, its second opens.

    Axes are those of the ``ROS`` convention: x forward, y left, z up, seen from behind the device.
    """

    def __init__(self, settings: TeleopSettings, device: Any = None) -> None:
        """Opens the first SpaceMouse.

        Args:
            settings: How it feels.
            device: An opened ``pyspacemouse`` device; found by default.

        Raises:
            MissingDependencyError: pyspacemouse or the HID library is not installed.
            RobotFault: There is no SpaceMouse, or it may not be opened.
        """
        self._settings = settings
        self._device = _open() if device is None else device
        self._last: Any = None

    def read(self) -> Reading:
        """The deflection now."""
        if self._device is None:
            return Reading(connected=False)
        try:
            state = self._newest()
        except Exception:  # noqa: BLE001  (each HID library has errors of its own; all mean that the device is gone)
            self.close()
            return Reading(connected=False)
        motion = shaped(np.array([getattr(state, axis) for axis in _AXES], np.float64), self._settings)
        buttons = [bool(button) for button in state.buttons]
        gripper = float(any(buttons[:1])) - float(any(buttons[1:2]))
        return Reading(motion, gripper, bool(motion.any()) or gripper != 0.0)

    def close(self) -> None:
        """Frees the device."""
        if self._device is not None:
            device, self._device = self._device, None
            with contextlib.suppress(Exception):  # it may be unplugged
                device.close()

    def _newest(self) -> Any:
        stamp = None
        for _ in range(_REPORTS):
            state = self._device.read()
            if state.t == stamp:
                break
            stamp = state.t
        return state


def _open() -> Any:
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            import pyspacemouse
    except (ImportError, OSError, AttributeError) as error:
        raise MissingDependencyError(
            f"a SpaceMouse needs pyspacemouse and the HID library ({error}). "
            "Run: pip install 'pyspacemouse>=2.1,<3' and apt-get install libhidapi-hidraw0"
        ) from error
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return pyspacemouse.open(axis_convention=pyspacemouse.AxisConvention.ROS)
    except RuntimeError as error:
        raise RobotFault(
            f"no SpaceMouse: {error} Plug it in by cable, not by cable and radio at once, and permit access to it "
            "with a udev rule for /dev/hidraw*."
        ) from error
