"""ROS 2 node that stands in for a person who corrects a policy on a simulated arm, in rehearsals and tests.

It watches the stages of the task. A policy that has completed none for a while is taken over as any person would: with
commands of the source human, under a lease, through the safety layer. The way comes from the scripted expert of the
scene. Once it has completed a stage or more, the arm is handed back.
"""

from __future__ import annotations

import secrets
import sys
import time
from typing import Any

import numpy as np
import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from std_msgs.msg import Float64MultiArray, String

from tgrpo import sim_link
from tgrpo.errors import SettingsError, WireError
from tgrpo_ros import robot_config, status
from tgrpo_ros.drivers.sim_scene import SceneLink, wait_for_scene
from tgrpo_ros.managed import LATCHED, run_plain
from tgrpo_ros.messages import command_message, lease_message
from tgrpo_ros.motion import Command, Source
from tgrpo_ros.parameters import ROBOT, Option
from tgrpo_ros.patience import Patience

AGAIN = 1.0
"""A command that has moved nothing for so long is sent again [s]."""
OPTIONS = (
    *ROBOT,
    Option("arm", "tgrpo_arm", "name of the arm node"),
    Option("patience_steps", 60, "control steps without a new stage before it takes over", low=1),
    Option("stages", 1, "stages that it completes before it hands back; 0: all of them"),
)


class OperatorNode(Node):
    """A person who never tires."""

    def __init__(self) -> None:
        super().__init__("tgrpo_operator")
        for option in OPTIONS:
            self.declare_parameter(option.name, option.default, option.descriptor())
        config = robot_config.load(self.value("robot"))
        if config.arm.driver != "sim":
            raise SettingsError("a scripted operator is for a simulated arm; at a real one a person takes over.")
        self._dims = config.action.dims
        if wait_for_scene(self.value("scene")).pace != "fast":
            raise SettingsError("a scripted operator plans while the scene waits: start it with pace:=fast.")
        self._link = SceneLink(self.value("scene"))
        self._patience = Patience(self.value("patience_steps"), self.value("stages"))
        self._session, self._sequence = secrets.token_hex(6), 0
        self._acted = (-1, float("-inf"))
        arm = self.value("arm")
        self._commands = self.create_publisher(Float64MultiArray, f"{arm}/command", 10)
        self.create_subscription(String, f"{arm}/status", self._hear, LATCHED)
        self.create_timer(0.2, self._beat, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._status: status.ArmStatus | None = None

    def value(self, name: str) -> Any:
        """A parameter's value."""
        return self.get_parameter(name).value

    def _beat_once(self) -> None:
        self._commands.publish(lease_message(Source.HUMAN, self._session, self._dims))

    def _beat(self) -> None:
        self._beat_once()
        if self._status is not None and self._patience.engaged and time.monotonic() - self._acted[1] > AGAIN:
            self._act(self._status, afresh=False)

    def _hear(self, message: String) -> None:
        try:
            now = self._status = status.decode(message.data)
        except WireError as error:
            self.get_logger().error(str(error), throttle_duration_sec=5.0)
            return
        running = now.level in ("RUN", "HOLD") and not now.success
        decision = self._patience.see(now.episode, now.steps, now.stage, running=running)
        if decision == "let_go":
            self._let_go()
        elif decision == "take":
            self.get_logger().info(f"takes over at step {now.steps}, stage {now.stage}")
            self._act(now, afresh=True)
        elif decision == "act" and now.steps > self._acted[0]:
            self._act(now, afresh=False)

    def _act(self, now: status.ArmStatus, *, afresh: bool) -> None:
        advice = self._link.ask(sim_link.Advise(afresh=afresh), sim_link.Advice)
        if not advice.action:
            self.get_logger().info(f"knows no way at step {now.steps}")
            self._patience.give_up(now.steps)
            self._let_go()
            return
        self._acted = now.steps, time.monotonic()
        self._send(np.array([advice.action], np.float32), engaged=True)

    def _let_go(self) -> None:
        self._acted = (-1, float("-inf"))
        self._send(np.zeros((1, self._dims), np.float32), engaged=False)

    def _send(self, actions: Any, *, engaged: bool) -> None:
        self._beat_once()  # planning may have taken longer than a lease lasts
        self._sequence += 1
        command = Command(Source.HUMAN, self._session, self._sequence, time.monotonic(), actions, engaged)
        self._commands.publish(command_message(command))


def main(args: list[str] | None = None) -> int:
    """Entry point of ``tgrpo_operator_node``."""
    return run_plain("tgrpo_operator", OperatorNode, rclpy.spin, args)


if __name__ == "__main__":
    sys.exit(main())
