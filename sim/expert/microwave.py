"""Skills of the scripted expert for a microwave: putting something in, and closing the door.

There is no room for the hand inside. What goes in is taken at its rim with the hand leaning out of the opening, tilted
farther in front of it, set down just behind the edge, where it rocks upright, and pushed in with the closed fingers.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sim.expert.geometry import UP, Vector, leaning, tool_down
from sim.expert.grasps import cup_radius
from sim.expert.motion import CLOSE, OPEN, Command, SkillFailedError, close, command, go, hold
from sim.expert.scene import Scene

FLOOR, DOOR = "g7", "g17"
"""Geoms of the plate that things stand on, and of the door."""
HINGE = "microjoint"
WAYS = ((0.6, 1.05), (0.5, 1.0), (0.7, 1.1), (0.4, 0.9))
"""How far the hand leans when it takes something, and when it sets it down [rad], of each way to put something in."""
DEPTH = 0.02
"""How far below the rim the grip site goes [m]."""
SHUT = -0.004
"""Joint position above which LIBERO calls a microwave closed, with a margin [rad]."""


def is_microwave(scene: Scene, name: str | None) -> bool:
    """Whether something is a microwave."""
    return name is not None and scene.has_joint(f"{name}_{HINGE}")


def insert(scene: Scene, name: str, region: str, variant: int) -> Iterator[Command]:
    """Takes an object at its rim, sets it down in a microwave and pushes it in.

    Args:
        scene: Present state.
        name: Object to put in.
        region: Inside of the microwave.
        variant: Which of :data:`WAYS`.

    Raises:
        SkillFailedError: The object did not come up.
    """
    lean, tilt = WAYS[variant % len(WAYS)]
    across, out = scene.region_rotation(region)[:, 0], -scene.region_rotation(region)[:, 1]
    rotation = leaning(out, lean, 1.0)
    points, axis = scene.points(name), scene.position(name)
    top = float(points[:, 2].max())
    grip = axis + cup_radius(points, axis[:2]) * across - 0.007 * out
    grip[2] = top - DEPTH
    yield from go(scene, grip + 0.10 * UP, rotation, OPEN, tolerance=0.015)
    yield from go(scene, grip, rotation, OPEN, tolerance=0.006, steps=40, speed=0.6)
    yield from close(scene, rotation)
    yield from go(scene, scene.eef_position() + 0.12 * UP, rotation, CLOSE, tolerance=0.03, steps=30)
    if scene.bottom(name) < float(axis[2]) + 0.03:
        raise SkillFailedError(f"{name} was not lifted")
    rotation = leaning(out, tilt, 1.0)
    back = -rotation[:, 2]
    edge = _edge(scene, region, out)
    yield from go(scene, edge + 0.16 * out + 0.13 * UP, rotation, CLOSE, tolerance=0.015, steps=80)
    held = scene.eef_position() - _foot(scene, name)
    yield from go(scene, edge + held + 0.08 * out + 0.012 * UP, rotation, CLOSE, tolerance=0.012, steps=60)
    yield from go(scene, edge + held - 0.015 * out + 0.012 * UP, rotation, CLOSE, tolerance=0.006, steps=25, speed=0.5)
    yield from hold(scene, rotation, OPEN, 6)
    # The inner finger has to come out over the rim before it comes back.
    yield from go(scene, scene.eef_position() + 0.03 * UP + 0.01 * out, rotation, OPEN, tolerance=0.006, steps=15)
    yield from go(scene, scene.eef_position() + 0.12 * back, rotation, OPEN, tolerance=0.02, steps=25)
    yield from _push(scene, name, edge, out, tilt)


def _foot(scene: Scene, name: str) -> Vector:
    """Middle of what an object would stand on first, as it is held ``(3,)`` [m]."""
    points = scene.points(name)
    foot = points[points[:, 2] < points[:, 2].min() + 0.005].mean(axis=0)
    foot[2] = points[:, 2].min()
    return np.asarray(foot)


def _push(scene: Scene, name: str, edge: Vector, out: Vector, lean: float) -> Iterator[Command]:
    """Pushes an object farther in and comes out again."""
    rotation = leaning(out, lean, 1.0)
    start = scene.position(name) + 0.10 * out
    start[2] = edge[2] + 0.05
    yield from go(scene, start, rotation, CLOSE, tolerance=0.015, steps=40)
    end = start - (float((start - edge) @ out) + 0.025) * out
    yield from go(scene, end, rotation, CLOSE, tolerance=0.01, steps=30, speed=0.5)
    yield from go(scene, scene.eef_position() + 0.15 * out, rotation, CLOSE, tolerance=0.02, steps=25)


def _edge(scene: Scene, region: str, out: Vector) -> Vector:
    """Middle of the front edge of what things stand on in there ``(3,)`` [m]."""
    floor = f"{scene.owner(region)}_{FLOOR}"
    size = scene.geom_size(floor)
    return scene.geom_position(floor) + size[1] * out + size[2] * UP


def shut(scene: Scene, box: str) -> Iterator[Command]:
    """Pushes the door of a microwave shut from behind, along its arc.

    Args:
        scene: Present state.
        box: The microwave.
    """
    hinge, panel = scene.joint_anchor(f"{box}_{HINGE}"), f"{box}_{DOOR}"
    axis, rotation = scene.joint_axis(f"{box}_{HINGE}"), tool_down(0.0)
    height = float(scene.geom_position(panel)[2] + scene.geom_size(panel)[2]) - 0.025

    def contact() -> tuple[Vector, Vector]:
        """Where to push the door, at the height of the fingers, and in which direction ``(3,)``."""
        arm = (scene.geom_position(panel) - hinge) * (1.0, 1.0, 0.0)
        arm /= float(np.linalg.norm(arm))
        point = hinge + 0.19 * arm
        point[2] = height
        return point, np.cross(axis, arm)

    point, forward = contact()
    over = point - 0.07 * forward
    over[2] = height + 0.17
    above = scene.eef_position()
    above[2] = over[2]
    yield from go(scene, above, None, CLOSE, tolerance=0.03, steps=30)
    yield from go(scene, over, rotation, CLOSE, tolerance=0.03, steps=60)
    yield from go(scene, point - 0.07 * forward, rotation, CLOSE, tolerance=0.02, steps=40)
    for _ in range(120):
        if scene.joint(f"{box}_{HINGE}") > SHUT:
            return
        point, forward = contact()
        error = point - scene.eef_position()
        error -= forward * float(error @ forward)
        yield command(scene, 0.5 * forward + 10.0 * error, rotation, CLOSE, 0.5)
