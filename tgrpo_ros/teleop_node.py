"""ROS 2 lifecycle node with which a person takes the arm: SpaceMouse, gamepad, keyboard, or ``sensor_msgs/Joy``.

Publishes ``ARM/command`` (std_msgs/Float64MultiArray) while the person is engaged, and a sign of life otherwise. Who is
engaged has the arm at once; letting go gives it back after a moment. Buttons and keys that label an episode go to
``SESSION/say`` (std_msgs/String). For the keyboard, start it in its own terminal.
"""

from __future__ import annotations

import secrets
import sys
import time
from typing import Any

import numpy as np
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Joy as JoyMessage
from std_msgs.msg import Float64MultiArray, String

from tgrpo.settings import from_builtins
from tgrpo_ros import robot_config
from tgrpo_ros.drivers.base import Reading, Teleop
from tgrpo_ros.drivers.choose import DEVICES, open_teleop
from tgrpo_ros.drivers.teleop import TeleopSettings
from tgrpo_ros.joy import Joy
from tgrpo_ros.managed import OK, WARN, Health, ManagedNode, run
from tgrpo_ros.messages import command_message, lease_message
from tgrpo_ros.meter import Meter
from tgrpo_ros.motion import Command, Source
from tgrpo_ros.parameters import ROBOT, Option

DEFAULTS = TeleopSettings()
OPTIONS = (
    *ROBOT,
    Option("arm", "tgrpo_arm", "name of the arm node"),
    Option("session", "tgrpo_session", "name of the session node, to which buttons and keys speak"),
    Option("device", "spacemouse", f"what the person holds: {', '.join(DEVICES)}, joy"),
    Option("rate", 30.0, "readings and commands [1/s]", low=10.0, high=250.0),
    Option("dead_zone", DEFAULTS.dead_zone, "share of an axis that counts as rest", low=0.0, high=0.89),
    Option("translation", DEFAULTS.translation, "translation action at full deflection", low=0.001, high=1.0),
    Option("rotation", DEFAULTS.rotation, "rotation action at full deflection", low=0.001, high=1.0),
)


class TeleopNode(ManagedNode):
    """A device and the commands of its holder."""

    def __init__(self) -> None:
        super().__init__("tgrpo_teleop", OPTIONS, "teleop")
        self._device: Teleop | None = None
        self._session, self._sequence = "", 0
        self._reading = Reading(connected=False)
        self._meter = Meter()
        self._active_session = False
        self._sent = float("-inf")

    def open(self) -> None:
        """Opens the device."""
        self._config = robot_config.load(self.value("robot"), self.workspace())
        names = ("dead_zone", "translation", "rotation")
        settings = from_builtins({name: self.value(name) for name in names}, TeleopSettings, source="teleop node")
        if self.value("device") == "joy":
            joy = self._device = Joy(settings)
            self.subscribe(JoyMessage, "joy", lambda m: self._hear(joy, m), qos_profile_sensor_data)
        else:
            self._device = open_teleop(self.value("device"), settings)
        self._commands = self.publisher(Float64MultiArray, f"{self.value('arm')}/command", 10)
        self._words = self.publisher(String, f"{self.value('session')}/say", 10)
        self._period = 1.0 / self.value("rate")
        self.every(self._period, self._tick)

    def begin(self) -> None:
        """Begins a session."""
        self._session, self._sequence, self._active_session = secrets.token_hex(6), 0, True
        self._reading = Reading()

    def pause(self) -> None:
        """Lets go of the arm."""
        if self._active_session:
            self._active_session = False
            dims = self._config.action.dims
            self._commands.publish(lease_message(Source.HUMAN, self._session, dims, keep=False))

    def shut(self) -> None:
        """Frees the device."""
        self.pause()
        if self._device is not None:
            self._device.close()
            self._device = None

    def failure(self) -> str:
        """The device is gone."""
        gone = self._active_session and not self._reading.connected
        return "the teleoperation device is gone; plug it in and start this node again." if gone else ""

    def health(self) -> Health:
        """Rate, jitter and age of the readings."""
        health = Health(OK if self._reading.connected else WARN, "engaged" if self._reading.engaged else "at rest")
        health.add(self._meter)
        return health

    def _hear(self, joy: Joy, message: JoyMessage) -> None:
        joy.hear(message.axes, message.buttons)
        self._tick(fresh=True)  # a person's hand is not kept waiting for the next tick

    def _tick(self, *, fresh: bool = False) -> None:
        if not self._active_session or self._device is None or not self._reading.connected:
            return
        before, self._reading = self._reading, self._device.read()
        now = time.monotonic()
        self._meter.tick(now)
        if not self._reading.connected:
            return  # from here on the safety layer hears nothing, and holds
        self._commands.publish(lease_message(Source.HUMAN, self._session, self._config.action.dims))
        if self._reading.word and self._reading.word != before.word:
            self._words.publish(String(data=self._reading.word))
        if not (self._reading.engaged or before.engaged):
            return
        if not fresh and now - self._sent < 0.9 * self._period and self._reading.engaged is before.engaged:
            return  # said just now, when the message came
        self._sent = now
        self._sequence += 1
        action = self._action(self._reading)
        engaged = self._reading.engaged
        self._commands.publish(
            command_message(Command(Source.HUMAN, self._session, self._sequence, now, action, engaged))
        )

    def _action(self, reading: Reading) -> Any:
        """The reading as actions ``(1, 7)`` of this robot."""
        action = reading.action()
        if self._config.action.gripper == "open_positive":
            action[6] = -action[6]
        return np.asarray(action[None], np.float32)


def main(args: list[str] | None = None) -> int:
    """Entry point of ``tgrpo_teleop_node``."""
    return run(TeleopNode, args)


if __name__ == "__main__":
    sys.exit(main())
