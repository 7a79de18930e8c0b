"""Robot configurations: one YAML file for each robot, strict, with everything that differs between robots."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import yaml

from tgrpo.errors import SettingsError, UnknownNameError
from tgrpo.settings import Strict, from_builtins
from tgrpo.spec import ActionSpec
from tgrpo_ros.safety.settings import SafetySettings, check

Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]
Gain = Annotated[float, msgspec.Meta(gt=0.0)]


class Impedance(Strict, frozen=True):
    """Of the Cartesian impedance controller on the robot."""

    translational_stiffness: Annotated[float, msgspec.Meta(gt=0.0, le=3000.0)] = 600.0
    """[N/m]."""
    rotational_stiffness: Annotated[float, msgspec.Meta(gt=0.0, le=300.0)] = 30.0
    """[N m/rad]."""
    posture_stiffness: Annotated[float, msgspec.Meta(ge=0.0, le=50.0)] = 5.0
    """Pull of the null space towards the posture at the start [N m/rad]."""
    torque_step: Annotated[float, msgspec.Meta(gt=0.0, le=1.0)] = 0.5
    """Greatest change of a joint torque in one cycle of 1 ms [N m]."""
    collision_torque: Annotated[float, msgspec.Meta(gt=0.0, le=87.0)] = 40.0
    """External joint torque at which the robot stops itself [N m]."""
    collision_force: Annotated[float, msgspec.Meta(gt=0.0, le=100.0)] = 40.0
    """External force at the tool at which the robot stops itself [N, and N m for torques]."""


class GripperTopics(Strict, frozen=True):
    """A gripper behind ROS: commanded by one of topic and service."""

    topic: str = ""
    """Of ``std_msgs/Float64MultiArray``, as ros2_control's position controllers take it."""
    open: float = 0.04
    """What the topic is told to open; for most a finger's position [m]."""
    closed: float = 0.0
    """What it is told to close."""
    service: str = ""
    """Of ``std_srvs/SetBool``: true closes."""
    state: str = ""
    """Topic of its ``sensor_msgs/JointState``; empty if it is the arm's."""
    joints: tuple[str, ...] = ()
    """One or two finger joints [m]; without any the policy sees a width of 0."""


class Topics(Strict, frozen=True):
    """Names of a robot behind ROS topics, as `ros2 topic list` shows them; defaults are those of crisp_controllers."""

    joint_names: tuple[str, str, str, str, str, str, str]
    """From base to flange, as the joint states name them."""
    gripper: GripperTopics
    """How it is closed."""
    target: str = "/target_pose"
    """``geometry_msgs/PoseStamped`` to the controller; this arm's node must be its only publisher."""
    pose: str = "/current_pose"
    """``geometry_msgs/PoseStamped`` of the tool."""
    joints: str = "/joint_states"
    """``sensor_msgs/JointState`` with velocities."""
    frame: str = "base"
    """Frame of the poses."""


class ArmConfig(Strict, frozen=True):
    """The arm and how to reach it."""

    driver: Literal["sim", "franky", "topics"]
    """``sim``: a LIBERO scene. ``franky``: franky-control. ``topics``: any controller behind ROS topics."""
    host: str = ""
    """Address of a real robot's control unit."""
    impedance: Impedance = Impedance()
    """Only for ``franky``; with ``topics`` the controller has its own."""
    topics: Topics | None = None
    """Only for ``topics``."""


class CameraConfig(Strict, frozen=True):
    """One camera."""

    name: Name
    """The view's name as the policy knows it."""
    driver: Literal["sim", "realsense", "video"]
    """``sim``: rendered with the simulated arm. ``realsense``: by serial number. ``video``: a file, for rehearsals."""
    serial: str = ""
    """Serial number of a RealSense."""
    file: str = ""
    """Path of a video; for a ``realsense``, of a recording (.db3) that is played in its place."""
    width: Annotated[int, msgspec.Meta(ge=32, le=4096)] = 640
    """[px]."""
    height: Annotated[int, msgspec.Meta(ge=32, le=4096)] = 480
    """[px]."""
    rate: Annotated[float, msgspec.Meta(gt=0.0, le=120.0)] = 30.0
    """Frames per second [1/s]."""
    exposure: Annotated[int, msgspec.Meta(ge=1, le=200_000)] = 156
    """Fixed exposure of the colour sensor, in its own unit [100 us on a D4xx]."""
    white_balance: Annotated[int, msgspec.Meta(ge=2500, le=7500)] = 4600
    """Fixed white balance [K]."""


class RobotConfig(Strict, frozen=True):
    """Everything that the robot side needs to know about one robot."""

    arm: ArmConfig
    """How it is driven."""
    action: ActionSpec
    """What an action means to it."""
    safety: SafetySettings
    """Its limits."""
    cameras: tuple[CameraConfig, ...] = ()
    """Its views."""


def folder() -> Path:
    """Where the configurations that ship with the package lie.

    Raises:
        SettingsError: Neither the checkout nor the installation has them.
    """
    places = (
        Path(__file__).resolve().parent.parent / "robot_configs",
        Path(sys.prefix) / "share" / "tgrpo_ros" / "robot_configs",
    )
    for place in places:
        if place.is_dir():
            return place
    raise SettingsError(f"no robot_configs in {' or '.join(str(place) for place in places)}; reinstall the package.")


def find(robot: str) -> Path:
    """Path of a configuration given by file or by the name of one that ships with the package.

    Raises:
        UnknownNameError: There is neither.
    """
    if Path(robot).is_file():
        return Path(robot)
    shipped = {path.stem: path for path in sorted(folder().glob("*.yaml"))}
    if robot not in shipped:
        raise UnknownNameError("robot", robot, [*shipped, "path of a YAML file"])
    return shipped[robot]


def load(robot: str, workspace: Path | None = None) -> RobotConfig:
    """Reads a configuration and refuses one that must not move an arm.

    Args:
        robot: Path of a file, or the name of a configuration that ships with the package.
        workspace: YAML file with ``low`` and ``high`` of the cell's box; it replaces the configuration's own.

    Raises:
        SettingsError: A value is missing, unknown or out of range, or no workspace is given.
    """
    path = find(robot)
    data = _read(path)
    safety = data.get("safety") if isinstance(data, dict) else None
    if isinstance(safety, dict):
        if workspace is not None:
            safety["workspace"] = _read(workspace)
        if safety.get("workspace") is None:
            raise SettingsError(
                f"{path}: safety.workspace is missing, and it has no default: nobody else knows your cell. Guide the "
                "tool to two opposite corners of the box it may move in, read its position in the base frame, write "
                "'low: [x, y, z]' and 'high: [x, y, z]' in metres to a file, and name that file as the workspace."
            )
    config = from_builtins(data, RobotConfig, source=str(path))
    _check(config, path)
    return config


def _check(config: RobotConfig, path: Path) -> None:
    check(config.safety)
    arm, action = config.arm, config.action
    if config.safety.reference == "direct" and arm.driver != "sim":
        raise SettingsError(
            f"{path}: safety.reference 'direct' has no limits of speed and acceleration, so only arm.driver 'sim' "
            f"takes it, not {arm.driver!r}. Use 'follower'."
        )
    if arm.driver == "franky" and not arm.host:
        raise SettingsError(f"{path}: arm.host is empty; write the address of the robot, for example 172.16.0.2.")
    if arm.driver == "topics" and (
        arm.topics is None or bool(arm.topics.gripper.topic) is bool(arm.topics.gripper.service)
    ):
        raise SettingsError(
            f"{path}: arm.driver 'topics' needs arm.topics with joint_names, and a gripper with either a topic or a "
            "service; robot_configs/topics.yaml is an example."
        )
    if action.dims != 7 or action.control != "delta_pose" or action.rotation != "axis_angle" or action.frame != "world":
        raise SettingsError(
            f"{path}: the safety layer takes actions of 7 numbers: a translation and an axis-angle rotation relative "
            "to the pose (control delta_pose, rotation axis_angle, frame world), and the gripper."
        )
    names = [camera.name for camera in config.cameras]
    if len(set(names)) < len(names):
        raise SettingsError(f"{path}: two cameras share a name: {', '.join(names)}.")
    for camera in config.cameras:
        if camera.driver == "realsense" and not camera.serial:
            raise SettingsError(f"{path}: camera {camera.name!r} needs its serial number; `rs-enumerate-devices -s`.")
        if camera.driver == "video" and not camera.file:
            raise SettingsError(f"{path}: camera {camera.name!r} needs the path of its file.")


def _read(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingsError(f"{path}: no such file.") from error
    except yaml.YAMLError as error:
        raise SettingsError(f"{path}: not valid YAML: {error}") from error
