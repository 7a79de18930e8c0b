"""Smooth Cartesian motions: generators that yield one clean action for each control step.

A motion never touches the simulator: it reads the scene, yields what the expert wants to do and is
resumed after whoever runs it has executed that action, perturbed or not. All motions are feedback
laws of the present state, so that a perturbation is answered by a correction.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from sim.expert.geometry import Matrix, Vector, rotation_error
from sim.expert.scene import Scene
from tgrpo.types import FloatArray

OPEN, CLOSE = -1.0, 1.0
GAIN = 18.0
"""Action per metre of error; 1 commands 0.05 m, so 90 % of the error is commanded [1/m]."""
TURN_GAIN = 2.4
"""Action per radian of error; 1 commands 0.5 rad [1/rad]."""

FUNNEL_SLOPE = 2.0
"""Height above the target for each metre of horizontal distance beyond :data:`FUNNEL_RADIUS`."""
FUNNEL_RADIUS = 0.02
"""Horizontal distance at which a motion may be all the way down [m]."""
DESCENT = 0.6
"""Fastest downward action of a hop; at full speed the arm drifts sideways by up to 20 mm."""
PATIENCE = 10
"""Control steps without coming nearer after which a motion close to its target counts as blocked."""


class Command(NamedTuple):
    """What the expert wants to do in one control step."""

    action: FloatArray
    """``(7,)`` in [-1, 1]."""
    slack: float
    """How much perturbation the motion tolerates now: 1 far from everything, less where it is delicate."""


class SkillFailedError(Exception):
    """The motion cannot reach its purpose from here; another candidate may."""


def command(scene: Scene, velocity: Vector, rotation: Matrix | None, gripper: float, slack: float = 1.0) -> Command:
    """Builds one action.

    Args:
        scene: Present state.
        velocity: Position part of the action ``(3,)``.
        rotation: Wanted orientation of the gripper ``(3, 3)``; None keeps the commanded one.
        gripper: -1 opens, +1 closes.
        slack: See :class:`Command`.
    """
    action = np.zeros(7)
    action[:3] = velocity
    if rotation is not None:
        action[3:6] = TURN_GAIN * rotation_error(rotation, scene.eef_rotation())
    action[6] = gripper
    return Command(np.clip(action, -1.0, 1.0), slack)


def _limited(velocity: Vector, speed: float) -> Vector:
    largest = float(np.abs(velocity).max())
    return velocity * (speed / largest) if largest > speed else velocity


def _turn(scene: Scene, rotation: Matrix | None) -> float:
    return 0.0 if rotation is None else float(np.linalg.norm(rotation_error(rotation, scene.eef_rotation())))


def _slack(distance: float) -> float:
    return float(np.clip(distance / 0.05, 0.25, 1.0))


def go(
    scene: Scene,
    target: Vector,
    rotation: Matrix | None,
    gripper: float,
    *,
    tolerance: float = 0.01,
    steps: int = 60,
    speed: float = 1.0,
) -> Iterator[Command]:
    """Moves straight to a point.

    Args:
        scene: Present state.
        target: Point to reach ``(3,)`` [m].
        rotation: Orientation to reach ``(3, 3)``; None keeps the commanded one.
        gripper: -1 opens, +1 closes.
        tolerance: Distance at which the motion ends [m].
        steps: Control steps after which it ends anyway.
        speed: Largest component of the position action, in (0, 1].
    """
    for _ in range(steps):
        error = target - scene.eef_position()
        distance = float(np.linalg.norm(error))
        if distance < tolerance and _turn(scene, rotation) < 0.1:
            return
        yield command(scene, _limited(error * GAIN, speed), rotation, gripper, _slack(distance))


def hop(
    scene: Scene,
    target: Vector,
    rotation: Matrix,
    gripper: float,
    *,
    height: float,
    tolerance: float = 0.006,
    steps: int = 90,
) -> Iterator[Command]:
    """Moves to a point from above: up, across and down in one smooth curve.

    The wanted height is a function of the horizontal distance and the remaining turn alone, a funnel
    above the target, and the horizontal speed fades out while the gripper is below that height.

    Args:
        scene: Present state.
        target: Point to reach ``(3,)`` [m].
        rotation: Orientation to reach ``(3, 3)``.
        gripper: -1 opens, +1 closes.
        height: Height at which to travel [m].
        tolerance: Distance at which the motion ends [m].
        steps: Control steps after which it ends anyway.
    """
    rise = max(height - float(target[2]), 0.0)
    nearest, stalled = np.inf, 0
    for _ in range(steps):
        error = target - scene.eef_position()
        away = float(np.linalg.norm(error[:2]))
        turn = _turn(scene, rotation)
        distance = float(np.linalg.norm(error))
        stalled = 0 if distance < nearest - 0.001 else stalled + 1
        nearest = min(nearest, distance)
        if (distance < tolerance and turn < 0.08) or (stalled >= PATIENCE and away < 0.025):
            return
        funnel = np.clip(FUNNEL_SLOPE * (away - FUNNEL_RADIUS) + 0.3 * max(turn - 0.15, 0.0), 0.0, rise)
        climb = float(error[2] + funnel)
        across = np.clip(1.0 - (climb - 0.03) / 0.05, 0.0, 1.0)
        velocity = GAIN * np.array([error[0] * across, error[1] * across, max(climb, -DESCENT / GAIN)])
        yield command(scene, _limited(velocity, 1.0), rotation, gripper, _slack(distance))


def hold(scene: Scene, rotation: Matrix | None, gripper: float, steps: int) -> Iterator[Command]:
    """Stays where it is, for example while the gripper moves."""
    anchor = scene.eef_position()
    for _ in range(steps):
        error = anchor - scene.eef_position()
        yield command(scene, _limited(error * GAIN * 0.5, 0.5), rotation, gripper, 0.25)


def close(scene: Scene, rotation: Matrix, *, steps: int = 16) -> Iterator[Command]:
    """Closes the gripper until the fingers have stopped.

    Args:
        scene: Present state.
        rotation: Orientation to keep ``(3, 3)``.
        steps: Control steps after which it ends anyway.
    """
    opening = scene.opening()
    for step, present in enumerate(hold(scene, rotation, CLOSE, steps)):
        yield present
        last, opening = opening, scene.opening()
        if step >= 4 and last - opening < 0.0008:
            return
