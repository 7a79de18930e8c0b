"""Single pictures as bytes: JPEG for what people and policies look at, PNG where nothing may be lost."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image as Pillow

from tgrpo.errors import RecordingError, SettingsError
from tgrpo.record.streams import Encoding
from tgrpo.types import Image


def check(image: Image) -> None:
    """Refuses what is not a picture.

    Raises:
        SettingsError: It is not RGB ``(H, W, 3)`` of uint8.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise SettingsError(f"a picture of shape {image.shape} and type {image.dtype}; expected uint8 (H, W, 3).")


def encode(image: Image, encoding: Encoding, quality: int = 95) -> bytes:
    """Compresses an RGB picture ``(H, W, 3)``.

    Args:
        image: The picture.
        encoding: ``jpeg`` or ``png``.
        quality: Of JPEG, 1 to 95.
    """
    buffer = io.BytesIO()
    picture = Pillow.fromarray(np.ascontiguousarray(image))
    if encoding == "jpeg":
        # Colours at half resolution would blur the edges that a policy sees.
        picture.save(buffer, format="JPEG", quality=quality, subsampling=0)
    else:
        picture.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def decode(data: bytes) -> Image:
    """Undoes :func:`encode`.

    Raises:
        RecordingError: The bytes are not a picture.
    """
    try:
        with Pillow.open(io.BytesIO(data)) as picture:
            return np.asarray(picture.convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        raise RecordingError(f"a recorded picture is damaged: {error}.") from error
