"""Pictures as JPEG, for links that are too slow for raw ones; needs pillow, which a robot PC may lack."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Sequence

import numpy as np

from tgrpo.errors import MissingDependencyError, WireError
from tgrpo.types import Image

QUALITY = 95


def available() -> bool:
    """Whether pillow is installed."""
    return importlib.util.find_spec("PIL") is not None


def encode(image: Image) -> bytes:
    """A picture ``(H, W, 3)`` as JPEG.

    Raises:
        MissingDependencyError: pillow is not installed.
    """
    if not available():
        raise MissingDependencyError("JPEG needs pillow: pip install pillow, or send pictures with codec='raw'.")
    from PIL import Image as Pillow

    stream = io.BytesIO()
    Pillow.fromarray(image).save(stream, "JPEG", quality=QUALITY, subsampling=0)
    return stream.getvalue()


def decode(data: bytes | memoryview, shape: Sequence[int]) -> Image:
    """The picture in some JPEG bytes, which must have the shape that was announced.

    Raises:
        WireError: The bytes are no such picture. Its size is compared before any pixel is decoded.
    """
    if not available():
        raise WireError("this machine cannot read JPEG; send pictures with codec='raw'.")
    from PIL import Image as Pillow

    try:
        with Pillow.open(io.BytesIO(data), formats=("JPEG",)) as picture:
            if (picture.height, picture.width) != tuple(shape[:2]) or picture.mode != "RGB":
                found = (picture.height, picture.width, picture.mode)
                raise WireError(f"a JPEG picture of {found} was announced as {tuple(shape)}.")
            return np.asarray(picture)
    except (OSError, ValueError, SyntaxError, Pillow.DecompressionBombError) as error:
        if isinstance(error, WireError):
            raise
        raise WireError(f"damaged JPEG picture: {error}.") from error
