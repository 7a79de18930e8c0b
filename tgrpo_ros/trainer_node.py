"""ROS 2 node that runs the training loop as a child process and shows its progress.

Publishes (all relative to the node):
    ``~/metrics`` (std_msgs/String, latched): one JSON object an iteration, as in ``metrics.jsonl``.
    ``~/image/compressed`` (sensor_msgs/CompressedImage): the newest rollout picture.
    ``/diagnostics`` (diagnostic_msgs/DiagnosticArray): state and key figures, once a second.

Services (std_srvs/Trigger): ``~/pause``, ``~/resume``, ``~/checkpoint``, ``~/stop``.

The node ends with the exit code of the training loop. Ctrl-C stops the loop with a checkpoint.
"""

from __future__ import annotations

import array
import json
import signal
import sys
import time
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.exceptions import ParameterException
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, qos_profile_sensor_data
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import String
from std_srvs.srv import Trigger

from tgrpo.errors import TgrpoError
from tgrpo_ros.child import TrainingProcess, find_command
from tgrpo_ros.run_watch import FrameWatch, MetricsTail, read_status
from tgrpo_ros.trainer_parameters import NODE_ONLY, OPTIONS, train_command

EXIT_USAGE = 2
WATCH_PERIOD = 0.2
"""Between two looks at the run folder [s]."""
LATCHED = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
WORDS = {
    "pause": "the training pauses after the current step",
    "resume": "the training goes on",
    "checkpoint": "a checkpoint is written after the current iteration",
    "stop": "the training stops with a checkpoint",
}
LEVELS = {"failed": DiagnosticStatus.ERROR, "paused": DiagnosticStatus.WARN, "stopping": DiagnosticStatus.WARN}
SHOWN = ("groups_solved", "return_mean", "loss", "kl", "steps_per_second", "environment_steps")


class TrainerNode(Node):
    """Parameters, topics and services around one :class:`TrainingProcess`."""

    def __init__(self) -> None:
        super().__init__("tgrpo_trainer")
        for option in (*OPTIONS, *NODE_ONLY):
            self.declare_parameter(option.name, option.default, option.descriptor())
        settings = {option.name: self.get_parameter(option.name).value for option in (*OPTIONS, *NODE_ONLY)}
        command, folder = train_command(find_command(), settings)
        self.folder = folder
        self._metrics_tail = MetricsTail(folder / "metrics.jsonl")
        self._frames = FrameWatch(folder / "live" / "frame.jpg", 1.0 / settings["image_rate"])
        self._latest: dict[str, Any] = {}
        self._metrics = self.create_publisher(String, "~/metrics", LATCHED)
        self._image = self.create_publisher(CompressedImage, "~/image/compressed", qos_profile_sensor_data)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.get_logger().info(f"run folder: {folder}")
        self.child = TrainingProcess(command)
        for word in WORDS:
            self.create_service(Trigger, f"~/{word}", self._control(word))
        self.create_timer(WATCH_PERIOD, self.watch)
        self.create_timer(1.0, self.diagnose)

    def _control(self, word: str) -> Any:
        def answer(_: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
            response.success = self.child.send(word)
            response.message = WORDS[word] if response.success else "the training has already ended"
            return response

        return answer

    def watch(self) -> None:
        """Publishes what is new in the run folder."""
        for line in self._metrics_tail.read():
            self._metrics.publish(String(data=line))
            self._latest = json.loads(line)
        picture = self._frames.read(time.monotonic())
        if picture is not None:
            message = CompressedImage(format="jpeg", data=array.array("B", picture))
            message.header.stamp = self.get_clock().now().to_msg()
            message.header.frame_id = "agentview"
            self._image.publish(message)

    def diagnose(self) -> None:
        """Publishes the state of the run to ``/diagnostics``."""
        status = read_status(self.folder / "status.json")
        code = self.child.poll()
        state = "failed" if code else str(status.get("state", "starting"))
        values = {
            "state": state,
            "iteration": f"{status.get('iteration', 0)}/{status.get('iterations', 0)}",
            "run_dir": str(self.folder),
            **{name: f"{self._latest[name]:.6g}" for name in SHOWN if isinstance(self._latest.get(name), (int, float))},
        }
        message = DiagnosticArray()
        message.header.stamp = self.get_clock().now().to_msg()
        message.status = [
            DiagnosticStatus(
                level=LEVELS.get(state, DiagnosticStatus.OK),
                name=f"{self.get_name()}: training",
                message=str(status.get("message") or state),
                hardware_id="simulation",
                values=[KeyValue(key=key, value=value) for key, value in values.items()],
            )
        ]
        self._diagnostics.publish(message)


def supervise(node: TrainerNode) -> int:
    """Serves the node until the training loop has ended, in the calling thread.

    Returns:
        The exit code of the training loop.
    """
    signal.signal(signal.SIGINT, lambda *_: node.child.interrupt())
    signal.signal(signal.SIGTERM, lambda *_: node.child.terminate())
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        while node.child.poll() is None:
            executor.spin_once(timeout_sec=0.1)
        node.watch()
        node.diagnose()
    finally:
        node.child.kill()
        code = node.child.close()
        executor.shutdown()
    return code


def main(args: list[str] | None = None) -> int:
    """Entry point of ``tgrpo_trainer_node``."""
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = TrainerNode()
        code = supervise(node)
        if code:
            node.get_logger().error(f"the training loop ended with exit code {code}; run folder: {node.folder}")
        node.destroy_node()
    except (TgrpoError, ParameterException) as error:
        rclpy.logging.get_logger("tgrpo_trainer").fatal(str(error))
        code = EXIT_USAGE
    finally:
        rclpy.try_shutdown()
    return code


if __name__ == "__main__":
    sys.exit(main())
