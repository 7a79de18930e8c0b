"""Teleoperation with a gamepad, through pygame. The right shoulder button is the dead-man switch."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from tgrpo.errors import MissingDependencyError, RobotFault
from tgrpo_ros.drivers.base import Reading
from tgrpo_ros.drivers.teleop import TeleopSettings, shaped

# The layout of SDL's joystick interface for the usual pads: sticks on axes 0, 1 and 3, 4, triggers on 2 and 5.
_LEFT_X, _LEFT_Y, _LEFT_TRIGGER, _RIGHT_X, _RIGHT_Y, _RIGHT_TRIGGER = range(6)
_A, _B, _DEAD_MAN = 0, 1, 5


class Gamepad:
    """A gamepad; see :class:`tgrpo_ros.drivers.base.Teleop`.

    Left stick: forward and sideways. Triggers: up (right) and down (left). Right stick: pitch and yaw. A closes the
    gripper, B opens it. Nothing moves unless the right shoulder button is held.
    """

    def __init__(self, settings: TeleopSettings, index: int = 0) -> None:
        """Opens a gamepad.

        Args:
            settings: How it feels.
            index: Which of the gamepads.

        Raises:
            MissingDependencyError: pygame is not installed.
            RobotFault: There is no such gamepad.
        """
        self._settings = settings
        self._pygame = _library()
        count = self._pygame.joystick.get_count()
        if index >= count:
            raise RobotFault(f"no gamepad {index}: {count} are connected. Plug one in and press a button on it.")
        self._pad: Any = self._pygame.joystick.Joystick(index)
        self._pulled: set[int] = set()

    def read(self) -> Reading:
        """The sticks now."""
        if self._pad is None:
            return Reading(connected=False)
        for event in self._pygame.event.get():
            if event.type == self._pygame.JOYDEVICEREMOVED and event.instance_id == self._pad.get_instance_id():
                self.close()
                return Reading(connected=False)
        axes = np.array(
            [
                -self._axis(_LEFT_Y),
                -self._axis(_LEFT_X),
                self._trigger(_RIGHT_TRIGGER) - self._trigger(_LEFT_TRIGGER),
                0.0,
                -self._axis(_RIGHT_Y),
                -self._axis(_RIGHT_X),
            ]
        )
        if not self._button(_DEAD_MAN):
            return Reading()
        gripper = float(self._button(_A)) - float(self._button(_B))
        return Reading(shaped(axes, self._settings), gripper, engaged=True)

    def close(self) -> None:
        """Frees the gamepad."""
        if self._pad is not None:
            self._pad.quit()
            self._pad = None

    def _axis(self, index: int) -> float:
        return float(self._pad.get_axis(index)) if index < self._pad.get_numaxes() else 0.0

    def _trigger(self, index: int) -> float:
        """Deflection of a trigger in [0, 1]; one that was never touched reads 0 instead of -1."""
        value = self._axis(index)
        if value != 0.0:
            self._pulled.add(index)
        return 0.5 * (value + 1.0) if index in self._pulled else 0.0

    def _button(self, index: int) -> bool:
        return bool(index < self._pad.get_numbuttons() and self._pad.get_button(index))


def _library() -> Any:
    # Without a display SDL still reads joysticks, but only if it is not asked for a window.
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    os.environ.setdefault("SDL_JOYSTICK_ALLOW_BACKGROUND_EVENTS", "1")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        import pygame
    except ImportError as error:
        raise MissingDependencyError("a gamepad needs pygame. Run: pip install 'pygame>=2.6,<3'") from error
    pygame.display.init()
    pygame.joystick.init()
    return pygame
