"""``sensor_msgs/Joy`` as a teleoperation device: a gamepad or a SpaceMouse, told apart by the number of buttons.

Gamepad, as ROS's ``game_controller_node`` fills it. Left stick: forward and sideways. Triggers: up (right) and down
(left). Right stick: pitch and yaw. A closes the gripper, B opens it. Nothing moves unless the right shoulder button is
held; while it is not, Start, Y, X and Back speak to a session. Sticks are positive to the left and up.

SpaceMouse, as ``spacenav_node`` fills it: translation and rotation; its first button closes the gripper, its second
opens it. Moving it is holding it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from tgrpo_ros.drivers.base import Reading
from tgrpo_ros.drivers.gamepad import word_of
from tgrpo_ros.drivers.teleop import TeleopSettings, shaped

LEFT_X, LEFT_Y, RIGHT_X, RIGHT_Y, TRIGGER_LEFT, TRIGGER_RIGHT = range(6)
A, B, RIGHT_SHOULDER = 0, 1, 10
SPACE_MOUSE = (6, 2)
"""Axes and buttons of a SpaceMouse."""
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
        """Takes note of a message; one of another kind of device is dropped."""
        gamepad = len(axes) > TRIGGER_RIGHT and len(buttons) > RIGHT_SHOULDER
        if (gamepad or (len(axes), len(buttons)) == SPACE_MOUSE) and np.isfinite(axes).all():
            self._axes, self._buttons, self._heard = axes, buttons, self._clock()

    def read(self) -> Reading:
        """The device now; at rest if it is silent or its dead-man button is not held."""
        if self._clock() - self._heard > SILENCE:
            return Reading()
        return self._space_mouse() if len(self._buttons) == SPACE_MOUSE[1] else self._gamepad()

    def _space_mouse(self) -> Reading:
        motion = shaped(np.array(self._axes), self._settings)
        return Reading(motion, self._gripper(), engaged=bool(motion.any() or any(self._buttons)))

    def _gamepad(self) -> Reading:
        if not self._buttons[RIGHT_SHOULDER]:
            return Reading(word=word_of(self._buttons.__getitem__))
        axes = self._axes
        up = axes[TRIGGER_RIGHT] - axes[TRIGGER_LEFT]
        motion = np.array([axes[LEFT_Y], axes[LEFT_X], up, 0.0, axes[RIGHT_Y], axes[RIGHT_X]])
        return Reading(shaped(motion, self._settings), self._gripper(), engaged=True)

    def _gripper(self) -> float:
        return float(bool(self._buttons[A])) - float(bool(self._buttons[B]))

    def close(self) -> None:
        """Nothing is open."""
