"""Drivers of arms, cameras and teleoperation devices; none needs ROS, each keeps a small contract."""

from tgrpo_ros.drivers.base import Arm as Arm
from tgrpo_ros.drivers.base import Camera as Camera
from tgrpo_ros.drivers.base import Frame as Frame
from tgrpo_ros.drivers.base import Reading as Reading
from tgrpo_ros.drivers.base import Teleop as Teleop
