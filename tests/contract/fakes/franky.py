"""Stands in for the `franky` module of franky-control 2: a robot that follows its target at once.

It is the outermost edge: the driver, its process and the channel between them are the real ones. Faults come from the
file named by FAKE_FRANKY: `reflex`, `unreachable`, `hang`.
"""

import enum
import os
import time
from pathlib import Path

import numpy as np


def fault():
    path = Path(os.environ.get("FAKE_FRANKY", "/nonexistent"))
    return path.read_text().strip() if path.exists() else ""


class RobotMode(enum.Enum):
    Other, Idle, Move, Guiding, Reflex, UserStopped, AutomaticErrorRecovery = range(7)


class RealtimeConfig(enum.Enum):
    Enforce, Ignore = range(2)


class Affine:
    def __init__(self, translation, quaternion):
        self.translation, self.quaternion = np.array(translation, float), np.array(quaternion, float)


class Twist:
    def __init__(self, linear_velocity, angular_velocity):
        self.linear, self.angular = linear_velocity, angular_velocity


class PostureTask:
    def __init__(self, target, stiffness):
        assert len(target) == 7


class TorqueStopMotion:
    pass


class Duration:
    def __init__(self, seconds):
        self._seconds = seconds

    def to_msec(self):
        return int(self._seconds * 1000)


class State:
    def __init__(self, robot):
        self.time = Duration(time.monotonic() - robot.begun)
        self.O_T_EE = robot.pose
        self.q, self.dq = np.zeros(7), np.zeros(7)
        self.robot_mode = robot.mode()
        self.last_motion_errors = "[cartesian_reflex]" if self.robot_mode is RobotMode.Reflex else "[]"


class Robot:
    def __init__(self, host, realtime_config=None):
        if fault() == "unreachable":
            raise RuntimeError(f"libfranka: Connection to {host} timed out")
        while fault() == "hang":
            time.sleep(0.1)
        self.begun = time.monotonic()
        self.pose = Affine([0.5, 0.0, 0.3], [1.0, 0.0, 0.0, 0.0])
        self.is_in_control = False
        self.recovered = False

    def mode(self):
        if fault() == "reflex" and not self.recovered:
            self.is_in_control = False
            return RobotMode.Reflex
        return RobotMode.Move if self.is_in_control else RobotMode.Idle

    @property
    def state(self):
        return State(self)

    def set_collision_behavior(self, torque, force):
        assert torque > 0
        assert force > 0

    def move(self, motion, asynchronous=False):
        assert asynchronous
        self.is_in_control = False

    def join_motion(self, timeout=None):
        return True

    def recover_from_errors(self):
        self.recovered = True
        return True


class Future:
    """Of a motion that is over."""

    def wait(self, timeout):
        return True

    def get(self):
        return True


class Gripper:
    def __init__(self, host):
        self.width = 0.08

    def grasp_async(self, width, speed, force, epsilon_inner, epsilon_outer):
        self.width = 0.03
        return Future()

    def move_async(self, width, speed):
        self.width = width
        return Future()


class CartesianImpedanceTracker:
    def __init__(self, robot, *, translational_stiffness, rotational_stiffness, posture_task, max_delta_tau, **limits):
        assert set(limits) == {"lower_joint_limits", "upper_joint_limits", "joint_limit_activation_distance"}
        if robot.mode() is RobotMode.Reflex:
            raise RuntimeError("libfranka: Set Joint Impedance command rejected: command not possible in Reflex mode")
        self._robot = robot
        robot.is_in_control = True

    @property
    def is_running(self):
        self._robot.mode()
        return self._robot.is_in_control

    def set_target(self, pose, twist=None):
        self._robot.pose = pose
