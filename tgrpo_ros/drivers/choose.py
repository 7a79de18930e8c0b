"""Opens the drivers that a robot configuration names."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from tgrpo.errors import SettingsError, UnknownNameError
from tgrpo_ros.drivers.base import Arm, Camera, Teleop
from tgrpo_ros.drivers.franky import FrankyArm
from tgrpo_ros.drivers.gamepad import Gamepad
from tgrpo_ros.drivers.keyboard import Keyboard
from tgrpo_ros.drivers.realsense import RealSense
from tgrpo_ros.drivers.sim_arm import SimArm, SimCamera
from tgrpo_ros.drivers.spacemouse import SpaceMouse
from tgrpo_ros.drivers.teleop import TeleopSettings
from tgrpo_ros.drivers.video import VideoCamera
from tgrpo_ros.robot_config import CameraConfig, RobotConfig

DEVICES: dict[str, Callable[[TeleopSettings], Teleop]] = {
    "spacemouse": SpaceMouse,
    "gamepad": Gamepad,
    "keyboard": lambda settings: Keyboard(sys.stdin.fileno(), settings),
}
"""Teleoperation devices by name."""


def open_arm(config: RobotConfig, scene: str = "") -> Arm:
    """Opens the arm of a robot.

    Args:
        config: Of the robot.
        scene: Address of the scene, for the driver ``sim``.

    Raises:
        SettingsError: The scene's address is missing.
        MissingDependencyError: The driver's library is not installed.
        RobotFault: The robot cannot be reached.
    """
    if config.arm.driver == "sim":
        return SimArm(_needed(scene))
    if config.arm.driver == "franky":
        return FrankyArm(config.arm, config.safety.joints)
    if config.arm.topics is None:
        raise SettingsError("arm.driver 'topics' needs arm.topics; robot_configs/topics.yaml is an example.")
    from tgrpo_ros.drivers.topics import TopicArm  # the only driver that needs ROS

    return TopicArm(config.arm.topics)


def open_camera(config: CameraConfig, scene: str = "") -> Camera:
    """Opens one camera.

    Args:
        config: Of the camera.
        scene: Address of the scene, for the driver ``sim``.

    Raises:
        SettingsError: The scene's address is missing.
    """
    if config.driver == "sim":
        return SimCamera(_needed(scene), config.name)
    if config.driver == "realsense":
        return RealSense(config)
    return VideoCamera(config.name, Path(config.file))


def open_teleop(device: str, settings: TeleopSettings) -> Teleop:
    """Opens a teleoperation device.

    Args:
        device: One of :data:`DEVICES`.
        settings: How it feels.

    Raises:
        UnknownNameError: There is no such device.
    """
    if device not in DEVICES:
        raise UnknownNameError("teleoperation device", device, DEVICES)
    return DEVICES[device](settings)


def _needed(scene: str) -> str:
    if not scene:
        raise SettingsError("the driver 'sim' needs the address of a scene: start one with `tgrpo sim-robot`.")
    return scene
