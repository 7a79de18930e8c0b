"""What the RealSense driver and its process say to each other."""

from __future__ import annotations

from tgrpo_ros.drivers.base import Domain, Intrinsics
from tgrpo_ros.drivers.link import Failed, Message

DOMAINS: dict[str, Domain] = {
    "global_time": "global_time",
    "system_time": "system_time",
    "hardware_clock": "hardware_clock",
}
"""librealsense's names of the clocks that stamp frames."""


class Open(Message, frozen=True):
    """The first message: which camera, and how."""

    serial: str
    file: str
    """Recording to play instead of a device; empty for a device."""
    width: int
    height: int
    rate: float
    exposure: int
    white_balance: int
    reset: bool
    """Reset the hardware first: the last attempt did not help."""


class Opened(Message, frozen=True):
    """The camera streams."""

    options: dict[str, float]
    """What exposure and white balance read back as."""
    intrinsics: Intrinsics | None = None
    """Of the colour stream; None if its distortion has no name in ROS."""


class Picture(Message, frozen=True):
    """One RGB picture."""

    data: bytes
    height: int
    width: int
    captured: float
    """On the steady clock of this machine [s]."""
    sequence: int
    domain: Domain


FromCamera = Opened | Picture | Failed
