"""The RealSense driver over the real librealsense: pipeline, options, unplugging; only the sensor is a recording."""

import time

import msgspec
import numpy as np
import pytest

from tgrpo.errors import RobotFault
from tgrpo_ros.drivers import realsense_messages as messages
from tgrpo_ros.drivers.realsense import RealSense
from tgrpo_ros.safety.cameras import CameraWatch, digest
from tgrpo_ros.safety.settings import Watchdogs


@pytest.fixture
def tools(recording):
    from tests.contract import realsense_recording

    return realsense_recording


def read_for(camera, seconds):
    frames, limit = [], time.monotonic() + seconds
    while time.monotonic() < limit:
        frame = camera.read(0.1)
        if frame is not None:
            frames.append(frame)
    return frames


def test_pictures_come_through_unchanged(librealsense, tools, record_property):
    camera = librealsense
    frames = read_for(camera, 3.0)
    for frame in frames[:20]:
        assert np.array_equal(frame.image, tools.picture(int(frame.image[0, 0, 0])))
    record_property("frames in 3 s at 30 Hz", len(frames))
    print(f"frames in 3 s at 30 Hz: {len(frames)}")
    assert 20 <= len(frames) <= 100
    assert {frame.domain for frame in frames} == {"hardware_clock"}
    assert camera.restarts == 0


def test_the_recorded_calibration_is_told(librealsense):
    found = librealsense.intrinsics
    assert (found.width, found.height) == (320, 240)
    assert (found.focal, found.centre) == ((300.0, 300.0), (160.0, 120.0))
    assert (found.distortion, found.coefficients) == ("plumb_bob", (0.0,) * 5)


def test_a_wrong_serial_number_lists_those_that_are_there(plug, recorded_config):
    with pytest.raises(RobotFault, match="connected are: 843112070123"):
        RealSense(msgspec.structs.replace(recorded_config, serial="999"))


def test_a_stream_that_the_camera_does_not_have(plug, recorded_config):
    with pytest.raises(RobotFault, match="resolve"):
        RealSense(msgspec.structs.replace(recorded_config, width=1920, height=1080))


def test_b3_unplugged_and_plugged_in_again(pluggable, plug, record_property):
    camera, dogs = pluggable, Watchdogs()
    watch = CameraWatch(["front"], dogs, time.monotonic())

    last = [0.0]

    def see(patience):
        frame = camera.read(patience)
        if frame is not None:
            last[0] = time.monotonic()
            watch.see("front", frame.captured, digest(frame.image), time.monotonic())

    while not last[0]:
        see(0.05)
    plug.touch()
    while not (reasons := watch.reasons(time.monotonic())):
        see(0.005)
    took = time.monotonic() - last[0]  # librealsense takes a second to unplug what it plays
    record_property("B3: last picture to HOLD", f"{took:.3f} s")
    print(f"B3: last picture to HOLD: {took:.3f} s")
    assert reasons[0].name == "camera_lost"
    while camera.restarts == 0:
        camera.read(0.2)
    plug.unlink()
    limit = time.monotonic() + 20.0
    while watch.reasons(time.monotonic()):
        assert time.monotonic() < limit
        see(0.1)


def test_b2_old_pictures_are_seen_to_be_old(plug, recorded_config, tools, tmp_path):
    path = tmp_path / "old.db3"
    tools.record(path, tools.SERIAL, seconds=0.5, domain=tools.rs.timestamp_domain.system_time)
    time.sleep(0.5)
    camera = RealSense(msgspec.structs.replace(recorded_config, file=str(path)))
    try:
        watch = CameraWatch(["front"], Watchdogs(), time.monotonic())
        frame = read_for(camera, 0.5)[-1]
        assert frame.domain == "system_time"
        now = time.monotonic()
        watch.see("front", frame.captured, digest(frame.image), now)
        assert [reason.name for reason in watch.reasons(now)] == ["camera_late"]
    finally:
        camera.close()


def test_exposure_and_white_balance_are_set_and_read_back_on_a_real_sensor(tools):
    """Options of a played recording are read-only, so this is librealsense's software sensor itself."""
    from tgrpo_ros.drivers.realsense_process import settle

    device, sensor, _ = tools.colour_device(tools.SERIAL)
    option, span = tools.rs.option, tools.rs.option_range()
    for name, low, high, value in (
        ("enable_auto_exposure", 0, 1, 1),
        ("exposure", 1, 10_000, 300),
        ("enable_auto_white_balance", 0, 1, 1),
        ("white_balance", 2800, 6500, 3000),
    ):
        span.min, span.max, span.default, span.step = low, high, value, 1
        sensor.add_option(getattr(option, name), span, True)
    wanted = messages.Open(
        serial=tools.SERIAL, file="", width=320, height=240, rate=30, exposure=156, white_balance=4600, reset=False
    )
    read = settle(tools.rs, device, wanted)
    assert read == {"enable_auto_exposure": 0, "exposure": 156, "enable_auto_white_balance": 0, "white_balance": 4600}
    assert sensor.get_option(option.exposure) == 156
