"""The ladder of stops: RUN, HOLD, DECELERATE, FAULT, each with a named reason.

=========== ================================================ ==========================================================
level       what the arm does                                 how it is left
=========== ================================================ ==========================================================
RUN         follows its source                                any reason below
HOLD        brakes and stays                                  by itself when the reason is gone; after 1 s DECELERATE
DECELERATE  brakes, forgets target and chunk, takes leases    :meth:`Ladder.arm` by a person, at rest, without reasons
FAULT       the same, and the robot is told to stop           :meth:`Ladder.acknowledge` by a person, then ``arm``
=========== ================================================ ==========================================================

An arm starts in DECELERATE with the reason ``not_armed``: nothing moves before somebody has said so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from tgrpo.errors import RobotFault
from tgrpo_ros.motion import Source


class Level(IntEnum):
    """How much is left of the freedom to move; the greater one wins."""

    RUN = 0
    HOLD = 1
    DECELERATE = 2
    FAULT = 3


@dataclass(frozen=True)
class Reason:
    """Why the arm must not simply run."""

    level: Level
    name: str
    """For machines, for example ``stale_command``."""
    detail: str = ""
    """For people: the value, the limit and what to do."""
    above: Source | None = None
    """Set if the reason concerns only sources below this one: a lost camera does not stop a person who looks."""


NOT_ARMED = Reason(Level.DECELERATE, "not_armed", "the arm waits to be armed by a person")
ACKNOWLEDGED = Reason(Level.DECELERATE, "acknowledged", "the fault was acknowledged; arm again to move")


class Ladder:
    """On which level the arm is, and why.

    Attributes:
        level: The present one.
        reason: Why; None while it runs.
        since: Steady time at which the level was entered [s].
    """

    def __init__(self, hold_stop: float, stop_time: float, now: float) -> None:
        """Starts not armed.

        Args:
            hold_stop: How long a hold may last [s].
            stop_time: How long braking may take; an arm that still moves later is a fault [s].
            now: Steady time [s].
        """
        self._hold_stop, self._stop_time = hold_stop, stop_time
        self.level, self.since = Level.DECELERATE, now
        self.reason: Reason | None = NOT_ARMED
        self._braking_since = now

    def update(self, now: float, reasons: Sequence[Reason], moving: bool) -> Level:
        """Climbs as far as the reasons say; only a hold is left without a person.

        Args:
            now: Steady time [s].
            reasons: All that hold at this instant.
            moving: Whether the measured arm moves.

        Returns:
            The level from now on.
        """
        worst = max(reasons, key=lambda reason: reason.level, default=None)
        if worst is not None and worst.level > self.level:
            self._enter(worst, now)
        elif self.level is Level.HOLD:
            if worst is None:
                self.level, self.reason, self.since = Level.RUN, None, now
            elif now - self.since >= self._hold_stop:
                self._enter(Reason(Level.DECELERATE, worst.name, f"held for {self._hold_stop} s: {worst.detail}"), now)
        if not moving:
            self._braking_since = now
        elif self.level is Level.DECELERATE and now - self._braking_since > self._stop_time:
            name, why = "does_not_stop", f"the arm still moves {self._stop_time:.2f} s after it was told to stop"
            self._enter(Reason(Level.FAULT, name, f"{why}. Use the enabling device."), now)
        return self.level

    def arm(self, now: float, reasons: Sequence[Reason], moving: bool) -> None:
        """Lets the arm run. A person's decision.

        Raises:
            RobotFault: The arm is in FAULT, moves, or a reason not to run holds.
        """
        if self.level is Level.FAULT:
            raise RobotFault(f"not armed: {self.describe()}. Find the cause, then acknowledge the fault.")
        if moving:
            raise RobotFault("not armed: the arm moves. Wait until it rests.")
        worst = max(reasons, key=lambda reason: reason.level, default=None)
        if worst is not None:
            raise RobotFault(f"not armed: {worst.name}: {worst.detail}.")
        self.level, self.reason, self.since = Level.RUN, None, now

    def stop(self, now: float, name: str, detail: str) -> None:
        """Brakes to a stop that only :meth:`arm` ends."""
        if self.level < Level.DECELERATE:
            self._enter(Reason(Level.DECELERATE, name, detail), now)

    def fault(self, now: float, name: str, detail: str) -> None:
        """Latches a fault; the first one keeps its name."""
        if self.level < Level.FAULT:
            self._enter(Reason(Level.FAULT, name, detail), now)

    def acknowledge(self, now: float, reasons: Sequence[Reason]) -> None:
        """Ends a fault whose cause is gone. A person's decision; nothing moves before :meth:`arm`.

        Raises:
            RobotFault: There is no fault, or its cause still holds.
        """
        if self.level is not Level.FAULT:
            raise RobotFault("there is no fault to acknowledge.")
        still = [reason for reason in reasons if reason.level is Level.FAULT]
        if still:
            raise RobotFault(f"the fault is still there: {still[0].name}: {still[0].detail}.")
        self.level, self.reason, self.since = Level.DECELERATE, ACKNOWLEDGED, now

    def describe(self) -> str:
        """Level and reason in one line."""
        if self.reason is None:
            return self.level.name
        return f"{self.level.name} {self.reason.name}: {self.reason.detail}"

    def _enter(self, reason: Reason, now: float) -> None:
        if self.level < Level.DECELERATE:
            self._braking_since = now
        self.level, self.reason, self.since = reason.level, reason, now
