"""What the franky driver and its process say to each other."""

from __future__ import annotations

from tgrpo_ros.drivers.link import Failed, Message
from tgrpo_ros.motion import ArmMode

Vector = tuple[float, float, float]
Quaternion = tuple[float, float, float, float]
Seven = tuple[float, float, float, float, float, float, float]


class Connect(Message, frozen=True):
    """The first message: which robot, and how it is controlled."""

    host: str
    translational_stiffness: float
    rotational_stiffness: float
    posture_stiffness: float
    torque_step: float
    collision_torque: float
    collision_force: float
    joint_low: Seven
    joint_high: Seven
    joint_margin: float


class Start(Message, frozen=True):
    """Start the impedance controller at the present pose."""


class Follow(Message, frozen=True):
    """The next reference. Its absence for 0.1 s stops the controller."""

    position: Vector
    quaternion: Quaternion
    linear: Vector
    angular: Vector


class Grip(Message, frozen=True):
    """Close or open."""

    close: bool


class Stop(Message, frozen=True):
    """Stop the controller softly."""


class Recover(Message, frozen=True):
    """Clear a reflex."""


class State(Message, frozen=True):
    """One report of the robot."""

    time: float
    """Clock of the robot [s]."""
    stamp: float
    """Steady clock of the machine [s]."""
    position: Vector
    quaternion: Quaternion
    joints: Seven
    joint_velocities: Seven
    width: float
    """Of the gripper [m]."""
    mode: ArmMode
    error: str


class Refused(Message, frozen=True):
    """A request was not carried out; the process goes on."""

    reason: str


class Done(Message, frozen=True):
    """A request was carried out: start, stop or recover."""


ToRobot = Connect | Start | Follow | Grip | Stop | Recover
FromRobot = State | Done | Refused | Failed
