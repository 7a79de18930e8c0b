"""Pictures against the official evaluation, which prepares them with TensorFlow."""

import io
import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from tgrpo import view
from tgrpo.errors import CheckpointError, PolicyError
from tgrpo.policies.vla import jpeg, pictures

DATA = Path(__file__).resolve().parent.parent / "data"


@pytest.fixture(scope="module")
def official_stages():
    with np.load(DATA / "preproc.npz") as stages:
        return {name: stages[name] for name in stages}


def difference(mine, wanted):
    """Largest difference in levels, and the share of values that differ."""
    distance = np.abs(mine.astype(int) - wanted)
    return distance.max(), (distance > 0).mean()


@pytest.mark.parametrize("place", [0, 1])
def test_jpeg_is_tensorflows_bit_for_bit(official_stages, place):
    assert np.array_equal(jpeg.round_trip(official_stages["src256"][place]), official_stages["after_jpeg"][place])


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize(
    ("function", "before", "after"),
    [
        (lambda picture: view.lanczos(picture, 224), "after_jpeg", "after_lanczos224"),
        (lambda picture: view.lanczos(picture, 224), "src256", "lanczos224_without_jpeg"),
        (lambda picture: pictures.centre_crop(picture, 0.9), "after_lanczos224", "after_center_crop"),
        (lambda picture: pictures.evaluation_view(picture, crop=False), "src256", "after_lanczos224"),
        (pictures.evaluation_view, "src256", "after_center_crop"),
    ],
)
def test_each_stage_differs_by_a_level_in_hardly_any_value(official_stages, place, function, before, after):
    largest, share = difference(function(official_stages[before][place]), official_stages[after][place])
    assert largest <= 1
    assert share < 1e-3


@pytest.mark.parametrize(("height", "width"), [(37, 50), (16, 16), (8, 8)])
def test_jpeg_of_other_sizes_is_close_to_pillows(height, width):
    """Pillow reads with the accurate DCT, so it is close but not equal."""
    y, x = np.mgrid[:height, :width]
    picture = np.stack([4 * x, 4 * y, 2 * (x + y)], -1).astype(np.uint8)
    file = io.BytesIO()
    PIL.Image.fromarray(picture).save(file, "jpeg", quality=95, subsampling=2)
    largest, _ = difference(jpeg.round_trip(picture), np.asarray(PIL.Image.open(file)))
    assert largest <= 6


def test_a_flat_picture_stays_flat():
    picture = np.full((64, 64, 3), (10, 200, 90), np.uint8)
    view = pictures.evaluation_view(picture)
    assert view.shape == (224, 224, 3)
    assert difference(view, picture[:1, :1])[0] <= 2


def test_the_crop_keeps_the_middle():
    picture = np.zeros((224, 224, 3), np.uint8)
    picture[3:-3, 3:-3] = 255  # the crop cuts off 5.7 pixels at each side
    assert (pictures.centre_crop(picture, 0.9) == 255).all()


def test_normalisation_is_read_from_the_folder(tmp_path):
    content = {"means": [[0.484375, 0.455078125, 0.40625], [0.5] * 3], "stds": [[0.25] * 3, [0.5] * 3]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(content))
    pixels = pictures.Normaliser.read(tmp_path)(np.full((1, 224, 224, 3), 255, np.uint8))
    assert pixels[0, :, 0, 0].tolist() == pytest.approx([2.0625, 2.1796875, 2.375, 1, 1, 1])
    assert pixels.shape == (1, 6, 224, 224)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("{", "damaged"),
        ('{"means": [[0.5]]}', "damaged"),
        ('{"means": [[0.5]], "stds": [[0.5]]}', r"\(2, 3\)"),
        (
            '{"means": [[0.5, 0.5, 0.5], [0.5, 0.5, 0.5]], "stds": [[0.5, 0.5, 0.5], [0.5, 0.5, 0.5]], '
            '"image_resize_strategy": "letterbox"}',
            "resize-naive",
        ),
    ],
)
def test_another_processor_is_refused(tmp_path, content, match):
    (tmp_path / "preprocessor_config.json").write_text(content)
    with pytest.raises(CheckpointError, match=match):
        pictures.Normaliser.read(tmp_path)


@pytest.mark.parametrize(
    "batch", [np.zeros((224, 224, 3), np.uint8), np.zeros((1, 224, 224, 3), np.float32), torch.zeros(1, 3, 224, 224)]
)
def test_what_is_no_picture_is_refused(batch):
    with pytest.raises(PolicyError, match=r"\(B, H, W, 3\)"):
        pictures.Normaliser()(batch)
