"""Whether a scene is laid out as it was: the live picture against that of the reference start. numpy and pillow only.

Pictures are compared in blocks, as a pixel is noise, and without what the light has changed everywhere. What counts is
how many blocks differ: a bowl that stands elsewhere changes two patches a lot and the rest not at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from tgrpo.settings import Strict
from tgrpo.types import FloatArray, Image

Share = Annotated[float, msgspec.Meta(gt=0.0, le=1.0)]
TINT = np.array([255.0, 0.0, 0.0])
"""Colour of what differs, in the overlay."""


class SceneTolerance(Strict, frozen=True):
    """How different a start may look."""

    block: Annotated[int, msgspec.Meta(ge=1, le=64)] = 8
    """Height and width of a block [px]."""
    contrast: Share = 0.1
    """Difference of a block's mean colour from which it counts as changed; 1 is black against white."""
    changed: Share = 0.02
    """Greatest share of changed blocks."""


def change(live: Image, reference: Image, block: int) -> FloatArray:
    """How much each block differs, 0 to 1.

    Args:
        live: ``(H, W, 3)``.
        reference: The same size.
        block: Height and width of a block [px]; what is left over at the edges is not looked at.

    Returns:
        ``(H // block, W // block)``, the greatest difference of a colour, less what all blocks have in common.

    Raises:
        ValueError: The pictures differ in size, or are smaller than a block.
    """
    if live.shape != reference.shape or min(live.shape[:2]) < block:
        raise ValueError(f"pictures of {live.shape} and {reference.shape} cannot be compared in blocks of {block}.")
    difference = _blocks(live, block) - _blocks(reference, block)
    return np.asarray(np.abs(difference - np.median(difference, axis=(0, 1))).max(axis=2) / 255.0)


def problem(live: Mapping[str, Image], reference: Mapping[str, Image], tolerance: SceneTolerance) -> str:
    """What is wrong with the start; empty if all cameras see the reference.

    Args:
        live: Camera name to picture.
        reference: The same, of the start that is wanted.
        tolerance: How different they may be.
    """
    for name, wanted in reference.items():
        if name not in live:
            return f"camera {name!r} has no picture"
        if live[name].shape != wanted.shape:
            return f"camera {name!r} sends {live[name].shape}, the reference is {wanted.shape}; take a new one"
        share = float((change(live[name], wanted, tolerance.block) > tolerance.contrast).mean())
        if share > tolerance.changed:
            return (
                f"camera {name!r} sees another scene: {100.0 * share:.1f} % of the picture differ, "
                f"{100.0 * tolerance.changed:.1f} % may; the overlay shows where"
            )
    return ""


def overlay(live: Image, reference: Image, tolerance: SceneTolerance) -> Image:
    """The reference shining through the live picture ``(H, W, 3)``, with what differs in red."""
    mixed = (live.astype(np.float64) + reference) / 2.0
    block = tolerance.block
    differs = change(live, reference, block) > tolerance.contrast
    mask = np.kron(differs, np.ones((block, block), bool))
    inner = mixed[: mask.shape[0], : mask.shape[1]]
    inner[mask] = 0.5 * inner[mask] + 0.5 * TINT
    shown: Image = mixed.round().astype(np.uint8)
    return shown


def _blocks(image: Image, block: int) -> NDArray[np.float64]:
    """Mean colour of each block ``(h, w, 3)``."""
    height, width = image.shape[0] // block, image.shape[1] // block
    cut = image[: height * block, : width * block].astype(np.float64)
    return np.asarray(cut.reshape(height, block, width, block, 3).mean(axis=(1, 3)))
