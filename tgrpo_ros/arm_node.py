"""ROS 2 lifecycle node of the arm: the only one that moves it, and the owner of the safety layer.

Subscribes:
    ``~/command`` (std_msgs/Float64MultiArray): actions and leases of policy, reset and human, see
    :mod:`tgrpo_ros.messages`. Pictures are watched over ZeroMQ.

Publishes (relative to the node, ``rate_of_reports`` times a second):
    ``~/status`` (std_msgs/String, latched): JSON of :class:`tgrpo_ros.status.ArmStatus`, at once when it changes.
    ``~/joint_states`` (sensor_msgs/JointState), ``~/pose`` and ``~/reference`` (geometry_msgs/PoseStamped).
    ``~/proprio`` (std_msgs/Float64MultiArray): what policies see, with the steady time.
    ``~/executed`` (std_msgs/String): JSON of :class:`tgrpo_ros.traffic.Executed`, each action when it begins.
    TF from base to tool where tf2 is installed.

Services (std_srvs/Trigger): ``~/arm``, ``~/stop``, ``~/acknowledge``, ``~/recover``; ``~/reset`` for a simulated arm.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, String
from std_srvs.srv import Trigger

from tgrpo.errors import RobotFault, WireError
from tgrpo_ros import robot_config, status, traffic
from tgrpo_ros.control import ControlLoop, Report
from tgrpo_ros.drivers.base import Arm
from tgrpo_ros.drivers.choose import open_arm
from tgrpo_ros.drivers.sim_arm import SimArm
from tgrpo_ros.frames import FrameReceiver, address_of
from tgrpo_ros.host_lock import HostLock
from tgrpo_ros.managed import ERROR, LATCHED, OK, WARN, Health, ManagedNode, run
from tgrpo_ros.messages import command_of, pose_message, proprio_message
from tgrpo_ros.motion import ArmState
from tgrpo_ros.parameters import ROBOT, Option
from tgrpo_ros.safety import Guard
from tgrpo_ros.sim_episode import SimEpisode
from tgrpo_ros.transforms import Transforms

STATUS_PERIOD = 0.1
"""Longest time between two statuses [s]."""
SWITCH_INTERVAL = 0.0005
"""How long another thread may keep the control loop from running [s]; Python's default is 5 ms."""
JOINTS = [f"joint{number}" for number in range(1, 8)] + ["finger_joint1", "finger_joint2"]
OPTIONS = (
    *ROBOT,
    Option("rate_of_reports", 50.0, "rate of states for ROS tools and the policy [1/s]", low=1.0, high=1000.0),
    Option("base_frame", "base_link", "frame that poses are in"),
    Option("tool_frame", "tool0", "frame of the tool, for TF"),
    Option("init_state", 0, "recorded initial state that ~/reset of a simulated arm begins at", dynamic=True),
    Option("seed", 0, "seed of fixture poses in ~/reset of a simulated arm", dynamic=True),
    Option("max_steps", 0, "control steps after which an episode that ~/reset begins is over; 0: never", dynamic=True),
)


class ArmNode(ManagedNode):
    """Driver, safety layer and control loop of one arm."""

    def __init__(self) -> None:
        super().__init__("tgrpo_arm", OPTIONS, "arm")
        self._arm: Arm | None = None
        self._guard: Guard | None = None
        self._scene: SimEpisode | None = None
        self._loop: ControlLoop | None = None
        self._watch: _Watch | None = None
        self._closers = contextlib.ExitStack()
        self._status: status.ArmStatus | None = None
        self._status_due = 0.0

    def open(self) -> None:
        """Opens the arm; it does not move."""
        config = self._config = robot_config.load(self.value("robot"), self.workspace())
        address = self.value("scene") if config.arm.driver == "sim" else config.arm.host
        self._closers.enter_context(HostLock(f"arm at {address or self.get_fully_qualified_name()}"))
        if config.arm.driver == "sim":
            self.scene_description()
        arm = self._arm = open_arm(config, self.value("scene"))
        self._closers.callback(arm.close)
        self._scene = SimEpisode(arm) if isinstance(arm, SimArm) else None
        cameras = [camera.name for camera in config.cameras]
        still = [camera.name for camera in config.cameras if camera.driver != "realsense"]
        self._guard = Guard(config.safety, config.action, cameras, arm.now(), still)
        self._status_topic = self.publisher(String, "~/status", LATCHED)
        self._joints = self.publisher(JointState, "~/joint_states", 10)
        self._pose = self.publisher(PoseStamped, "~/pose", 10)
        self._reference = self.publisher(PoseStamped, "~/reference", 10)
        self._proprio = self.publisher(Float64MultiArray, "~/proprio", 1)
        self._executed, self._executed_at = self.publisher(String, "~/executed", 100), -1.0
        self._transforms = Transforms(self)
        self.subscribe(Float64MultiArray, "~/command", self._command, 10)
        for name, ask in (
            ("arm", lambda loop: loop.arm()),
            ("stop", lambda loop: loop.stop("an operator")),
            ("acknowledge", lambda loop: loop.acknowledge()),
            ("recover", lambda loop: loop.recover()),
            ("reset", self._reset),
        ):
            self.serve(Trigger, f"~/{name}", self._service(ask))

    def begin(self) -> None:
        """Begins to tick; the arm waits to be armed."""
        if self._arm is None or self._guard is None:
            raise RobotFault("the arm is not open; configure the node first.")
        cameras = self._config.cameras
        self._loop = ControlLoop(
            self._arm,
            self._guard,
            self._config.safety,
            self._report,
            every=max(1, round(self._config.safety.rate / self.value("rate_of_reports"))),
            scene=self._scene,
            cameras=[camera.name for camera in cameras if camera.driver == "sim"],
        )
        addresses = {camera.name: address_of(camera.name, self.get_namespace()) for camera in cameras}
        self._watch = _Watch(FrameReceiver(addresses, images=False), self._loop)
        self._loop.start()

    def pause(self) -> None:
        """Stops the arm."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        if self._loop is not None:
            self._loop.close()
            self._loop = None

    def shut(self) -> None:
        """Frees the arm."""
        self.pause()
        self._closers.close()
        self._arm = self._guard = self._scene = None

    def failure(self) -> str:
        """Why nobody drives the arm any more."""
        return "" if self._loop is None else self._loop.failure

    def health(self) -> Health:
        """Rate, jitter and age of ticks; level and reason of the safety layer."""
        health = Health()
        if self._loop is not None:
            health.add(self._loop.meter)
        now = self._status
        if now is not None:
            health.level = {"RUN": OK, "FAULT": ERROR}.get(now.level, WARN)
            health.message = f"{now.level} {now.reason}".strip()
            health.values |= {
                "detail": now.detail,
                "source": now.source or "nobody",
                "leases": ", ".join(f"{source}={session}" for source, session in now.leases.items()),
                "missed ticks": str(now.missed),
                "starved": str(now.starved),
                "refused": ", ".join(f"{reason}: {count}" for reason, count in now.refused.items()),
            }
        return health

    def _reset(self, loop: ControlLoop) -> str:
        loop.limit_steps(self.value("max_steps"))
        return loop.reset(self.value("init_state"), self.value("seed"))

    def _service(self, ask: Callable[[ControlLoop], str]) -> Callable[[Any, Any], Any]:
        def answer(_: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
            try:
                if self._loop is None:
                    raise RobotFault("the arm node is not active; activate it first.")
                response.success, response.message = True, ask(self._loop)
            except RobotFault as error:
                response.success, response.message = False, str(error)
            return response

        return answer

    def _command(self, message: Float64MultiArray) -> None:
        if self._loop is None:
            return
        try:
            command = command_of(message)
        except WireError as error:
            self.get_logger().warning(str(error), throttle_duration_sec=1.0)
            return
        if len(command.actions):
            self._loop.submit(command)
        elif command.engaged:
            self._loop.keep(command.source, command.session)
        else:
            self._loop.release(command.source, command.session)

    def _report(self, report: Report) -> None:
        """Publishes what there is to know; called by the control loop."""
        stamp = self.get_clock().now().to_msg()
        if report.state is not None:
            self._publish_state(report.state, report.now, stamp)
        # After the state: who hears that it is their turn must not decide on where the arm was before.
        now = time.monotonic()  # not the arm's clock: that of a scene that waits stands, and silence would mean death
        if report.status != self._status or now >= self._status_due:
            self._status, self._status_due = report.status, now + STATUS_PERIOD
            self._status_topic.publish(String(data=status.encode(report.status)))
        output = report.output
        if output is None:
            return
        if output.reference is not None:
            self._publish_pose(self._reference, pose_message(output.reference.pose, self.value("base_frame")), stamp)
        if output.action is not None and output.source is not None and report.began != self._executed_at:
            self._executed_at = report.began  # a scene that waits reports its last tick again and again
            sequence, index = output.taken
            done = traffic.Executed(
                at=report.began,
                source=output.source.name.lower(),  # type: ignore[arg-type]
                sequence=sequence,
                index=index,
                action=output.action.tolist(),
            )
            self._executed.publish(String(data=traffic.encode(done)))

    def _publish_state(self, state: ArmState, now: float, stamp: Any) -> None:
        self._proprio.publish(proprio_message(now, state.proprio))
        message = JointState(name=JOINTS)
        message.header.stamp = stamp
        message.position = [*state.joints.tolist(), *state.fingers.tolist()]
        message.velocity = [*state.joint_velocities.tolist(), 0.0, 0.0]
        self._joints.publish(message)
        pose = pose_message(state.pose, self.value("base_frame"))
        self._publish_pose(self._pose, pose, stamp)
        self._transforms.send(pose, self.value("tool_frame"))

    def _publish_pose(self, publisher: Any, message: PoseStamped, stamp: Any) -> None:
        message.header.stamp = stamp
        publisher.publish(message)


class _Watch:
    """Tells the control loop about pictures, in a thread of its own."""

    def __init__(self, receiver: FrameReceiver, loop: ControlLoop) -> None:
        self._receiver, self._loop = receiver, loop
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pictures", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the thread."""
        self._closing.set()
        self._thread.join()
        self._receiver.close()

    def _run(self) -> None:
        while not self._closing.is_set():
            for sighting in self._receiver.receive(0.1).values():
                self._loop.see(sighting.header)


def main(args: list[str] | None = None) -> int:
    """Entry point of ``tgrpo_arm_node``."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    return run(ArmNode, args)


if __name__ == "__main__":
    sys.exit(main())
