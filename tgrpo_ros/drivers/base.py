"""The contracts that drivers keep; ``tests/contract`` holds every driver to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import msgspec
import numpy as np

from tgrpo.types import FloatArray, Image
from tgrpo_ros.motion import ArmState, Reference

Domain = Literal["steady", "global_time", "system_time", "hardware_clock", "simulation", "file"]
"""Where a camera's stamp comes from before it was converted to the steady clock."""


@runtime_checkable
class Arm(Protocol):
    """An arm with a gripper.

    It may be used by one thread. Nothing moves before :meth:`start` or after :meth:`stop`, and an arm whose user falls
    silent stops by itself.
    """

    @property
    def simulated(self) -> bool:
        """Whether no person can be hurt."""
        ...

    def now(self) -> float:
        """The steady clock that reports are stamped with [s]: this machine's, or the clock of a scene that waits."""
        ...

    def state(self) -> ArmState | None:
        """The newest report, at once; None before the first one."""
        ...

    def start(self) -> None:
        """Takes control and holds the present pose.

        Raises:
            RobotFault: The robot does not permit it.
        """
        ...

    def follow(self, reference: Reference) -> None:
        """Sends the next reference, without waiting for the motion. Ignored while the arm is not started.

        Raises:
            ValueError: It is not finite.
        """
        ...

    def grip(self, close: bool) -> None:
        """Begins to close or open the gripper and returns at once."""
        ...

    def stop(self) -> None:
        """Stops the robot's controller, softly. May be called at any time, more than once."""
        ...

    def recover(self) -> None:
        """Clears a reflex, without moving.

        Raises:
            RobotFault: There is none, or it cannot be cleared.
        """
        ...

    def close(self) -> None:
        """Stops and frees everything. May be called more than once."""
        ...


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture."""

    image: Image
    """Upright RGB picture ``(H, W, 3)``."""
    captured: float
    """When it was taken, on the steady clock of its arm or machine [s]."""
    sequence: int
    """Grows with each new picture."""
    domain: Domain
    """Where the stamp comes from."""


class Intrinsics(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A camera's projection, in the terms of ``sensor_msgs/CameraInfo``: the middle of the first pixel is (0, 0)."""

    width: int
    """[px]."""
    height: int
    """[px]."""
    focal: tuple[float, float]
    """Along x and y [px]."""
    centre: tuple[float, float]
    """Principal point, x and y [px]."""
    distortion: Literal["plumb_bob", "equidistant"] = "plumb_bob"
    coefficients: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0, 0.0)


@runtime_checkable
class Camera(Protocol):
    """A camera. It keeps the newest picture only: an old one is worth nothing to a policy."""

    @property
    def name(self) -> str:
        """The view's name as the policy knows it."""
        ...

    @property
    def still(self) -> bool:
        """Whether two pictures of a working camera may be equal, as those of a simulation without noise are."""
        ...

    @property
    def intrinsics(self) -> Intrinsics | None:
        """Its projection; None if nobody has told."""
        ...

    def read(self, timeout: float) -> Frame | None:
        """The newest picture that was not read yet.

        Args:
            timeout: How long to wait for one [s].

        Returns:
            None if there was no new one.

        Raises:
            RobotFault: The camera is lost and the attempts to bring it back are used up.
        """
        ...

    def close(self) -> None:
        """Frees the device. May be called more than once."""
        ...


@dataclass(frozen=True, eq=False)
class Reading:
    """What a person asks for at one instant."""

    motion: FloatArray = field(default_factory=lambda: np.zeros(6))
    """Translation ``(3,)`` and rotation ``(3,)`` in [-1, 1], axes of the arm's base; 0 in the dead zone."""
    gripper: float = 0.0
    """1 closes, -1 opens, 0 leaves it."""
    engaged: bool = False
    """The person holds the dead-man button or moves the device."""
    connected: bool = True
    """False once the device is gone; then nothing else in the reading counts."""
    word: str = ""
    """What a button or key held now says to a session: ``go``, ``success``, ``failure``, ``abort``; nothing else."""

    def action(self) -> FloatArray:
        """The reading as an action ``(7,)`` of a robot whose gripper closes at +1."""
        return np.append(self.motion, self.gripper)


@runtime_checkable
class Teleop(Protocol):
    """A device that a person moves the arm with."""

    def read(self) -> Reading:
        """What the person asks for now, at once."""
        ...

    def close(self) -> None:
        """Frees the device. May be called more than once."""
        ...


def finite(reference: Reference) -> bool:
    """Whether a reference can be followed."""
    numbers = (reference.pose.position, reference.pose.quaternion, reference.linear, reference.angular)
    return all(bool(np.isfinite(values).all()) for values in numbers)
