"""Videos are read back and compared with what was written."""

import av
import msgspec
import numpy as np
import pytest

from tgrpo.errors import CheckpointError, SettingsError
from tgrpo.record import video
from tgrpo.record.video import STRIP, VideoInfo, annotate, annotate_rollout, save_rollout, write_video


def _read(path):
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_pictures_come_back(tmp_path, frames):
    pictures = np.stack(list(frames(success=True)))
    write_video(tmp_path / "a.mp4", pictures)
    back = _read(tmp_path / "a.mp4")
    assert back.shape == pictures.shape
    assert np.abs(back.astype(int) - pictures).mean() < 3


def test_a_browser_can_play_it(tmp_path, frames):
    write_video(tmp_path / "a.mp4", frames(success=True), fps=20)
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt, float(stream.average_rate)) == ("h264", "yuv420p", 20.0)
    head = (tmp_path / "a.mp4").read_bytes()
    assert head.index(b"moov") < head.index(b"mdat")


def test_small(tmp_path, frames):
    write_video(tmp_path / "a.mp4", frames(success=True))
    assert (tmp_path / "a.mp4").stat().st_size < 20_000


def test_odd_sizes_are_padded(tmp_path):
    write_video(tmp_path / "a.mp4", np.full((5, 33, 47, 3), 128, np.uint8))
    assert _read(tmp_path / "a.mp4").shape == (5, 34, 48, 3)


def test_no_frames(tmp_path):
    with pytest.raises(SettingsError, match="at least one frame"):
        write_video(tmp_path / "a.mp4", [])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("bad", [np.zeros((8, 8, 3), np.float32), np.zeros((8, 10, 3), np.uint8)])
def test_frames_that_differ_are_refused(tmp_path, bad):
    with pytest.raises(SettingsError, match="expected uint8"):
        write_video(tmp_path / "a.mp4", [np.zeros((8, 8, 3), np.uint8), bad])
    assert list(tmp_path.iterdir()) == []


def test_full_disk(tmp_path):
    def failing():
        yield np.zeros((8, 8, 3), np.uint8)
        raise OSError(28, "No space left on device")

    with pytest.raises(CheckpointError, match="the disk is full"):
        write_video(tmp_path / "a.mp4", failing())


def test_annotation_leaves_the_picture(frames):
    picture = next(frames(success=True))
    plain, good, bad = (annotate(picture, "step 1", success=success) for success in (None, True, False))
    for result in (plain, good, bad):
        assert result.shape == (128 + STRIP, 128, 3)
        np.testing.assert_array_equal(result[STRIP:], picture)
    assert (plain[:STRIP] != plain[0, 0]).any()
    middle = STRIP // 2
    assert good[middle, 117, 1] > good[middle, 117, 0]
    assert bad[middle, 117, 0] > bad[middle, 117, 1]


def test_outcome_only_on_the_last_frame(frames):
    info = VideoInfo(
        label="after", task=0, init_state=1, success=True, stages=[0, 0, 1], stage_names=["reach", "grasp"]
    )
    pictures = list(annotate_rollout(list(frames(success=True, count=4)), info))
    middle = STRIP // 2
    green = [int(picture[middle, 117, 1]) - int(picture[middle, 117, 0]) for picture in pictures]
    assert green[-1] > 80
    assert max(green[:-1]) < 10
    assert list(annotate_rollout([], info)) == []


def test_rollout_lies_beside_its_description(tmp_path, frames):
    info = VideoInfo(label="training", task=2, init_state=7, iteration=12, success=False, stages=[0, 1])
    path = save_rollout(tmp_path, frames(success=False), info)
    assert path == tmp_path / "videos" / "training_iteration0012_task2_init07.mp4"
    assert msgspec.json.decode(path.with_suffix(".json").read_bytes(), type=VideoInfo) == info
    assert video.data_uri(path).startswith("data:video/mp4;base64,AAAA")


def test_a_small_picture_is_enlarged_without_changing_it():
    picture = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    large = video.enlarged(picture, 8)
    assert large.shape == (6, 9, 3)
    assert (large[1::3, 1::3] == picture).all()
    assert (video.enlarged(picture, 3) == picture).all()
