"""Pictures of cameras at the size that a policy wants."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from tgrpo.types import Image

_BLOCK = 8
"""Rows of a result that are computed together: more make use of ever fewer of the rows that they read."""
_kept = threading.local()


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
    rounding of hardly any value. A third of the time of Pillow's, which in addition rounds between its two passes.
    """
    height, width, _ = picture.shape
    rows, narrow, result = _scratch(height, width, size)
    np.copyto(rows.reshape(picture.shape), picture)
    for at, block in enumerate(_blocks(height, size)):
        np.matmul(block.weights, rows[block.first : block.last], out=narrow[at * _BLOCK : (at + 1) * _BLOCK])
    for at, block in enumerate(_blocks(width, size)):
        columns = slice(3 * at * _BLOCK, 3 * (at + 1) * _BLOCK)
        np.matmul(narrow[:, 3 * block.first : 3 * block.last], block.coloured, out=result[:, columns])
    np.clip(np.rint(result, out=result), 0, 255, out=result)
    return result.astype(np.uint8).reshape(size, size, 3)


def _scratch(height: int, width: int, size: int) -> tuple[NDArray[np.float32], ...]:
    """This thread's memory for the steps of a resize, kept because getting so much anew takes longer than the rest."""
    shapes = ((height, 3 * width), (size, 3 * width), (size, 3 * size))
    kept: tuple[NDArray[np.float32], ...] = getattr(_kept, "arrays", ())
    if tuple(array.shape for array in kept) != shapes:
        kept = _kept.arrays = tuple(np.empty(shape, np.float32) for shape in shapes)
    return kept


@dataclass(frozen=True, eq=False)
class _Block:
    """What a few neighbouring pixels of a result are made of."""

    first: int
    last: int
    """Source pixels, without the last one."""
    weights: NDArray[np.float32]
    """``(targets, sources)``."""
    coloured: NDArray[np.float32]
    """``(3 sources, 3 targets)``: for rows whose pixels have three colours each, which spares a transposition."""


@cache
def _blocks(source: int, target: int) -> list[_Block]:
    """The blocks of a result of ``target`` pixels."""
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
        some = np.ascontiguousarray(rows[:, first:last])
        blocks.append(_Block(first, last, some, np.kron(some.T, np.eye(3, dtype=np.float32))))
    return blocks
