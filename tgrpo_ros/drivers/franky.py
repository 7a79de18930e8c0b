"""A Franka Research 3 through franky-control, which runs in a process of its own."""

from __future__ import annotations

import time

import numpy as np

from tgrpo import rotation
from tgrpo.errors import MissingDependencyError, RobotFault
from tgrpo_ros.drivers import franky_messages as messages
from tgrpo_ros.drivers.base import finite
from tgrpo_ros.drivers.link import ChildProcess, failed
from tgrpo_ros.motion import ArmState, Pose, Reference
from tgrpo_ros.robot_config import ArmConfig
from tgrpo_ros.safety.settings import JointLimits

MODULE = "tgrpo_ros.drivers.franky_process"
CONNECT_PATIENCE = 15.0
"""How long connecting may take [s]: a robot that serves somebody else just does not answer."""
ANSWER_PATIENCE = 3.0
"""How long starting, stopping or recovering may take [s]."""


class FrankyArm:
    """Drives an FR3; see :class:`tgrpo_ros.drivers.base.Arm`."""

    simulated = False

    def __init__(self, config: ArmConfig, joints: JointLimits) -> None:
        """Connects to the robot; nothing moves.

        Args:
            config: Address and impedance.
            joints: Where the controller pushes back.

        Raises:
            MissingDependencyError: franky-control is not installed.
            RobotFault: The robot cannot be reached or permits nothing.
        """
        self._state: ArmState | None = None
        self._replies: list[messages.Done | messages.Refused] = []
        self._started = self._closed = False
        self._process: ChildProcess[messages.FromRobot] = ChildProcess(MODULE, messages.FromRobot)
        gains = config.impedance
        try:
            self._send(
                messages.Connect(
                    host=config.host,
                    translational_stiffness=gains.translational_stiffness,
                    rotational_stiffness=gains.rotational_stiffness,
                    posture_stiffness=gains.posture_stiffness,
                    torque_step=gains.torque_step,
                    collision_torque=gains.collision_torque,
                    collision_force=gains.collision_force,
                    joint_low=joints.low,
                    joint_high=joints.high,
                    joint_margin=joints.margin,
                )
            )
            self._wait_for_report(config.host)
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Process id of the process that holds the robot."""
        return self._process.pid

    def now(self) -> float:
        """The steady clock of this machine [s]."""
        return time.monotonic()

    def state(self) -> ArmState | None:
        """The newest report; its mode is ``disconnected`` once the process is gone."""
        try:
            self._read(0.0)
        except (EOFError, RobotFault) as error:
            self._lost(str(error))
        return self._state

    def start(self) -> None:
        """Starts the impedance controller at the present pose.

        Raises:
            RobotFault: The robot does not permit it.
        """
        self._request(messages.Start())
        self._started = True

    def follow(self, reference: Reference) -> None:
        """Sends the next reference.

        Raises:
            ValueError: It is not finite.
        """
        pose = reference.pose
        if not finite(reference):
            raise ValueError("a reference must be finite")
        if not self._started:
            return
        numbers = (pose.position, pose.quaternion, reference.linear, reference.angular)
        position, quaternion, linear, angular = (tuple(values.tolist()) for values in numbers)
        message = messages.Follow(position=position, quaternion=quaternion, linear=linear, angular=angular)
        try:
            self._process.channel.send(message)
        except EOFError as error:
            self._lost(str(error))

    def grip(self, close: bool) -> None:
        """Begins to close or open the gripper."""
        self._send(messages.Grip(close=close))

    def stop(self) -> None:
        """Stops the controller softly; a process that is gone has stopped it already."""
        self._started = False
        if not self._closed and self._process.alive:
            try:
                self._request(messages.Stop())
            except RobotFault as error:
                # Without its controller the robot stops by itself, after 20 ms of silence.
                self._process.kill()
                self._lost(str(error))

    def recover(self) -> None:
        """Clears a reflex.

        Raises:
            RobotFault: There is none, or the robot does not clear it.
        """
        self._started = False
        self._request(messages.Recover())

    def close(self) -> None:
        """Stops and ends the process."""
        if not self._closed:
            self._closed, self._started = True, False
            self._process.close()

    def _send(self, message: messages.ToRobot) -> None:
        try:
            self._process.channel.send(message)
        except EOFError as error:
            self._lost(str(error))
            raise RobotFault(f"the process that holds the robot is gone: {error}") from error

    def _request(self, message: messages.ToRobot) -> None:
        self._replies.clear()
        self._send(message)
        until = time.monotonic() + ANSWER_PATIENCE
        while not self._replies:
            if time.monotonic() > until:
                raise RobotFault(f"the robot has not answered {type(message).__name__} for {ANSWER_PATIENCE:g} s")
            try:
                self._read(0.05)
            except EOFError as error:
                self._lost(str(error))
                raise RobotFault(f"the process that holds the robot is gone: {error}") from error
        reply = self._replies.pop()
        if isinstance(reply, messages.Refused):
            raise RobotFault(f"the robot refuses to {type(message).__name__.lower()}: {reply.reason}")

    def _wait_for_report(self, host: str) -> None:
        until = time.monotonic() + CONNECT_PATIENCE
        while self._state is None:
            if time.monotonic() > until:
                raise RobotFault(
                    f"the robot at {host} has not answered for {CONNECT_PATIENCE:g} s. Check the cable and FCI in "
                    "Desk; a robot that another program is connected to does not answer either."
                )
            try:
                self._read(0.1)
            except EOFError as error:
                raise RobotFault(f"the process that holds the robot ended: {error}") from error
            except RobotFault as error:
                if "pip install" in str(error):
                    raise MissingDependencyError(str(error)) from error
                raise

    def _read(self, timeout: float) -> None:
        if self._closed:
            return
        arrived = self._process.channel.receive(timeout)
        failed(arrived)
        for message in arrived:
            if isinstance(message, messages.State):
                newest = message
            elif isinstance(message, messages.Done | messages.Refused):
                self._replies.append(message)
        if any(isinstance(message, messages.State) for message in arrived):
            self._state = _state(newest)

    def _lost(self, why: str) -> None:
        self._started = False
        if self._state is not None:
            last = self._state
            self._state = ArmState(
                last.time, last.received, last.pose, last.joints, last.joint_velocities, last.fingers, last.proprio,
                "disconnected", f"the process that holds the robot is gone: {why}",
            )  # fmt: skip


def _state(message: messages.State) -> ArmState:
    pose = Pose(np.array(message.position), rotation.normalised(message.quaternion))
    fingers = np.array([0.5, -0.5]) * message.width
    proprio = np.concatenate([pose.position, rotation.to_vector(pose.quaternion), fingers])
    return ArmState(
        time=message.time,
        received=message.stamp,
        pose=pose,
        joints=np.array(message.joints),
        joint_velocities=np.array(message.joint_velocities),
        fingers=fingers,
        proprio=proprio.astype(np.float32),
        mode=message.mode,
        error=message.error,
    )
