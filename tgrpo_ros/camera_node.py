"""ROS 2 lifecycle node of one camera.

Pictures go to the policy and the safety layer over ZeroMQ (:mod:`tgrpo_ros.frames`). For ROS tools it publishes,
relative to the node and only while somebody listens:
    ``~/image_raw`` (sensor_msgs/Image): every picture.
    ``~/image_raw/compressed`` (sensor_msgs/CompressedImage): up to ``compressed_rate`` times a second.
    ``~/camera_info`` (sensor_msgs/CameraInfo): with every picture, where the driver knows the camera's projection.
"""

from __future__ import annotations

import array
import contextlib
import sys
import time

from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from tgrpo import jpeg
from tgrpo.errors import RobotFault, UnknownNameError
from tgrpo_ros import robot_config
from tgrpo_ros.camera_loop import CameraLoop
from tgrpo_ros.drivers.base import Camera, Frame
from tgrpo_ros.drivers.choose import open_camera
from tgrpo_ros.frames import FrameSender, address_of
from tgrpo_ros.host_lock import HostLock
from tgrpo_ros.managed import OK, WARN, Health, ManagedNode, run
from tgrpo_ros.messages import camera_info_message
from tgrpo_ros.parameters import ROBOT, Option

OPTIONS = (
    *ROBOT,
    Option("camera", "", "name of the camera in the robot's configuration; empty: its first one"),
    Option("frames", "", "where pictures go, ipc://PATH or tcp://127.0.0.1:PORT; empty: named by domain and camera"),
    Option("compressed_rate", 5.0, "greatest rate of ~/image_raw/compressed [1/s]", low=0.1, high=60.0),
)


class CameraNode(ManagedNode):
    """A camera driver, its pictures over ZeroMQ, and what ROS tools see of them."""

    def __init__(self) -> None:
        super().__init__("tgrpo_camera", OPTIONS, "camera")
        self._camera: Camera | None = None
        self._sender: FrameSender | None = None
        self._loop: CameraLoop | None = None
        self._closers = contextlib.ExitStack()

    def open(self) -> None:
        """Opens the camera and the address of its pictures."""
        config = robot_config.load(self.value("robot"), self.workspace())
        cameras = {camera.name: camera for camera in config.cameras}
        name = self.value("camera") or next(iter(cameras), "")
        if name not in cameras:
            raise UnknownNameError("camera", name, cameras)
        chosen = cameras[name]
        address = self.value("frames") or address_of(name, self.get_namespace())
        self._closers.enter_context(HostLock(f"camera at {address}"))
        if chosen.driver == "sim":
            self.scene_description()
        self._camera = open_camera(chosen, self.value("scene"))
        self._closers.callback(self._camera.close)
        self._sender = FrameSender(address, name)
        self._closers.callback(self._sender.close)
        self._raw = self.publisher(Image, "~/image_raw", qos_profile_sensor_data)
        self._compressed = self.publisher(CompressedImage, "~/image_raw/compressed", qos_profile_sensor_data)
        self._info = self.publisher(CameraInfo, "~/camera_info", qos_profile_sensor_data)
        self._frame_id = f"{name}_optical_frame"
        self._next_compressed = 0.0
        self._rate = chosen.rate
        self.get_logger().info(f"camera {name} at {address}")

    def begin(self) -> None:
        """Begins to read."""
        if self._camera is None or self._sender is None:
            raise RobotFault("the camera is not open; configure the node first.")
        self._loop = CameraLoop(self._camera, self._sender, self._show)
        self._loop.start()

    def pause(self) -> None:
        """Stops reading."""
        if self._loop is not None:
            self._loop.close()
            self._loop = None

    def shut(self) -> None:
        """Frees the camera."""
        self.pause()
        self._closers.close()

    def failure(self) -> str:
        """Why there are no pictures any more."""
        return "" if self._loop is None else self._loop.failure

    def health(self) -> Health:
        """Rate, jitter and age of the pictures."""
        health = Health()
        if self._loop is not None:
            health.add(self._loop.meter)
            slow = self._loop.meter.read(time.monotonic()).age > 3.0 / self._rate
            health.level, health.message = (WARN, "no new picture") if slow else (OK, "pictures come")
        return health

    def _show(self, frame: Frame) -> None:
        height, width = frame.image.shape[:2]
        stamp = self.get_clock().now().to_msg()
        if self._raw.get_subscription_count():
            message = Image(height=height, width=width, encoding="rgb8", step=3 * width)
            message.header.stamp, message.header.frame_id = stamp, self._frame_id
            message.data = array.array("B", frame.image.tobytes())
            self._raw.publish(message)
        intrinsics = None if self._camera is None else self._camera.intrinsics
        if intrinsics is not None and self._info.get_subscription_count():
            info = camera_info_message(intrinsics)
            info.header.stamp, info.header.frame_id = stamp, self._frame_id
            self._info.publish(info)
        now = time.monotonic()
        if now >= self._next_compressed and self._compressed.get_subscription_count() and jpeg.available():
            self._next_compressed = now + 1.0 / self.value("compressed_rate")
            small = CompressedImage(format="jpeg", data=array.array("B", jpeg.encode(frame.image)))
            small.header.stamp, small.header.frame_id = stamp, self._frame_id
            self._compressed.publish(small)


def main(args: list[str] | None = None) -> int:
    """Entry point of ``tgrpo_camera_node``."""
    return run(CameraNode, args)


if __name__ == "__main__":
    sys.exit(main())
