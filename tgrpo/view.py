"""Pictures of cameras at the size that a policy wants."""

from __future__ import annotations

import importlib.util

import numpy as np

from tgrpo.errors import MissingDependencyError
from tgrpo.types import Image


def fitted(image: Image, size: int) -> Image:
    """The square in the middle of a picture, scaled with antialiasing; the picture itself if it fits already.

    Args:
        image: ``(H, W, 3)``.
        size: Height and width of the result [px].

    Raises:
        MissingDependencyError: The picture has to be scaled and pillow is not installed.
    """
    height, width = image.shape[:2]
    if (height, width) == (size, size):
        return image
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = np.ascontiguousarray(image[top : top + side, left : left + side])
    if side == size:
        return square
    if importlib.util.find_spec("PIL") is None:
        raise MissingDependencyError(
            f"a picture of {width}x{height} has to be scaled to {size}: pip install pillow, "
            "or let the camera deliver that size."
        )
    from PIL import Image as Pillow

    scaled = Pillow.fromarray(square).resize((size, size), Pillow.Resampling.LANCZOS)
    return np.asarray(scaled, np.uint8)
