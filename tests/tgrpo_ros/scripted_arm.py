"""Arms that are told how to fail."""

import time
from types import SimpleNamespace

import numpy as np

from tgrpo import rotation
from tgrpo.errors import RobotFault
from tgrpo_ros.motion import ArmState, Pose


class ScriptedArm:
    """Is at once where its reference is; with ``step`` it has a clock of its own that each reference advances."""

    simulated = True

    def __init__(self, step=None):
        self.pose = Pose(np.array([0.5, 0.0, 0.3]), rotation.identity())
        self.step, self.steps = step, 0
        self.started, self.calls, self.mode, self.fault = False, [], "ready", None
        self.speed = 0.0

    def now(self):
        return time.monotonic() if self.step is None else self.steps * self.step

    def state(self):
        if self.fault:
            raise RobotFault(self.fault)
        joints, speeds, proprio = np.zeros(7), np.full(7, self.speed), np.zeros(8, np.float32)
        return ArmState(self.now(), self.now(), self.pose, joints, speeds, np.zeros(2), proprio, self.mode)

    def start(self):
        self.calls.append("start")
        if self.mode == "reflex":
            raise RobotFault("the robot is in a reflex")
        self.started = True

    def follow(self, reference):
        if self.started:
            self.pose = reference.pose
            self.steps += 1

    def grip(self, close):
        self.calls.append(f"grip {close}")

    def stop(self):
        self.calls.append("stop")
        self.started = False

    def recover(self):
        self.calls.append("recover")
        self.mode = "ready"

    def close(self):
        self.calls.append("close")


class ScriptedScene(ScriptedArm):
    """What an episode asks of a simulated arm."""

    success, stage, episode = False, 0, 1

    def __init__(self, step=None, pace="fast"):
        super().__init__(step)
        self.description = SimpleNamespace(pace=pace)

    def reset(self, init_state, seed):
        if init_state > 9:
            raise RobotFault("there is no such state")
        self.episode += 1
