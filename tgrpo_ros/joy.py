"""``sensor_msgs/Joy`` as a teleoperation device, as ROS's ``game_controller_node`` fills it.

Left stick: forward and sideways. Triggers: up (right) and down (left). Right stick: pitch and yaw. A closes the
gripper, B opens it. Nothing moves unless the right shoulder button is held. Sticks are positive to the left and up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from tgrpo_ros.drivers.base import Reading
from tgrpo_ros.drivers.teleop import TeleopSettings, shaped

LEFT_X, LEFT_Y, RIGHT_X, RIGHT_Y, TRIGGER_LEFT, TRIGGER_RIGHT = range(6)
A, B, RIGHT_SHOULDER = 0, 1, 10
SILENCE = 0.25
"""A device that has sent nothing for so long is not held any more [s]."""


class Joy:
    """The newest message of a joystick node; see :class:`tgrpo_ros.drivers.base.Teleop`."""

    def __init__(self, settings: TeleopSettings, clock: Callable[[], float] = time.monotonic) -> None:
        """Has heard nothing.

        Args:
            settings: How it feels.
            clock: Steady time [s].
        """
        self._settings, self._clock = settings, clock
        self._axes: Sequence[float] = ()
        self._buttons: Sequence[int] = ()
        self._heard = float("-inf")

    def hear(self, axes: Sequence[float], buttons: Sequence[int]) -> None:
        """Takes note of a message; one with too few axes or buttons is another kind of device and is dropped."""
        if len(axes) > TRIGGER_RIGHT and len(buttons) > RIGHT_SHOULDER and np.isfinite(axes).all():
            self._axes, self._buttons, self._heard = axes, buttons, self._clock()

    def read(self) -> Reading:
        """The sticks now; at rest if the device is silent or its dead-man button is not held."""
        if self._clock() - self._heard > SILENCE or not self._buttons[RIGHT_SHOULDER]:
            return Reading()
        axes = self._axes
        up = axes[TRIGGER_RIGHT] - axes[TRIGGER_LEFT]
        motion = np.array([axes[LEFT_Y], axes[LEFT_X], up, 0.0, axes[RIGHT_Y], axes[RIGHT_X]])
        gripper = float(bool(self._buttons[A])) - float(bool(self._buttons[B]))
        return Reading(shaped(motion, self._settings), gripper, engaged=True)

    def close(self) -> None:
        """Nothing is open."""
