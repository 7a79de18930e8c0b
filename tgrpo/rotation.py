"""Rotations as unit quaternions ``(4,)`` in ROS order x, y, z, w, and as rotation vectors ``(3,)`` [rad].

Scalar arithmetic instead of array operations: at four numbers it is several times faster, and this runs at 250 Hz.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from tgrpo.types import FloatArray

_TINY = 1e-12


def identity() -> FloatArray:
    """The quaternion ``(4,)`` that turns nothing."""
    return np.array([0.0, 0.0, 0.0, 1.0])


def normalised(quaternion: ArrayLike) -> FloatArray:
    """The unit quaternion ``(4,)`` of the same direction.

    Raises:
        ValueError: It has another shape, is not finite or has no length.
    """
    values = np.asarray(quaternion, np.float64)
    length = float(np.linalg.norm(values)) if values.shape == (4,) else math.nan
    if not (math.isfinite(length) and length > _TINY):
        raise ValueError(f"{quaternion!r} is no rotation: a quaternion x, y, z, w has four finite numbers, not all 0")
    return values / length


def multiply(first: FloatArray, second: FloatArray) -> FloatArray:
    """The rotation ``(4,)`` that does ``second`` and then ``first``, both in the fixed frame."""
    ax, ay, az, aw = first.tolist()
    bx, by, bz, bw = second.tolist()
    return np.array(
        [
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
            aw * bw - ax * bx - ay * by - az * bz,
        ]
    )


def inverse(quaternion: FloatArray) -> FloatArray:
    """The opposite rotation ``(4,)``."""
    x, y, z, w = quaternion.tolist()
    return np.array([-x, -y, -z, w])


def from_vector(vector: FloatArray) -> FloatArray:
    """The rotation ``(4,)`` by ``|vector|`` [rad] about the direction of ``vector`` ``(3,)``."""
    x, y, z = vector.tolist()
    angle = math.sqrt(x * x + y * y + z * z)
    scale = 0.5 if angle < _TINY else math.sin(0.5 * angle) / angle
    return np.array([x * scale, y * scale, z * scale, math.cos(0.5 * angle)])


def to_vector(quaternion: FloatArray) -> FloatArray:
    """The rotation vector ``(3,)`` [rad] of a unit quaternion, at most a half turn long."""
    x, y, z, w = quaternion.tolist()
    length = math.sqrt(x * x + y * y + z * z)
    if length < _TINY:
        scale = 2.0 if w >= 0.0 else -2.0
    else:
        scale = 2.0 * math.atan2(length, abs(w)) / length * (1.0 if w >= 0.0 else -1.0)
    return np.array([x * scale, y * scale, z * scale])


def difference(goal: FloatArray, start: FloatArray) -> FloatArray:
    """The rotation vector ``(3,)`` [rad] that turns ``start`` into ``goal``, in the fixed frame."""
    return to_vector(multiply(goal, inverse(start)))


def turned(quaternion: FloatArray, vector: FloatArray) -> FloatArray:
    """``quaternion`` turned by ``vector`` ``(3,)`` [rad] in the fixed frame, of unit length again."""
    result = multiply(from_vector(vector), quaternion)
    return result / math.sqrt(float(result @ result))


def from_matrix(matrix: ArrayLike) -> FloatArray:
    """The quaternion ``(4,)`` of a rotation matrix ``(3, 3)``.

    The largest of the four components is computed first, so no matrix divides by a small number.
    """
    m = np.asarray(matrix, np.float64).reshape(3, 3)
    xx, yy, zz = float(m[0, 0]), float(m[1, 1]), float(m[2, 2])
    squares = [1 + xx - yy - zz, 1 - xx + yy - zz, 1 - xx - yy + zz, 1 + xx + yy + zz]
    largest = max(range(4), key=squares.__getitem__)
    columns = (
        (squares[0], m[0, 1] + m[1, 0], m[0, 2] + m[2, 0], m[2, 1] - m[1, 2]),
        (m[0, 1] + m[1, 0], squares[1], m[1, 2] + m[2, 1], m[0, 2] - m[2, 0]),
        (m[0, 2] + m[2, 0], m[1, 2] + m[2, 1], squares[2], m[1, 0] - m[0, 1]),
        (m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], squares[3]),
    )
    return normalised(columns[largest])


def to_matrix(quaternion: FloatArray) -> FloatArray:
    """The rotation matrix ``(3, 3)`` of a unit quaternion."""
    x, y, z, w = quaternion.tolist()
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
