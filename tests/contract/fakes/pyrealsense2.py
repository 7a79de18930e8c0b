"""Stands in for pyrealsense2: one camera whose picture changes 60 times a second.

It is the outermost edge: the driver, its process and the channel between them are the real ones. Faults come from the
file named by FAKE_REALSENSE: `unplugged`, `frozen` (the library hangs), `stubborn` (exposure cannot be set).
"""

import enum
import os
import time
from pathlib import Path

import numpy as np

SERIAL = "123456789"


def fault():
    path = Path(os.environ.get("FAKE_REALSENSE", "/nonexistent"))
    return path.read_text().strip() if path.exists() else ""


class camera_info(enum.Enum):
    serial_number, name = range(2)


class stream(enum.Enum):
    color = 0


class format(enum.Enum):
    rgb8 = 0


class timestamp_domain(enum.Enum):
    global_time = 0


class option(enum.Enum):
    frames_queue_size, enable_auto_exposure, exposure, enable_auto_white_balance, white_balance = range(5)


class Range:
    step = 1.0


class Sensor:
    def __init__(self, name):
        self.values = dict.fromkeys(option, 1.0)
        self._name = name

    def get_info(self, what):
        return self._name

    def supports(self, which):
        return True

    def is_option_read_only(self, which):
        return False

    def get_option_range(self, which):
        return Range()

    def set_option(self, which, value):
        if not (fault() == "stubborn" and which is option.exposure):
            self.values[which] = value

    def get_option(self, which):
        return self.values[which]


class Device:
    def get_info(self, what):
        return SERIAL

    def query_sensors(self):
        return [Sensor("Stereo Module"), Sensor("RGB Camera")]

    def hardware_reset(self):
        pass


class context:
    def query_devices(self):
        return [] if fault() == "unplugged" else [Device()]


class config:
    def enable_device(self, serial):
        self.serial = serial

    def enable_stream(self, which, width, height, kind, rate):
        self.size = (height, width)


class distortion(enum.Enum):
    inverse_brown_conrady = 2


class Profile:
    """Of the colour stream, with numbers like those of a D435."""

    def __init__(self, size):
        self.height, self.width = size
        self.fx, self.fy, self.ppx, self.ppy = 615.5, 615.25, self.width / 2 + 7.75, self.height / 2 + 1.5
        self.model, self.coeffs = distortion.inverse_brown_conrady, [0.0] * 5

    def as_video_stream_profile(self):
        return self

    def get_intrinsics(self):
        return self


class Colour:
    def __init__(self, image, stamp):
        self._image, self._stamp = image, stamp

    def get_data(self):
        return self._image

    def get_timestamp(self):
        return self._stamp * 1000.0

    def get_frame_timestamp_domain(self):
        return timestamp_domain.global_time


class Frames:
    def __init__(self, colour):
        self._colour = colour

    def get_color_frame(self):
        return self._colour


class pipeline:
    def __init__(self, context):
        self._count = 0

    def start(self, config):
        self._size = config.size
        return self

    def get_device(self):
        return Device()

    def get_stream(self, which):
        return Profile(self._size)

    def wait_for_frames(self, patience):
        while fault() == "frozen":
            time.sleep(0.1)
        if fault() == "unplugged":
            time.sleep(patience / 1000.0)
            raise RuntimeError(f"Frame didn't arrive within {patience}")
        time.sleep(1 / 60)
        self._count += 1
        image = np.full((*self._size, 3), self._count % 256, np.uint8)
        return Frames(Colour(image, time.time() - 0.01))

    def stop(self):
        while fault() == "frozen":
            time.sleep(0.1)
