"""Pictures of cameras at the size that a policy wants."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from tgrpo.types import Image

_BLOCK = 8
"""Rows of a result that are computed together: more make use of ever fewer of the rows that they read."""


def fitted(image: Image, size: int) -> Image:
    """The square in the middle of a picture, scaled with :func:`lanczos`; without a copy if it fits already.

    Args:
        image: ``(H, W, 3)``.
        size: Height and width of the result [px].
    """
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = image[top : top + side, left : left + side]
    return np.ascontiguousarray(square) if side == size else lanczos(square, size)


def lanczos(picture: Image, size: int) -> Image:
    """Resizes ``(H, W, 3)`` to ``(size, size, 3)`` with an antialiased Lanczos filter of radius 3.

    Equal to TensorFlow's ``resize(method="lanczos3", antialias=True)``, which VLAs are trained behind, but for the
    rounding of hardly any value. Half the time of Pillow's, which in addition rounds between its two passes.
    """
    values = _resized_rows(picture.astype(np.float32), size)
    values = _resized_rows(np.ascontiguousarray(values.swapaxes(0, 1)), size).swapaxes(0, 1)
    result: Image = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return result


def _resized_rows(values: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """``(N, ...)`` to ``(size, ...)``."""
    flat = values.reshape(len(values), -1)
    result = np.empty((size, flat.shape[1]), np.float32)
    for block, (first, last, weights) in enumerate(_blocks(len(values), size)):
        np.matmul(weights, flat[first:last], out=result[block * _BLOCK : (block + 1) * _BLOCK])
    return result.reshape(size, *values.shape[1:])


@cache
def _blocks(source: int, target: int) -> list[tuple[int, int, NDArray[np.float32]]]:
    """For each block of target pixels the source pixels that it is made of, first and last, and their weights."""
    ratio = source / target
    width = max(ratio, 1.0)
    centres = (np.arange(target) + 0.5) * ratio
    distance = (np.arange(source)[None] + 0.5 - centres[:, None]) / width
    weights = np.where(np.abs(distance) < 3, np.sinc(distance) * np.sinc(distance / 3), 0.0)
    weights = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
    blocks = []
    for rows in np.split(weights, range(_BLOCK, target, _BLOCK)):
        used = np.flatnonzero(rows.any(0))
        first, last = int(used[0]), int(used[-1]) + 1
        blocks.append((first, last, np.ascontiguousarray(rows[:, first:last])))
    return blocks
