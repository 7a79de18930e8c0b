"""Records a RealSense that never was: a `software_device` of librealsense, through its own recorder, to a .db3 file."""

import time

import numpy as np
import pyrealsense2 as rs

SERIAL = "843112070123"
WIDTH, HEIGHT, RATE = 320, 240, 30


def colour_device(serial):
    """A camera with a colour sensor that takes what software gives it.

    Returns:
        The device, its sensor and the profile of its stream.
    """
    device = rs.software_device()
    device.register_info(rs.camera_info.name, "Virtual D435")
    device.register_info(rs.camera_info.serial_number, serial)
    sensor = device.add_sensor("RGB Camera")
    stream = rs.video_stream()
    stream.type, stream.fmt = rs.stream.color, rs.format.rgb8
    stream.index = stream.uid = 0
    stream.width, stream.height, stream.fps, stream.bpp = WIDTH, HEIGHT, RATE, 3
    lens = rs.intrinsics()
    lens.width, lens.height, lens.ppx, lens.ppy, lens.fx, lens.fy = WIDTH, HEIGHT, WIDTH / 2, HEIGHT / 2, 300.0, 300.0
    stream.intrinsics = lens
    return device, sensor, sensor.add_video_stream(stream)


def picture(number):
    """Noise, with the frame's number in the first pixels."""
    image = np.random.default_rng(number).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    image[:8, :8] = number
    return image


def record(path, serial, seconds, domain=rs.timestamp_domain.hardware_clock):
    """Writes a recording in real time.

    Args:
        path: Ends in .db3.
        serial: Of the camera.
        seconds: How long [s].
        domain: Clock of the stamps; a recorded wall clock is an old one when it is played.
    """
    device, sensor, profile = colour_device(serial)
    recorder = rs.recorder(str(path), device)
    recorded = recorder.query_sensors()[0]
    queue = rs.frame_queue(4)
    recorded.open(recorded.get_stream_profiles()[0])
    recorded.start(queue)
    begun = time.time()
    for number in range(round(seconds * RATE)):
        frame = rs.software_video_frame()
        frame.pixels, frame.stride, frame.bpp = picture(number), WIDTH * 3, 3
        frame.timestamp, frame.domain = (begun + number / RATE) * 1000.0, domain
        frame.frame_number, frame.profile = number, profile.as_video_stream_profile()
        sensor.on_video_frame(frame)
        time.sleep(max(0.0, begun + (number + 1) / RATE - time.time()))
    recorded.stop()
    recorded.close()
