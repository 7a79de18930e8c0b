"""Actions as tokens: 256 bins for each dimension, as OpenVLA has them.

OpenVLA cuts ``[-1, 1]`` at 256 equally spaced edges and decodes to the 255 centres between them
(arXiv 2406.09246, section 3.2); the last bin shares the centre of its neighbour. Zero is a centre,
so "no rotation" survives the round trip exactly.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


@cache
def edges(bins: int = 256) -> NDArray[np.float64]:
    """Edges of the bins, ``(V,)``."""
    return np.linspace(-1.0, 1.0, bins)


@cache
def centres(bins: int = 256) -> NDArray[np.float64]:
    """Value of each bin, ``(V,)``; the last two are equal."""
    cuts = edges(bins)
    middle = (cuts[1:] + cuts[:-1]) / 2
    return np.append(middle, middle[-1])


def encode(actions: ArrayLike, bins: int = 256) -> NDArray[np.int64]:
    """Bins of actions: ``(..., A)`` in ``[-1, 1]`` (clipped) to ``(..., A)`` in ``[0, V)``."""
    clipped = np.clip(np.asarray(actions, np.float64), -1.0, 1.0)
    return np.digitize(clipped, edges(bins)).astype(np.int64) - 1


def chunks(actions: NDArray[Any], starts: NDArray[np.integer], length: int) -> NDArray[Any]:
    """The actions that follow each of some steps: ``(T, A)`` and ``(B,)`` to ``(B, length, A)``.

    Behind the end the arm rests and the gripper, the last number, stays as it is.
    """
    rest = np.repeat(actions[-1:], length, axis=0)
    rest[:, :-1] = 0.0
    return np.concatenate([actions, rest])[np.asarray(starts)[:, None] + np.arange(length)]


def decode(tokens: NDArray[Any], bins: int = 256) -> NDArray[np.float32]:
    """Actions of bins: ``(..., A)`` in ``[0, V)`` to ``(..., A)`` in ``(-1, 1)``."""
    actions: NDArray[np.float32] = centres(bins)[tokens].astype(np.float32)
    return actions
