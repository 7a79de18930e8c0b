"""Limits of the safety layer, with units. Where each default comes from stands in ``docs/safety.md``."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from tgrpo.errors import SettingsError
from tgrpo.settings import Strict

Metres = Annotated[float, msgspec.Meta(ge=-3.0, le=3.0)]
Reach = Annotated[float, msgspec.Meta(gt=0.0, le=1.0)]
Turn = Annotated[float, msgspec.Meta(gt=0.0, le=3.1416)]
Radians = Annotated[float, msgspec.Meta(ge=-6.2832, le=6.2832)]
Seconds = Annotated[float, msgspec.Meta(gt=0.0, le=10.0)]
Count = Annotated[int, msgspec.Meta(ge=1, le=1000)]
Point = tuple[Metres, Metres, Metres]
Joints = tuple[Radians, Radians, Radians, Radians, Radians, Radians, Radians]


class Workspace(Strict, frozen=True):
    """The box that the tool may be in, in the base frame. It has no default: only who sees the cell knows it."""

    low: Point
    """Least x, y, z [m]."""
    high: Point
    """Greatest x, y, z [m]."""


class StepLimits(Strict, frozen=True):
    """How much one action may ask for."""

    position: Reach = 0.03
    """A longer translation is shortened to this [m]."""
    rotation: Turn = 0.1
    """A greater rotation is reduced to this [rad]."""
    absurd: Annotated[float, msgspec.Meta(ge=2.0, le=100.0)] = 10.0
    """An action of more than this many times a limit is no action: it is refused and counted as bad."""


class MotionLimits(Strict, frozen=True):
    """How fast the reference may move; the values of libfranka are 3.0 m/s, 9.0 m/s2, 2.5 rad/s and 17 rad/s2."""

    linear_speed: Annotated[float, msgspec.Meta(gt=0.0, le=3.0)] = 0.30
    """[m/s]."""
    linear_acceleration: Annotated[float, msgspec.Meta(gt=0.0, le=9.0)] = 1.5
    """[m/s2]."""
    angular_speed: Annotated[float, msgspec.Meta(gt=0.0, le=2.5)] = 1.0
    """[rad/s]."""
    angular_acceleration: Annotated[float, msgspec.Meta(gt=0.0, le=17.0)] = 6.0
    """[rad/s2]."""
    bandwidth: Annotated[float, msgspec.Meta(ge=2.0, le=80.0)] = 30.0
    """Natural frequency of the follower [rad/s]: greater lags less and jerks more; it lags by 2 / bandwidth."""

    @property
    def stop_time(self) -> float:
        """Longest time that braking takes [s]."""
        return max(self.linear_speed / self.linear_acceleration, self.angular_speed / self.angular_acceleration)


class LeadLimits(Strict, frozen=True):
    """How far the target may be ahead of the measured pose: what an arm that is held pushes with."""

    position: Reach = 0.04
    """[m]."""
    rotation: Turn = 0.25
    """[rad]."""


class JointLimits(Strict, frozen=True):
    """Joint ranges of the arm."""

    low: Joints
    """``(7,)`` [rad]."""
    high: Joints
    """``(7,)`` [rad]."""
    margin: Annotated[float, msgspec.Meta(ge=0.0, le=0.5)] = 0.1
    """Distance to the ranges that is kept [rad]."""


class Watchdogs(Strict, frozen=True):
    """How old something may be before the arm holds or stops."""

    command_hold: Seconds = 0.25
    """Age of the newest command of the source that moves the arm: hold [s]."""
    command_stop: Seconds = 1.0
    """The same: controlled stop, and the source loses its lease [s]."""
    human_hold: Seconds = 0.15
    """Age of the newest command of a person who has not let go: hold [s]."""
    state_stop: Seconds = 0.1
    """Age of the newest report of the arm: controlled stop [s]."""
    camera_hold: Seconds = 0.15
    """Age of the newest frame of a camera: hold [s]."""
    frame_age: Seconds = 0.2
    """Age of a frame at its arrival: hold [s]."""
    frozen_frames: Count = 15
    """Equal pictures in a row that mean a frozen camera: hold."""
    future: Seconds = 0.05
    """How far ahead of the clock a stamp may be before it is refused [s]."""
    hold_stop: Seconds = 1.0
    """A hold that lasts this long becomes a controlled stop [s]."""
    missed_ticks: Count = 3
    """Ticks missed in a row: hold."""


class ChunkLimits(Strict, frozen=True):
    """How long the actions of a chunk may be executed."""

    align: Literal["stamp", "sequence"] = "stamp"
    """``stamp`` drops the actions that were meant for the time the policy thought; ``sequence`` executes all."""
    max_age: Seconds = 1.0
    """No action is executed later than this after its observation [s]."""
    bad_in_a_row: Count = 3
    """Commands that are no commands, one after another: fault."""


class Handover(Strict, frozen=True):
    """What happens when another source takes the arm."""

    human_holdover: Annotated[float, msgspec.Meta(ge=0.0, le=2.0)] = 0.4
    """How long a person who let go still keeps the arm [s]."""
    ramp: Annotated[float, msgspec.Meta(ge=0.0, le=2.0)] = 0.3
    """How long a new source's steps grow from 0 to their length [s]."""


class Recovery(Strict, frozen=True):
    """How often a reflex of the robot may be recovered."""

    count: Count = 2
    """Recoveries within :attr:`window`; after that a person has to restart the arm."""
    window: Annotated[float, msgspec.Meta(ge=1.0, le=3600.0)] = 60.0
    """[s]."""


class Gripper(Strict, frozen=True):
    """How a continuous gripper action becomes open or close."""

    hysteresis: Annotated[float, msgspec.Meta(ge=0.0, lt=1.0)] = 0.3
    """An action within plus or minus this changes nothing."""
    min_interval: Annotated[float, msgspec.Meta(ge=0.0, le=5.0)] = 0.5
    """Least time between two changes [s]."""


class SafetySettings(Strict, frozen=True):
    """Everything between a command and the arm. Each gate is always on; there is no switch for any."""

    workspace: Workspace
    """No default."""
    joints: JointLimits
    """Of the arm's data sheet."""
    rate: Annotated[float, msgspec.Meta(ge=5.0, le=1000.0)] = 250.0
    """Ticks of the safety layer, and references to the arm [1/s]."""
    reference: Literal["follower", "direct"] = "follower"
    """``direct`` hands targets to the arm as they are; only a simulated arm takes that."""
    anchor: Literal["commanded", "measured"] = "commanded"
    """What an action is relative to: the last target, or the measured pose as in LIBERO."""
    step: StepLimits = StepLimits()
    """Of one action."""
    motion: MotionLimits = MotionLimits()
    """Of the reference."""
    lead: LeadLimits = LeadLimits()
    """Of the target, against the measured pose."""
    watchdogs: Watchdogs = Watchdogs()
    """Of everything that may fall silent."""
    chunks: ChunkLimits = ChunkLimits()
    """Of actions decided ahead."""
    handover: Handover = Handover()
    """Between sources."""
    recovery: Recovery = Recovery()
    """From reflexes."""
    gripper: Gripper = Gripper()
    """Open or close."""


def check(settings: SafetySettings) -> None:
    """Refuses limits that contradict each other.

    Raises:
        SettingsError: A box or a joint range is empty, or a stop comes before its hold.
    """
    box, joints, dogs = settings.workspace, settings.joints, settings.watchdogs
    for axis, low, high in zip("xyz", box.low, box.high, strict=True):
        if not low < high:
            raise SettingsError(f"workspace {axis}: low {low} m is not below high {high} m. Swap or widen them.")
    for index, (low, high) in enumerate(zip(joints.low, joints.high, strict=True), 1):
        if not low + 2.0 * joints.margin < high:
            raise SettingsError(
                f"joint {index}: range {low} to {high} rad leaves nothing inside its margin of {joints.margin} rad."
            )
    if dogs.command_stop <= dogs.command_hold:
        raise SettingsError(
            f"watchdogs.command_stop {dogs.command_stop} s must be later than command_hold {dogs.command_hold} s."
        )
