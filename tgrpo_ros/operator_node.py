"""ROS 2 node that stands in for a person who corrects a policy on a simulated arm, in rehearsals and tests.

It watches the stages of the task. A policy that has completed none for a while is taken over as any person would: by a
device, here the messages of a SpaceMouse that nobody holds, through the teleoperation node and the safety layer. The
way comes from the scripted expert of the scene. Once it has completed a stage or more, the arm is handed back.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Joy
from std_msgs.msg import String

from tgrpo import sim_link
from tgrpo.errors import SettingsError, WireError
from tgrpo_ros import robot_config, status
from tgrpo_ros.drivers.sim_scene import SceneLink, wait_for_scene
from tgrpo_ros.drivers.teleop import TeleopSettings, deflection
from tgrpo_ros.joy import SILENCE
from tgrpo_ros.managed import LATCHED, run_plain
from tgrpo_ros.parameters import ROBOT, Option
from tgrpo_ros.patience import Patience

FEEL = TeleopSettings(translation=1.0, rotation=1.0)
"""What the teleoperation node has to be set to, so that this person can ask for all that the expert knows."""
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
        if wait_for_scene(self.value("scene")).pace != "fast":
            raise SettingsError("a scripted operator plans while the scene waits: start it with pace:=fast.")
        self._link = SceneLink(self.value("scene"))
        self._patience = Patience(self.value("patience_steps"), self.value("stages"))
        self._acted = -1
        self._held: Joy | None = None
        self._sent = float("-inf")
        self._joy = self.create_publisher(Joy, "joy", qos_profile_sensor_data)
        self.create_subscription(String, f"{self.value('arm')}/status", self._hear, LATCHED)
        self.create_timer(SILENCE / 5.0, self._beat, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def value(self, name: str) -> Any:
        """A parameter's value."""
        return self.get_parameter(name).value

    def _beat(self) -> None:
        """What is held is said again, as a device does: silence would mean that it is gone."""
        if self._held is not None and time.monotonic() - self._sent > SILENCE / 2.0:
            self._publish(self._held)

    def _hear(self, message: String) -> None:
        try:
            now = status.decode(message.data)
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
        elif decision == "act" and now.steps > self._acted:
            self._act(now, afresh=False)

    def _act(self, now: status.ArmStatus, *, afresh: bool) -> None:
        advice = self._link.ask(sim_link.Advise(afresh=afresh), sim_link.Advice)
        if not advice.action:
            self.get_logger().info(f"knows no way at step {now.steps}")
            self._patience.give_up(now.steps)
            self._let_go()
            return
        self._acted = now.steps
        motion, gripper = np.asarray(advice.action[:6]), advice.action[6]
        self._held = Joy(axes=deflection(motion, FEEL).tolist(), buttons=[int(gripper > 0.0), int(gripper < 0.0)])
        self._publish(self._held)

    def _let_go(self) -> None:
        self._acted, self._held = -1, None
        self._publish(Joy(axes=[0.0] * 6, buttons=[0, 0]))

    def _publish(self, message: Joy) -> None:
        self._sent = time.monotonic()
        self._joy.publish(message)


def main(args: list[str] | None = None) -> int:
    """Entry point of ``tgrpo_operator_node``."""
    return run_plain("tgrpo_operator", OperatorNode, rclpy.spin, args)


if __name__ == "__main__":
    sys.exit(main())
