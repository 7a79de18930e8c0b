"""Rotations and mesh points that the scripted expert plans with."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from tgrpo import rotation

Vector = NDArray[np.float64]
"""A point or direction ``(3,)`` in the world frame [m]."""
Matrix = NDArray[np.float64]
"""A rotation matrix ``(3, 3)``."""

UP: Vector = np.array([0.0, 0.0, 1.0])

TOOL_DOWN: Matrix = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])
"""Gripper pointing down, its fingers closing along the world's y axis."""

_CIRCLE = np.linspace(0.0, 2.0 * np.pi, 24, endpoint=False)
_CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=np.float64)
_LATTICE = np.array([[x, y, z] for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1)], dtype=np.float64)


def rotation_z(angle: float) -> Matrix:
    """Rotation by ``angle`` [rad] about the vertical axis."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def tool_down(yaw: float) -> Matrix:
    """Gripper pointing down, turned by ``yaw`` [rad] about the vertical axis."""
    return rotation_z(yaw) @ TOOL_DOWN


def half_turn(angle: float) -> float:
    """The same gripper yaw in ``[-pi/2, pi/2)`` [rad]; a parallel gripper is symmetric under half turns."""
    return float((angle + np.pi / 2) % np.pi - np.pi / 2)


def leaning(out: Vector, lean: float, side: float) -> Matrix:
    """A gripper ``(3, 3)`` whose narrow side faces what opens towards ``out``, and whose hand leans that way [rad]."""
    # Exactly a quarter turn is at the end of the wrist's range.
    yaw = side * min(abs(half_turn(float(np.arctan2(out[1], out[0])))), 1.35)
    return np.asarray(rotation.to_matrix(rotation.from_vector(lean * np.cross(UP, out))) @ tool_down(yaw))


def rotation_error(target: Matrix, current: Matrix) -> Vector:
    """World-frame axis-angle ``(3,)`` [rad] that turns ``current`` into ``target``."""
    difference = target @ current.T
    sines = np.array(
        [
            difference[2, 1] - difference[1, 2],
            difference[0, 2] - difference[2, 0],
            difference[1, 0] - difference[0, 1],
        ]
    )
    angle = float(np.arccos(np.clip((np.trace(difference) - 1.0) / 2.0, -1.0, 1.0)))
    return np.asarray(sines * (angle / (2.0 * np.sin(angle) + 1e-9)))


def _local_points(model: Any, geom: int) -> Vector | None:
    size = model.geom_size[geom]
    kind = model.geom_type[geom]
    if kind == mujoco.mjtGeom.mjGEOM_MESH:
        mesh = model.geom_dataid[geom]
        first = model.mesh_vertadr[mesh]
        vertices = model.mesh_vert[first : first + model.mesh_vertnum[mesh]]
        return np.asarray(np.unique(vertices.astype(np.float64), axis=0))
    if kind == mujoco.mjtGeom.mjGEOM_BOX:
        return np.asarray(_CORNERS * size)
    if kind in (mujoco.mjtGeom.mjGEOM_CYLINDER, mujoco.mjtGeom.mjGEOM_CAPSULE):
        ring = np.stack([np.cos(_CIRCLE) * size[0], np.sin(_CIRCLE) * size[0], np.zeros_like(_CIRCLE)], axis=1)
        offset = np.array([0.0, 0.0, size[1]])
        return np.concatenate([ring - offset, ring + offset])
    if kind == mujoco.mjtGeom.mjGEOM_SPHERE:
        return np.asarray(_LATTICE * size[0])
    return None


def visual_geoms(model: Any, root: int) -> list[tuple[int, Vector]]:
    """Visible geoms below one body.

    Args:
        model: MuJoCo model.
        root: Body whose subtree is taken.

    Returns:
        Pairs of geom id and its surface points ``(n, 3)`` in the geom's own frame [m].
    """
    found: list[tuple[int, Vector]] = []
    for geom in range(model.ngeom):
        body = int(model.geom_bodyid[geom])
        while body not in (0, root):
            body = int(model.body_parentid[body])
        if body == root and model.geom_group[geom] == 1:
            points = _local_points(model, geom)
            if points is not None:
                found.append((geom, points))
    return found
