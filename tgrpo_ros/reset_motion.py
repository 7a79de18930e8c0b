"""A scripted way back to the start, in free space: straight up, straight over, straight down. No ROS here.

It knows the box that the tool may be in and nothing of what stands in it, so it travels high; a person watches it. A
box is convex: a straight segment is inside if both its ends are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tgrpo import rotation
from tgrpo.errors import RobotFault
from tgrpo.spec import ActionSpec
from tgrpo.types import FloatArray
from tgrpo_ros.motion import Pose
from tgrpo_ros.safety.settings import Workspace

TRAVEL = 0.15
"""Height above the higher end at which the tool travels [m]."""
REACHED, TURNED = 0.005, 0.03
"""How near a way point has to be [m], [rad]."""
SPEED = 0.5
"""Share of an action of 1 that a step uses at most."""


@dataclass(frozen=True, eq=False)
class Segment:
    """A straight motion."""

    name: str
    goal: Pose


def plan(start: Pose, goal: Pose, box: Workspace, travel: float = TRAVEL) -> list[Segment]:
    """The segments from where the tool is to the start.

    Args:
        start: Where it is.
        goal: Where it should be.
        box: Where the tool may be.
        travel: Height above the higher end at which it travels [m].

    Raises:
        RobotFault: A segment leaves the box.
    """
    height = max(start.position[2], goal.position[2]) + travel
    above = np.array([*start.position[:2], height])
    over = np.array([*goal.position[:2], height])
    segments = [
        Segment("up", Pose(above, start.quaternion)),
        Segment("over", Pose(over, goal.quaternion)),
        Segment("down", goal),
    ]
    for name, position in [("its beginning", start.position), *((s.name, s.goal.position) for s in segments)]:
        for axis, value, low, high in zip("xyz", position, box.low, box.high, strict=True):
            if not low <= value <= high:
                raise RobotFault(
                    f"the way to the start leaves the workspace: {name} has {axis} {value:.3f} m, allowed {low} to "
                    f"{high} m. Guide the arm to the start by hand or with teleoperation."
                )
    return segments


class ResetMotion:
    """Follows a plan with one action for each control step, always from where the tool was measured.

    Attributes:
        done: Whether it has arrived.
    """

    def __init__(self, segments: list[Segment], spec: ActionSpec, gripper_open: float) -> None:
        """Begins with the first segment.

        Args:
            segments: Of :func:`plan`.
            spec: What an action means to the robot.
            gripper_open: The gripper's action that opens it.
        """
        self._left, self._spec, self._gripper = list(segments), spec, gripper_open

    @property
    def done(self) -> bool:
        """Whether it has arrived."""
        return not self._left

    @property
    def doing(self) -> str:
        """Name of the present segment."""
        return self._left[0].name if self._left else "there"

    def action(self, measured: Pose) -> FloatArray:
        """The next action ``(7,)``; no motion once it has arrived.

        Args:
            measured: Where the tool is.
        """
        while self._left and self._is_there(measured, self._left[0].goal):
            self._left.pop(0)
        action = np.zeros(7)
        action[6] = self._gripper
        if self._left:
            goal = self._left[0].goal
            way = (goal.position - measured.position) / self._spec.position_scale
            turn = rotation.difference(goal.quaternion, measured.quaternion) / self._spec.rotation_scale
            action[:3], action[3:6] = _at_most(way, SPEED), _at_most(turn, SPEED)
        return action

    def _is_there(self, measured: Pose, goal: Pose) -> bool:
        near = float(np.linalg.norm(goal.position - measured.position)) < REACHED
        return near and float(np.linalg.norm(rotation.difference(goal.quaternion, measured.quaternion))) < TURNED


def _at_most(vector: FloatArray, limit: float) -> FloatArray:
    """The vector, shortened to a length."""
    length = float(np.linalg.norm(vector))
    return vector * (limit / length) if length > limit else vector
