"""The process that holds one RealSense: `python -m tgrpo_ros.drivers.realsense_process FD`.

librealsense may hang when a cable is pulled, in stopping too; then this process is killed and another one started.
"""

from __future__ import annotations

import importlib
import time
from typing import Any

import numpy as np

from tgrpo_ros.drivers import realsense_messages as messages
from tgrpo_ros.drivers.base import Intrinsics
from tgrpo_ros.drivers.link import Channel, Failed, serve

WAIT_MS = 700
"""How long librealsense may wait for a frame [ms]."""
CLOCK_STEP = 0.05
"""A wall clock that moved this much against the steady one between two frames was set [s]."""
DOUBT = 10.0
"""How long stamps are not believed after that: librealsense learns the new time slowly [s]."""
PIP = "pip install 'pyrealsense2>=2.55' and apt-get install libusb-1.0-0"


def main() -> None:
    """Serves one camera until the other end of the channel closes or the camera is lost."""
    channel = serve(messages.Open)
    try:
        try:
            library = importlib.import_module("pyrealsense2")
        except ImportError as error:
            channel.send(Failed(reason=f"a RealSense needs pyrealsense2 ({error}). Run: {PIP}"))
            return
        first = channel.receive(10.0)
        if first:
            try:
                run(library, first[0], channel)
            except RuntimeError as error:  # what librealsense raises for everything
                channel.send(Failed(reason=f"camera {first[0].serial}: {error}"))
    except EOFError:
        return


def run(library: Any, wanted: messages.Open, channel: Channel[Any]) -> None:
    """Streams frames.

    Raises:
        EOFError: Nobody reads them any more.
        RuntimeError: The camera is missing or was lost.
    """
    context = library.context()
    _played = context.load_device(wanted.file) if wanted.file else None  # gone when nobody holds it
    device = find(library, context, wanted.serial)
    if wanted.reset:
        device.hardware_reset()
        time.sleep(3.0)
        device = find(library, context, wanted.serial)
    pipeline, config = library.pipeline(context), library.config()
    config.enable_device(wanted.serial)
    if wanted.file:
        config.enable_device_from_file(wanted.file, True)
    config.enable_stream(library.stream.color, wanted.width, wanted.height, library.format.rgb8, round(wanted.rate))
    profile = pipeline.start(config)
    try:
        options = settle(library, profile.get_device(), wanted)
        channel.send(messages.Opened(options=options, intrinsics=projection(profile, library)))
        sequence, stamps = 0, Stamps()
        while True:
            picture = pipeline.wait_for_frames(WAIT_MS).get_color_frame()
            if not picture:
                continue
            domain = str(picture.get_frame_timestamp_domain()).rpartition(".")[2]
            stamp = stamps.captured(picture.get_timestamp() / 1000.0, domain, time.time(), time.monotonic())
            image = np.asarray(picture.get_data())
            channel.send(
                messages.Picture(
                    data=image.tobytes(),
                    height=image.shape[0],
                    width=image.shape[1],
                    captured=stamp,
                    sequence=sequence,
                    domain=messages.DOMAINS.get(domain, "hardware_clock"),
                )
            )
            sequence += 1
    finally:
        pipeline.stop()


def find(library: Any, context: Any, serial: str) -> Any:
    """The device of a serial number.

    Raises:
        RuntimeError: There is none; the message lists those that there are.
    """
    there = {device.get_info(library.camera_info.serial_number): device for device in context.query_devices()}
    if serial not in there:
        raise RuntimeError(f"not connected; connected are: {', '.join(there) or 'none'}. Check cable and serial number")
    return there[serial]


def projection(profile: Any, library: Any) -> Intrinsics | None:
    """Intrinsics of the colour stream; None if ROS has no name for its distortion.

    A D4xx says that its colour stream follows the inverse of Brown's model, with coefficients that are all 0.
    """
    found = profile.get_stream(library.stream.color).as_video_stream_profile().get_intrinsics()
    model = str(found.model).rpartition(".")[2]
    coefficients = tuple(float(value) for value in found.coeffs)
    known = {"none": "plumb_bob", "brown_conrady": "plumb_bob", "kannala_brandt4": "equidistant"}
    distortion = known.get(model, "" if any(coefficients) else "plumb_bob")
    if not distortion:
        return None
    return Intrinsics(
        width=found.width,
        height=found.height,
        focal=(found.fx, found.fy),
        centre=(found.ppx, found.ppy),
        distortion=distortion,  # type: ignore[arg-type]
        coefficients=coefficients if distortion == "plumb_bob" else coefficients[:4],
    )


def settle(library: Any, device: Any, wanted: messages.Open) -> dict[str, float]:
    """Locks exposure and white balance of the colour sensor and reads them back.

    Raises:
        RuntimeError: There is no colour sensor, or it kept another value.
    """
    sensor = colour_sensor(library, device)
    option = library.option
    queue = option.frames_queue_size
    if sensor.supports(queue) and not sensor.is_option_read_only(queue):
        sensor.set_option(queue, 1)
    read: dict[str, float] = {}
    for name, value in (
        ("enable_auto_exposure", 0.0),
        ("exposure", float(wanted.exposure)),
        ("enable_auto_white_balance", 0.0),
        ("white_balance", float(wanted.white_balance)),
    ):
        which = getattr(option, name)
        if not sensor.supports(which):
            continue
        if not sensor.is_option_read_only(which):
            sensor.set_option(which, value)
        read[name] = float(sensor.get_option(which))
        limits = sensor.get_option_range(which)
        if not sensor.is_option_read_only(which) and abs(read[name] - value) > max(limits.step, 1e-6):
            raise RuntimeError(f"{name} was set to {value:g} and reads back as {read[name]:g}")
    return read


def colour_sensor(library: Any, device: Any) -> Any:
    """The colour sensor by name: the first sensor of a depth camera is its stereo module.

    Raises:
        RuntimeError: The device has none.
    """
    names = []
    for sensor in device.query_sensors():
        name = sensor.get_info(library.camera_info.name)
        if "rgb" in name.lower() or "color" in name.lower():
            return sensor
        names.append(name)
    if len(names) == 1:  # some cameras take colour with their only sensor
        return device.query_sensors()[0]
    raise RuntimeError(f"no colour sensor among: {', '.join(names)}")


class Stamps:
    """Moves stamps of frames from the wall clock to the steady clock.

    The wall clock is read only to learn how old a stamp is. Whoever sets it makes every stamp wrong for a while; then
    the time of arrival counts. Otherwise an old stamp is an old picture, however old.
    """

    def __init__(self) -> None:
        """Has seen no frame."""
        self._offset: float | None = None
        self._doubt = float("-inf")

    def captured(self, stamp: float, domain: str, wall: float, steady: float) -> float:
        """When a picture was taken, on the steady clock [s].

        Args:
            stamp: Of the frame, in its domain [s].
            domain: ``global_time`` and ``system_time`` are the wall clock of this machine; others start anywhere.
            wall: The wall clock now [s].
            steady: The steady clock now [s].
        """
        offset = wall - steady
        if self._offset is not None and abs(offset - self._offset) > CLOCK_STEP:
            self._doubt = steady + DOUBT
        self._offset = offset
        if domain not in ("global_time", "system_time") or steady < self._doubt:
            return steady
        return stamp - offset


if __name__ == "__main__":
    main()
