"""What a report of the arm says about whether it may move: pure checks, and the watch over both clocks."""

from __future__ import annotations

import numpy as np

from tgrpo import rotation
from tgrpo_ros.motion import ArmState, Pose
from tgrpo_ros.safety import gates
from tgrpo_ros.safety.follower import length
from tgrpo_ros.safety.ladder import Level, Reason
from tgrpo_ros.safety.settings import SafetySettings

MOVING_JOINT = 0.05
"""A joint faster than this moves [rad/s]."""
MISSED_TICKS = "missed_ticks"
"""Reason of a hold after a stall of this machine."""
OUTSIDE = 0.02
"""How far a compliant arm may be pushed out of the box before it is stopped [m]."""
LOST_LEAD = 2.0
"""A reference this many lead limits away from the measured pose is not being followed."""


def moving(state: ArmState | None) -> bool:
    """Whether any joint moves."""
    return state is not None and float(np.abs(state.joint_velocities).max()) > MOVING_JOINT


def is_finite(state: ArmState) -> bool:
    """Whether a report can be calculated with."""
    numbers = (state.pose.position, state.pose.quaternion, state.joints, state.joint_velocities)
    return all(bool(np.isfinite(values).all()) for values in numbers) and bool(np.isfinite(state.time))


def reasons(now: float, state: ArmState | None, settings: SafetySettings) -> list[Reason]:
    """Why the arm must not move, judged by its newest report.

    Args:
        now: Steady time [s].
        state: The report; None if there has not been any.
        settings: Limits.
    """
    if state is None:
        return [Reason(Level.DECELERATE, "no_state", "the arm has reported nothing yet; is its driver running?")]
    if not is_finite(state):
        return [Reason(Level.FAULT, "state_not_finite", "the arm reports numbers that are not finite")]
    if state.mode == "reflex":
        return [Reason(Level.FAULT, "reflex", state.error or "the robot stopped itself")]
    found = []
    if state.mode in ("stopped", "disconnected"):
        found.append(Reason(Level.DECELERATE, f"robot_{state.mode}", state.error or f"the robot is {state.mode}"))
    age, limit = now - state.received, settings.watchdogs.state_stop
    if age > limit:
        found.append(Reason(Level.DECELERATE, "stale_state", f"the arm's report is {age:.3f} s old, limit {limit} s"))
    away = gates.outside_by(state.pose.position, settings.workspace)
    if away > OUTSIDE:
        found.append(Reason(Level.DECELERATE, "outside_workspace", f"the tool is {away:.3f} m outside; guide it back"))
    held, deep = gates.joints_at_limit(state, settings.joints, settings.motion.stop_time)
    if deep:
        found.append(Reason(Level.DECELERATE, "joint_limit", f"joints {deep} are at the end of their range"))
    elif held:
        found.append(Reason(Level.HOLD, "joint_limit", f"joints {held} move to the end of their range"))
    return found


def lead_reasons(reference: Pose, state: ArmState, settings: SafetySettings) -> list[Reason]:
    """A reason to stop if the arm is not where its reference is: it is held, or it does not obey."""
    away = length(reference.position - state.pose.position)
    turn = length(rotation.difference(reference.quaternion, state.pose.quaternion))
    lead = settings.lead
    if settings.reference == "direct" or (away <= LOST_LEAD * lead.position and turn <= LOST_LEAD * lead.rotation):
        return []
    detail = f"the arm is {away:.3f} m and {turn:.2f} rad away from its reference; is something in its way?"
    return [Reason(Level.DECELERATE, "not_following", detail)]


class Clock:
    """Watches the steady clock for missed ticks and the robot's clock for running backwards."""

    def __init__(self, settings: SafetySettings) -> None:
        """Has seen nothing.

        Args:
            settings: How often a tick comes and how many may be missed.
        """
        self._gap = (settings.watchdogs.missed_ticks + 1.5) / settings.rate
        self.forget()

    def forget(self) -> None:
        """Starts anew: the next tick has no predecessor."""
        self._now: float | None = None
        self._robot: float | None = None

    def elapsed(self, now: float) -> float:
        """Steady time since the last tick [s]; 0 at the first one."""
        return 0.0 if self._now is None else max(0.0, now - self._now)

    def reasons(self, now: float, state: ArmState | None) -> list[Reason]:
        """What the time of this tick says; to be called once for each tick."""
        found = []
        gap = 0.0 if self._now is None else now - self._now
        if gap > self._gap:
            found.append(Reason(Level.HOLD, MISSED_TICKS, f"no tick for {gap:.3f} s, limit {self._gap:.3f} s"))
        if gap < 0.0:
            found.append(Reason(Level.DECELERATE, "clock", f"the steady clock went back by {-gap:.3f} s"))
        if state is not None and self._robot is not None and state.time < self._robot:
            back = self._robot - state.time
            found.append(Reason(Level.DECELERATE, "robot_clock", f"the robot's clock went back by {back:.3f} s"))
        self._now, self._robot = now, None if state is None else state.time
        return found
