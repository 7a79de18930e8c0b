"""Grasp candidates, computed from the visible shape of an object."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.expert.geometry import Vector, half_turn, rotation_z
from sim.expert.scene import Scene

MAX_OPENING = 0.078
"""Widest object that fits between the fingers [m]."""
RIM_ANGLES = (90, -90, 60, 120, -60, -120, 0, 180)
"""Where to take a rim, seen from its centre [deg]."""
BOWL_DEPTH = 0.032
"""How far below a bowl's rim the grip site goes; 10 to 20 mm never hold [m]."""
BOWL_INSET = -0.004
"""How far inside a bowl's widest circle the grip site goes; the bowl slides to the middle of the gripper [m]."""
PLATE_DEPTH = 0.006
"""How far below a plate's rim the grip site goes [m]."""


class Grasp(NamedTuple):
    """One way to take an object from above."""

    position: Vector
    """Where the grip site goes ``(3,)`` [m]."""
    yaw: float
    """Turn of the gripper about the vertical axis; 0 closes along the world's y axis [rad]."""


def cup_radius(points: Vector, axis: Vector) -> float:
    """Radius of a cup at its rim [m], from its surface points ``(n, 3)`` and axis ``(2,)``; a handle says little."""
    rim = points[points[:, 2] > points[:, 2].max() - 0.02]
    return float(np.median(np.linalg.norm(rim[:, :2] - axis, axis=1)))


def _rim(scene: Scene, name: str) -> list[Grasp]:
    points = scene.points(name)
    top = float(points[:, 2].max())
    if "mug" in name:
        # A mug's handle shifts the centre of its box, its body frame is the axis of the cup.
        centre = scene.position(name)[:2]
        radius = cup_radius(points, centre)
    else:
        centre = (points.min(axis=0)[:2] + points.max(axis=0)[:2]) / 2
        rim = points[points[:, 2] > top - 0.008]
        radius = float(np.linalg.norm(rim[:, :2] - centre, axis=1).max()) - (0.004 if "plate" in name else BOWL_INSET)
    depth = PLATE_DEPTH if "plate" in name else BOWL_DEPTH
    grasps = []
    for degrees in RIM_ANGLES:
        angle = np.deg2rad(degrees)
        place = centre + radius * np.array([np.cos(angle), np.sin(angle)])
        # Exactly a quarter turn is at the end of the wrist's range.
        yaw = float(np.clip(half_turn(angle - np.pi / 2), -1.4, 1.4))
        grasps.append(Grasp(np.array([*place, top - depth]), yaw))
    return grasps


def _knob(scene: Scene, name: str) -> list[Grasp]:
    points = scene.points(name)
    top = float(points[:, 2].max())
    place = points[points[:, 2] > top - 0.03][:, :2].mean(axis=0)
    yaws = (0.0, np.pi / 2 - 0.2, -np.pi / 2 + 0.2, 0.5, -0.5)
    return [Grasp(np.array([*place, top - depth]), yaw) for yaw in yaws for depth in (0.02, 0.04)]


def _width(points: Vector, yaw: float) -> float:
    turn = rotation_z(yaw)
    near = points[np.abs(points @ turn[:, 0]) < 0.012]
    return float(np.ptp((near if len(near) > 3 else points) @ turn[:, 1]))


def _box(scene: Scene, name: str) -> list[Grasp]:
    points = scene.points(name)
    lowest, highest = points.min(axis=0), points.max(axis=0)
    centre = (lowest + highest) / 2
    bottom, top = float(lowest[2]), float(highest[2])
    widths = [(_width(points - centre, yaw), yaw) for yaw in np.deg2rad(np.arange(-80, 81, 10))]
    narrowest = min(width for width, _ in widths)
    # A narrow grip is worth more turning: 25 mm count as much as a radian.
    ranked = sorted((abs(yaw) + 40.0 * (width - narrowest), yaw) for width, yaw in widths if width < MAX_OPENING)
    heights = [max(bottom + 0.012, top - 0.035)]
    heights += [max(bottom + 0.012, top - 0.055), top - 0.02] if top - bottom > 0.06 else [bottom + 0.008]
    return [Grasp(np.array([*centre[:2], height]), float(yaw)) for height in heights for _, yaw in ranked[:3]]


def grasps(scene: Scene, name: str) -> list[Grasp]:
    """Grasp candidates of one object, best guess first.

    Args:
        scene: Present state.
        name: Object; its kind is part of its BDDL name.

    Returns:
        Up to ten candidates; bowls, mugs and plates are taken at the rim, moka pots at the lid's
        knob and everything else across its narrow side.
    """
    if any(kind in name for kind in ("bowl", "ramekin", "plate", "mug")):
        return _rim(scene, name)
    return _knob(scene, name) if "moka" in name else _box(scene, name)


def standing_book(scene: Scene, name: str) -> list[Grasp]:
    """Grasps of a standing book across its thin side, deeper ones last."""
    points = scene.points(name)
    centre = (points.min(axis=0) + points.max(axis=0)) / 2
    flat = points[:, :2] - points[:, :2].mean(axis=0)
    thin = np.linalg.eigh(flat.T @ flat)[1][:, 0]
    yaw = half_turn(float(np.arctan2(-thin[0], thin[1])))
    top = float(points[:, 2].max())
    return [Grasp(np.array([*centre[:2], top - depth]), yaw) for depth in (0.03, 0.045, 0.02)]
