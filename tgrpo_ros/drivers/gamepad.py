"""Teleoperation with a gamepad, through pygame. The right shoulder button is the dead-man switch."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from tgrpo.errors import MissingDependencyError, RobotFault
from tgrpo_ros.drivers.base import Reading
from tgrpo_ros.drivers.teleop import TeleopSettings, shaped

WORDS = {6: "go", 3: "success", 2: "failure", 4: "abort"}
"""What Start, Y, X and Back say to a session, by SDL's numbers of the buttons."""
_FULL = 32767.0


class Gamepad:
    """A gamepad; see :class:`tgrpo_ros.drivers.base.Teleop`.

    Left stick: forward and sideways. Triggers: up (right) and down (left). Right stick: pitch and yaw. A closes the
    gripper, B opens it. Nothing moves unless the right shoulder button is held; while it is not, Start, Y, X and Back
    speak to a session, see :data:`WORDS`. SDL's list of controllers tells which axis is which: by number alone, pads
    differ, and a trigger at rest would be a stick at its end.
    """

    def __init__(self, settings: TeleopSettings, index: int = 0) -> None:
        """Opens a gamepad.

        Args:
            settings: How it feels.
            index: Which of the connected devices.

        Raises:
            MissingDependencyError: pygame is not installed.
            RobotFault: There is no such gamepad, or SDL does not know its layout.
        """
        self._settings = settings
        self._pygame, controllers = _library()
        count = controllers.get_count()
        if index >= count:
            raise RobotFault(f"no gamepad {index}: {count} are connected. Plug one in and press a button on it.")
        if not controllers.is_controller(index):
            name = controllers.name_forindex(index)
            raise RobotFault(f"SDL does not know the layout of {name!r}; describe it in SDL_GAMECONTROLLERCONFIG.")
        self._pad: Any = controllers.Controller(index)

    def read(self) -> Reading:
        """The sticks now."""
        game = self._pygame
        if self._pad is not None:
            game.event.pump()
            if not self._pad.attached():
                self.close()
        if self._pad is None:
            return Reading(connected=False)
        if not self._pad.get_button(game.CONTROLLER_BUTTON_RIGHTSHOULDER):
            return Reading(word=word_of(self._pad.get_button))
        axes = np.array(
            [
                -self._axis(game.CONTROLLER_AXIS_LEFTY),
                -self._axis(game.CONTROLLER_AXIS_LEFTX),
                self._axis(game.CONTROLLER_AXIS_TRIGGERRIGHT) - self._axis(game.CONTROLLER_AXIS_TRIGGERLEFT),
                0.0,
                -self._axis(game.CONTROLLER_AXIS_RIGHTY),
                -self._axis(game.CONTROLLER_AXIS_RIGHTX),
            ]
        )
        close, let_go = (bool(self._pad.get_button(b)) for b in (game.CONTROLLER_BUTTON_A, game.CONTROLLER_BUTTON_B))
        return Reading(shaped(axes, self._settings), float(close) - float(let_go), engaged=True)

    def close(self) -> None:
        """Frees the gamepad."""
        if self._pad is not None:
            self._pad.quit()
            self._pad = None

    def _axis(self, index: int) -> float:
        return float(self._pad.get_axis(index)) / _FULL


def word_of(pressed: Callable[[int], Any]) -> str:
    """What the pressed buttons say to a session; empty if nothing.

    Args:
        pressed: Whether a button, by SDL's number, is down.
    """
    return next((word for button, word in WORDS.items() if pressed(button)), "")


def _library() -> tuple[Any, Any]:
    # Without a display SDL still reads joysticks, but only if it is not asked for a window.
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    os.environ.setdefault("SDL_JOYSTICK_ALLOW_BACKGROUND_EVENTS", "1")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        import pygame

        controllers = importlib.import_module("pygame._sdl2.controller")
    except ImportError as error:
        raise MissingDependencyError("a gamepad needs pygame. Run: pip install 'pygame>=2.6,<3'") from error
    pygame.display.init()
    controllers.init()
    return pygame, controllers
