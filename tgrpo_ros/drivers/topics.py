"""An arm behind ROS topics: franka_ros2 with crisp_controllers, or any controller that follows a ``PoseStamped``.

The one driver that needs rclpy. It has a context, a node and an executor of its own, which are spun by whoever asks for
the state; so there is no thread, and the arm's node may be any node. Times are those of arrival, on the steady clock:
stamps of messages are the wall clock, which may be set.

Such a controller holds its last target for ever. That is a pose within the lead limit, so an arm whose user dies goes
there and rests. It also ignores targets as long as it sees two publishers; this driver then says who the other one is.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from tgrpo import rotation
from tgrpo.errors import MissingDependencyError, RobotFault
from tgrpo.types import FloatArray
from tgrpo_ros.drivers.base import finite
from tgrpo_ros.motion import ArmMode, ArmState, Pose, Reference
from tgrpo_ros.robot_config import Topics

PATIENCE = 5.0
"""How long the first report and the controller may take to appear [s]."""
_BATCH = 8
"""Most messages that one look at the state takes."""


class TopicArm:
    """Drives an arm by topics; see :class:`tgrpo_ros.drivers.base.Arm`."""

    simulated = False

    def __init__(self, topics: Topics, patience: float = PATIENCE) -> None:
        """Subscribes and waits for the first report; nothing moves.

        Args:
            topics: Names.
            patience: How long to wait [s].

        Raises:
            MissingDependencyError: rclpy is not installed.
            RobotFault: Nothing reports, or the joints are not there.
        """
        self._topics, self._patience = topics, patience
        self._pose: tuple[float, Pose] | None = None
        self._joints: tuple[float, FloatArray, FloatArray] | None = None
        self._fingers = np.zeros(2)
        self._trouble = ""
        self._seen = 0
        self._started = self._closed = False
        self._ros = _Ros(topics, self)
        try:
            self._wait_for_state()
        except BaseException:
            self.close()
            raise

    def now(self) -> float:
        """The steady clock of this machine [s]."""
        return time.monotonic()

    def state(self) -> ArmState | None:
        """The newest report; as old as the older one of pose and joints."""
        if not self._closed:
            self._spin()
        if self._pose is None or self._joints is None:
            return None
        (posed, pose), (jointed, joints, velocities) = self._pose, self._joints
        received = min(posed, jointed)
        proprio = np.concatenate([pose.position, rotation.to_vector(pose.quaternion), self._fingers])
        mode, error = self._mode()
        return ArmState(
            time=received,
            received=received,
            pose=pose,
            joints=joints,
            joint_velocities=velocities,
            fingers=self._fingers,
            proprio=proprio.astype(np.float32),
            mode=mode,
            error=error,
        )

    def start(self) -> None:
        """Makes the measured pose the target.

        Raises:
            RobotFault: No controller listens, or somebody else publishes targets too.
        """
        limit = time.monotonic() + self._patience
        while True:
            state = self.state()
            mode, error = self._mode()
            if state is not None and mode in ("ready", "moving"):
                break
            if time.monotonic() > limit:
                raise RobotFault(f"the arm does not start: {error or 'it reports nothing'}.")
            time.sleep(0.02)
        self._ros.target(state.pose)
        self._started = True

    def follow(self, reference: Reference) -> None:
        """Publishes the reference's pose.

        Raises:
            ValueError: It is not finite.
        """
        if not finite(reference):
            raise ValueError("a reference must be finite")
        if self._started:
            self._ros.target(reference.pose)

    def grip(self, close: bool) -> None:
        """Asks to close or open, and does not wait for an answer."""
        if not self._closed:
            self._ros.grip(close)

    def stop(self) -> None:
        """Makes the measured pose the target, so that the controller brakes, and publishes no more."""
        state = self.state() if self._started else None
        if state is not None:
            self._ros.target(state.pose)
        self._started = False

    def recover(self) -> None:
        """Always refused: which error there is, and how it is cleared, no standard message says.

        Raises:
            RobotFault: Always.
        """
        raise RobotFault(
            "an arm behind topics is recovered by its own driver, for example: ros2 action send_goal "
            "/action_server/error_recovery franka_msgs/action/ErrorRecovery '{}'. Activate its controller, then arm it."
        )

    def close(self) -> None:
        """Stops, and leaves the graph."""
        if not self._closed:
            self.stop()
            self._closed = True
            self._ros.close()

    def on_pose(self, message: Any) -> None:
        """Takes a ``PoseStamped``."""
        self._seen += 1
        at, turn = message.pose.position, message.pose.orientation
        quaternion = rotation.normalised((turn.x, turn.y, turn.z, turn.w))
        self._pose = time.monotonic(), Pose(np.array([at.x, at.y, at.z]), quaternion)

    def on_joints(self, message: Any) -> None:
        """Takes a ``JointState`` of the arm, of the gripper, or of both; its joints may be in any order."""
        self._seen += 1
        place = {name: index for index, name in enumerate(message.name)}
        fingers = [message.position[place[name]] for name in self._topics.gripper.joints if name in place]
        if fingers:
            width = sum(fingers) if len(fingers) > 1 else 2.0 * fingers[0]
            self._fingers = np.array([0.5, -0.5]) * width
        missing = [name for name in self._topics.joint_names if name not in place]
        if len(missing) == len(self._topics.joint_names):
            return
        if missing or len(message.velocity) < len(message.name):
            what = f"no joint {', '.join(missing)}" if missing else "no velocities"
            self._trouble = f"{self._topics.joints} has {what}"
            return
        order = [place[name] for name in self._topics.joint_names]
        self._trouble = ""
        self._joints = time.monotonic(), np.array(message.position)[order], np.array(message.velocity)[order]

    def _spin(self) -> None:
        for _ in range(_BATCH):
            before = self._seen
            self._ros.spin_once()
            if self._seen == before:
                return

    def _mode(self) -> tuple[ArmMode, str]:
        if self._closed:
            return "disconnected", "the driver is closed"
        if self._trouble:
            return "disconnected", self._trouble
        target = self._topics.target
        if not self._ros.listeners():
            return "disconnected", f"nobody listens on {target}; is the controller active?"
        if others := self._ros.rivals():
            return "stopped", f"{target} has another publisher: {', '.join(others)}. Stop it; a dead one goes in 20 s"
        return ("moving" if self._started else "ready"), ""

    def _wait_for_state(self) -> None:
        limit = time.monotonic() + self._patience
        while self.state() is None:
            if time.monotonic() > limit:
                silent = self._topics.pose if self._pose is None else self._topics.joints
                raise RobotFault(
                    f"no arm: {self._trouble or f'nothing has come on {silent}'} for {self._patience:g} s. "
                    "Start the robot's driver and compare arm.topics with: ros2 topic list"
                )
            time.sleep(0.01)


class _Ros:
    """Everything that touches rclpy."""

    def __init__(self, topics: Topics, arm: TopicArm) -> None:
        try:
            import rclpy
            from geometry_msgs.msg import PoseStamped
            from rclpy.context import Context
            from rclpy.executors import SingleThreadedExecutor
            from rclpy.qos import QoSProfile, ReliabilityPolicy
            from rclpy.signals import SignalHandlerOptions
            from sensor_msgs.msg import JointState
            from std_msgs.msg import Float64MultiArray
            from std_srvs.srv import SetBool
        except ImportError as error:
            raise MissingDependencyError(
                f"arm.driver 'topics' needs ROS 2 ({error}). Source it, or in the checkout: pip install '.[ros-wheels]'"
            ) from error
        self._topics, self._stamped, self._array, self._bool = topics, PoseStamped, Float64MultiArray, SetBool
        self._context = Context()
        rclpy.init(context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self._node = rclpy.create_node(
            "arm_driver",
            context=self._context,
            use_global_arguments=False,
            enable_rosout=False,
            start_parameter_services=False,
        )
        # franka_ros2 publishes states with best effort, which a reliable subscription would never hear.
        newest = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        self._node.create_subscription(PoseStamped, topics.pose, arm.on_pose, newest)
        for name in dict.fromkeys((topics.joints, topics.gripper.state or topics.joints)):
            self._node.create_subscription(JointState, name, arm.on_joints, newest)
        self._target = self._node.create_publisher(PoseStamped, topics.target, 1)
        gripper = topics.gripper
        self._command: Any = self._node.create_publisher(Float64MultiArray, gripper.topic, 1) if gripper.topic else None
        self._service: Any = self._node.create_client(SetBool, gripper.service) if gripper.service else None
        self._executor: Any = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)

    def spin_once(self) -> None:
        self._executor.spin_once(timeout_sec=0.0)

    def target(self, pose: Pose) -> None:
        message = self._stamped()
        message.header.frame_id = self._topics.frame
        message.header.stamp = self._node.get_clock().now().to_msg()
        at, turn = message.pose.position, message.pose.orientation
        at.x, at.y, at.z = pose.position.tolist()
        turn.x, turn.y, turn.z, turn.w = pose.quaternion.tolist()
        self._target.publish(message)

    def grip(self, close: bool) -> None:
        gripper = self._topics.gripper
        if self._command is not None:
            self._command.publish(self._array(data=[gripper.closed if close else gripper.open]))
        if self._service is not None:
            self._service.call_async(self._bool.Request(data=close))

    def listeners(self) -> int:
        return int(self._node.count_subscribers(self._topics.target))

    def rivals(self) -> list[str]:
        if self._node.count_publishers(self._topics.target) < 2:
            return []
        found = self._node.get_publishers_info_by_topic(self._topics.target)
        names = [f"{one.node_namespace.rstrip('/')}/{one.node_name}" for one in found]
        names.remove("/arm_driver")
        return names

    def close(self) -> None:
        self._executor.shutdown()
        self._node.destroy_node()
        self._context.try_shutdown()
