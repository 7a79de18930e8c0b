"""Single pictures as bytes."""

import numpy as np
import pytest

from tgrpo.errors import RecordingError
from tgrpo.record.pictures import decode, encode


def test_jpeg_is_close_and_png_is_equal():
    ramp = np.linspace(0, 255, 64 * 64 * 3).reshape(64, 64, 3).astype(np.uint8)
    assert np.array_equal(decode(encode(ramp, "png")), ramp)
    assert np.abs(decode(encode(ramp, "jpeg")).astype(int) - ramp).max() <= 8


def test_what_is_no_picture_is_refused():
    with pytest.raises(RecordingError, match="picture is damaged"):
        decode(bytes(10))
