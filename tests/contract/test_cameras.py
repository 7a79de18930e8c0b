"""What every camera driver promises, and what the RealSense driver does when its camera fails."""

import os
import signal
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tgrpo.errors import RobotFault, SettingsError
from tgrpo_ros.drivers import Camera
from tgrpo_ros.drivers.realsense import RealSense, Restarts
from tgrpo_ros.drivers.realsense_process import Stamps


def next_frame(camera, seconds=20.0):
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        if hasattr(camera, "advance"):
            camera.advance()
        frame = camera.read(0.2)
        if frame is not None:
            return frame
    raise AssertionError("no frame came")


def read_on(camera):
    for _ in range(600):
        camera.read(0.2)


def test_keeps_the_protocol(camera):
    assert isinstance(camera, Camera)
    assert camera.name in ("front", "agentview")


def test_its_projection_is_that_of_its_pictures(camera):
    intrinsics = camera.intrinsics
    if intrinsics is not None:
        assert (intrinsics.height, intrinsics.width) == next_frame(camera).image.shape[:2]
        assert intrinsics.focal[0] > 0.0
        assert 0.0 < intrinsics.centre[0] < intrinsics.width


def test_pictures_are_upright_rgb_and_new(camera):
    frames = [next_frame(camera) for _ in range(3)]
    for frame in frames:
        assert frame.image.dtype == np.uint8
        assert frame.image.ndim == 3
        assert frame.image.shape[2] == 3
    for one, other in pairwise(frames):
        assert one.sequence < other.sequence
        assert one.captured < other.captured


def test_no_picture_is_given_twice(camera):
    next_frame(camera)
    seen = {next_frame(camera).sequence for _ in range(5)}
    assert len(seen) == 5


def test_only_the_newest_is_kept(realsense):
    first = next_frame(realsense)
    time.sleep(0.5)
    frame = next_frame(realsense)
    assert int(frame.image[0, 0, 0]) - int(first.image[0, 0, 0]) > 3


def test_close_twice(camera):
    camera.close()
    camera.close()
    assert camera.read(0.01) is None


class TestRealSense:
    def test_exposure_and_white_balance_are_locked_and_read_back(self, realsense):
        expected = {"enable_auto_exposure": 0, "exposure": 156, "enable_auto_white_balance": 0, "white_balance": 4600}
        assert realsense.options == expected

    def test_its_calibration_is_told(self, realsense):
        found = realsense.intrinsics
        assert (found.width, found.height) == (realsense._config.width, realsense._config.height)
        assert (found.focal, found.centre) == ((615.5, 615.25), (39.75, 25.5))
        assert (found.distortion, found.coefficients) == ("plumb_bob", (0.0,) * 5)

    def test_stamps(self, realsense):
        frame = next_frame(realsense)
        assert frame.domain == "global_time"
        assert -0.001 < time.monotonic() - frame.captured < 5.0

    def test_a_value_that_cannot_be_set(self, fakes, realsense_config):
        fakes("FAKE_REALSENSE", "stubborn")
        with pytest.raises(RobotFault, match="exposure was set to 156 and reads back as 1"):
            RealSense(realsense_config)

    def test_a_wrong_serial_number_lists_those_that_are_there(self, fakes, realsense_config):
        import msgspec

        with pytest.raises(RobotFault, match="connected are: 123456789"):
            RealSense(msgspec.structs.replace(realsense_config, serial="999"))

    def test_a_killed_process_is_started_anew(self, realsense):
        next_frame(realsense)
        os.kill(realsense.pid, signal.SIGKILL)
        next_frame(realsense)
        next_frame(realsense)
        assert realsense.restarts == 1

    def test_a_library_that_hangs_is_killed(self, realsense, fakes, monkeypatch):
        from tgrpo_ros.drivers import realsense as module

        next_frame(realsense)
        monkeypatch.setattr(module, "SILENCE", 0.5)
        old = realsense.pid
        fakes("FAKE_REALSENSE", "frozen")
        time.sleep(0.3)
        while realsense.restarts == 0:
            realsense.read(0.2)
        assert not Path(f"/proc/{old}/fd").exists()
        fakes("FAKE_REALSENSE", "")
        next_frame(realsense)

    def test_unplugged_for_good_is_a_fault_after_three_attempts(self, realsense, fakes):
        next_frame(realsense)
        fakes("FAKE_REALSENSE", "unplugged")
        with pytest.raises(RobotFault, match=r"'front' is lost.*Check its cable"):
            read_on(realsense)
        assert realsense.restarts == 3
        with pytest.raises(RobotFault, match="is lost"):
            realsense.read(0.2)

    def test_restarts_are_bounded_in_time(self):
        budget = Restarts(3, 60.0)
        assert [budget.spend(now) for now in (0.0, 1.0, 2.0, 3.0, 61.0, 61.5, 62.5)] == [
            True, True, True, False, True, True, True,
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("stamp", "domain", "expected"),
        [
            (999.98, "global_time", 49.98),
            (1000.0, "system_time", 50.0),
            (990.0, "global_time", 40.0),  # an old picture
            (1003.0, "global_time", 53.0),  # a clock that is wrong, which the safety layer has to see
            (7.5, "hardware_clock", 50.0),
        ],
    )
    def test_stamps_on_the_steady_clock(self, stamp, domain, expected):
        assert Stamps().captured(stamp, domain, wall=1000.0, steady=50.0) == pytest.approx(expected)

    @pytest.mark.parametrize("step", [10.0, -10.0, 3600.0, -3600.0])
    def test_a_clock_that_is_set_makes_no_picture_old(self, step):
        """The camera's idea of the time follows the step within a second, the pictures are all 20 ms old."""
        stamps, ages = Stamps(), []
        for frame in range(600):
            steady = frame / 30.0
            wall = 1000.0 + steady + (step if steady > 5.0 else 0.0)
            stamp = wall - 0.02 - (step if 5.0 < steady < 6.0 else 0.0)
            ages.append(steady - stamps.captured(stamp, "global_time", wall, steady))
        assert max(ages) < 0.021
        assert min(ages) >= 0.0


def test_the_scene_names_its_views(scene):
    from tgrpo_ros.drivers.sim_arm import SimCamera

    with pytest.raises(RobotFault, match="renders agentview, not 'wrist'"):
        SimCamera(scene.address, "wrist")


def test_a_video_plays_in_a_loop_and_skips_what_is_late(video):
    first = next_frame(video)
    time.sleep(0.2)
    assert next_frame(video).sequence >= first.sequence + 5
    while next_frame(video).sequence < 15:
        pass


def test_no_video(tmp_path):
    from tgrpo_ros.drivers.video import VideoCamera

    path = tmp_path / "text.mp4"
    path.write_text("no video")
    with pytest.raises(SettingsError, match="not a video"):
        VideoCamera("front", path)
