"""Coarser meshes and smaller textures for ``fast`` pictures; physics never sees them.

LIBERO draws 240,000 to 400,000 triangles for a picture of a few hundred pixels, and a software renderer pays for each.
"""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from tgrpo.types import FloatArray

CELL = 0.006
"""Edge of the cells whose vertices are merged [m]: about one pixel of ``agentview`` at 224 px."""
ROBOT_CELL = 0.013
"""The same for the arm and its pedestal, which are smooth [m]."""
MOST_FACES = 4500
"""A mesh that still has more triangles gets larger cells."""
SHARPNESS_WEIGHT = 2.0
"""How much a corner is preferred to the middle of a cell."""
SEAM = 0.1
"""Texture coordinates of merged vertices that are further apart belong to different pieces of the texture."""
CREASE = 0.6
"""Normals of merged vertices that differ more in a component belong to different surfaces."""
TEXTURE_SIDE = 512
"""Longest side that textures keep [px]."""
FEWEST_FACES = 4000
"""Smaller meshes stay as they are."""
ROBOT_FEWEST_FACES = 800
"""The same for the arm."""
_ROBOT_PREFIXES = ("robot0", "mount0")
_MESH = int(mujoco.mjtGeom.mjGEOM_MESH)


def simplify(model: Any) -> tuple[int, int]:
    """Coarsens, in place, every mesh that cannot collide, and shrinks every large texture.

    Must run before a renderer uploads the model.

    Args:
        model: ``mujoco.MjModel``.

    Returns:
        Number of triangles of the visible meshes before and after.
    """
    _shrink_textures(model)
    is_mesh = model.geom_type == _MESH
    collides = (model.geom_contype != 0) | (model.geom_conaffinity != 0)
    fixed = set(model.geom_dataid[is_mesh & collides].tolist())
    robots: dict[int, bool] = {}
    for geom in np.flatnonzero(is_mesh & ~collides):
        mesh = int(model.geom_dataid[geom])
        robots[mesh] = model.body(model.geom_bodyid[geom]).name.startswith(_ROBOT_PREFIXES)
    before = after = 0
    for mesh, robot in robots.items():
        before += int(model.mesh_facenum[mesh])
        if mesh not in fixed and model.mesh_facenum[mesh] >= (ROBOT_FEWEST_FACES if robot else FEWEST_FACES):
            _coarsen(model, mesh, ROBOT_CELL if robot else CELL)
        after += int(model.mesh_facenum[mesh])
    return before, after


def _coarsen(model: Any, mesh: int, cell: float) -> None:
    first, count = int(model.mesh_faceadr[mesh]), int(model.mesh_facenum[mesh])
    base = int(model.mesh_vertadr[mesh])
    vertices = model.mesh_vert[base : base + int(model.mesh_vertnum[mesh])].astype(np.float64)
    faces = model.mesh_face[first : first + count].copy()
    corners, kept = _merge(vertices, faces, cell)
    if len(kept) > MOST_FACES:
        corners, kept = _merge(vertices, faces, cell * float(np.sqrt(len(kept) / MOST_FACES)))
    if model.mesh_texcoordadr[mesh] >= 0:
        start = int(model.mesh_texcoordadr[mesh])
        points = model.mesh_texcoord[start : start + int(model.mesh_texcoordnum[mesh])]
        indices = model.mesh_facetexcoord[first : first + count].copy()
        moved = follow(indices, points, faces, corners, SEAM)
        model.mesh_facetexcoord[first : first + len(kept)] = moved[kept]
    start = int(model.mesh_normaladr[mesh])
    normals = model.mesh_normal[start : start + int(model.mesh_normalnum[mesh])]
    turned = follow(model.mesh_facenormal[first : first + count].copy(), normals, faces, corners, CREASE)
    model.mesh_facenormal[first : first + len(kept)] = turned[kept]
    model.mesh_face[first : first + len(kept)] = corners[kept]
    model.mesh_facenum[mesh] = len(kept)


def _merge(vertices: FloatArray, faces: NDArray[np.int32], cell: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    corners = representatives(vertices, faces, cell)[faces]
    return corners, distinct_faces(corners)


def representatives(vertices: FloatArray, faces: NDArray[np.int32], cell: float) -> NDArray[np.int64]:
    """Chooses one vertex for each grid cell: near the middle, but rather on a corner or an edge of the shape.

    Args:
        vertices: ``(n, 3)`` [m].
        faces: ``(m, 3)`` vertex indices.
        cell: Edge of a grid cell [m].

    Returns:
        The vertex that replaces each vertex ``(n,)``.
    """
    points = vertices[faces]
    normals = np.cross(points[:, 1] - points[:, 0], points[:, 2] - points[:, 0])
    flat = faces.ravel()
    area = np.bincount(flat, np.repeat(np.linalg.norm(normals, axis=1), 3), len(vertices)) + 1e-12
    facing = np.stack([np.bincount(flat, np.repeat(normals[:, k], 3), len(vertices)) for k in range(3)], axis=1)
    sharpness = 1.0 - np.linalg.norm(facing, axis=1) / area
    grid = np.floor((vertices - vertices.min(axis=0)) / cell).astype(np.int64)
    size = grid.max(axis=0) + 1
    _, cluster = np.unique((grid[:, 0] * size[1] + grid[:, 1]) * size[2] + grid[:, 2], return_inverse=True)
    total = np.bincount(cluster, area)
    middle = np.stack([np.bincount(cluster, area * vertices[:, k]) / total for k in range(3)], axis=1)
    cost = ((vertices - middle[cluster]) ** 2).sum(axis=1) / cell**2 - SHARPNESS_WEIGHT * sharpness
    order = np.lexsort((cost, cluster))
    starts = np.searchsorted(cluster[order], np.arange(len(total)))
    return np.asarray(order[starts][cluster], np.int64)


def follow(
    indices: NDArray[np.int32],
    points: NDArray[np.float32],
    faces: NDArray[np.int32],
    corners: NDArray[np.int64],
    reach: float,
) -> NDArray[np.int32]:
    """Moves normals or texture coordinates along with the vertices, except across a crease or a seam.

    Args:
        indices: ``(m, 3)`` normal or texture coordinate of each corner.
        points: ``(t, k)`` normals or texture coordinates.
        faces: ``(m, 3)`` vertex of each corner before.
        corners: ``(m, 3)`` vertex of each corner after.
        reach: Largest difference of a component that is not a crease or a seam.

    Returns:
        ``(m, 3)`` normal or texture coordinate of each corner after.
    """
    of_vertex = np.zeros(int(faces.max()) + 1, np.int32)
    of_vertex[faces.ravel()] = indices.ravel()
    wanted = of_vertex[corners]
    near = np.abs(points[wanted] - points[indices]).max(axis=-1) < reach
    return np.where(near, wanted, indices).astype(np.int32)


def distinct_faces(faces: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the indices of faces ``(m, 3)`` with three different corners, each once for each of its two sides."""
    proper = np.flatnonzero((faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 0] != faces[:, 2]))
    chosen = faces[proper]
    turn = (chosen.argmin(axis=1)[:, None] + np.arange(3)) % 3
    _, unique = np.unique(np.take_along_axis(chosen, turn, axis=1), axis=0, return_index=True)
    return proper[np.sort(unique)]


def _shrink_textures(model: Any) -> None:
    for texture in range(model.ntex):
        height, width = int(model.tex_height[texture]), int(model.tex_width[texture])
        channels, address = int(model.tex_nchannel[texture]), int(model.tex_adr[texture])
        if model.tex_type[texture] != mujoco.mjtTexture.mjTEXTURE_2D:
            continue
        factor = 1
        while max(height, width) // factor > TEXTURE_SIDE and height % (2 * factor) == 0 and width % (2 * factor) == 0:
            factor *= 2
        if factor == 1:
            continue
        pixels = model.tex_data[address : address + height * width * channels].reshape(height, width, channels)
        small = _halved(pixels, factor)
        model.tex_data[address : address + small.size] = small.ravel()
        model.tex_height[texture], model.tex_width[texture] = small.shape[:2]


def _halved(pixels: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Averages squares of ``factor`` pixels; of large squares only every second row and column of four counts."""
    step = max(1, factor // 2)
    sampled = pixels[::step, ::step].astype(np.uint16)
    ratio = factor // step
    total = sum(sampled[i::ratio, j::ratio] for i in range(ratio) for j in range(ratio))
    return np.asarray(total // ratio**2, np.uint8)
