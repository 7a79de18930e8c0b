"""The gates that one action passes on its way to a target: pure functions, each named after what it refuses."""

from __future__ import annotations

import numpy as np

from tgrpo import rotation
from tgrpo.spec import ActionSpec
from tgrpo.types import FloatArray
from tgrpo_ros.motion import ArmState, Pose
from tgrpo_ros.safety.follower import length, shortened
from tgrpo_ros.safety.settings import JointLimits, LeadLimits, StepLimits, Workspace

MAX_CHUNK = 256
"""Longest chunk that is taken."""
RESTING_JOINT = 0.02
"""A joint slower than this rests: noise of the measured velocity [rad/s]."""


def refusal(actions: object, spec: ActionSpec, limits: StepLimits) -> str:
    """Why something is no chunk of actions; empty if it is one.

    Args:
        actions: Anything; a chunk is an array ``(K, A)`` of finite numbers, none of them absurd.
        spec: What an action means.
        limits: A step of more than ``absurd`` times these is refused.
    """
    if not isinstance(actions, np.ndarray) or actions.dtype.kind != "f":
        return f"actions are {type(actions).__name__}, not an array of floating-point numbers"
    if actions.ndim != 2 or not 1 <= actions.shape[0] <= MAX_CHUNK or actions.shape[1] != spec.dims:
        return f"actions have shape {actions.shape}, not (K, {spec.dims}) with K from 1 to {MAX_CHUNK}"
    if not np.isfinite(actions).all():
        return "an action is not finite"
    values = actions.astype(np.float64)
    far = float(np.abs(values[:, :3]).max()) * spec.position_scale
    if far > limits.absurd * limits.position:
        return f"an action asks for a step of {far:.3g} m; the limit is {limits.position} m"
    turn = float(np.abs(values[:, 3:6]).max()) * spec.rotation_scale
    if turn > limits.absurd * limits.rotation:
        return f"an action asks for a turn of {turn:.3g} rad; the limit is {limits.rotation} rad"
    return ""


def step(action: FloatArray, spec: ActionSpec, limits: StepLimits) -> tuple[FloatArray, FloatArray]:
    """Translation ``(3,)`` [m] and rotation vector ``(3,)`` [rad] of one action ``(A,)``, within their limits."""
    translation = shortened(action[:3] * spec.position_scale, limits.position)
    return translation, shortened(action[3:6] * spec.rotation_scale, limits.rotation)


def within_lead(target: Pose, measured: Pose, limits: LeadLimits, step: float = 0.0, turn: float = 0.0) -> Pose:
    """The target, brought within the lead limits of the measured pose, in the same direction from it.

    Args:
        target: Where to go.
        measured: Where the arm is.
        limits: How far ahead the target may be.
        step: How much further it may be because its time has not come yet [m].
        turn: The same [rad].
    """
    ahead = target.position - measured.position
    rotated = rotation.difference(target.quaternion, measured.quaternion)
    if length(ahead) <= limits.position + step and length(rotated) <= limits.rotation + turn:
        return target
    return measured.moved(shortened(ahead, limits.position + step), shortened(rotated, limits.rotation + turn))


def within_box(target: Pose, box: Workspace) -> Pose:
    """The target with its position clipped to the workspace."""
    return Pose(np.minimum(np.maximum(target.position, box.low), box.high), target.quaternion)


def outside_by(position: FloatArray, box: Workspace) -> float:
    """How far a position ``(3,)`` is outside the workspace along its worst axis [m]; 0 inside."""
    return max(0.0, float(np.maximum(np.subtract(box.low, position), np.subtract(position, box.high)).max()))


def joints_at_limit(state: ArmState, limits: JointLimits, stop_time: float) -> tuple[list[int], list[int]]:
    """Joints, counted from 1, that move towards the end of their range and would stop within its margin.

    Args:
        state: Of the arm.
        limits: Ranges and margin.
        stop_time: How long braking takes [s]; on the way a joint turns by half its velocity times this.

    Returns:
        The joints that have to be held, and those of them that are already past half of the margin.
    """
    low, high = np.array(limits.low), np.array(limits.high)
    velocity = state.joint_velocities
    end = state.joints + velocity * (0.5 * stop_time)
    room = np.where(velocity > 0.0, high - end, end - low)
    room_now = np.where(velocity > 0.0, high - state.joints, state.joints - low)
    moving = np.abs(velocity) > RESTING_JOINT
    held = np.flatnonzero(moving & (room < limits.margin))
    deep = np.flatnonzero(moving & (room_now < 0.5 * limits.margin))
    return [int(joint) + 1 for joint in held], [int(joint) + 1 for joint in deep]


class GripperLatch:
    """Turns a continuous gripper action into open or close, with hysteresis and a least time between changes."""

    def __init__(self, hysteresis: float, min_interval: float, close_positive: bool) -> None:
        """Knows nothing yet.

        Args:
            hysteresis: Actions within plus or minus this change nothing.
            min_interval: Least time between two changes [s].
            close_positive: Whether a positive action closes.
        """
        self._hysteresis, self._interval, self._sign = hysteresis, min_interval, 1.0 if close_positive else -1.0
        self._changed = float("-inf")
        self.closed: bool | None = None

    def update(self, action: float, now: float) -> bool | None:
        """What to tell the gripper.

        Args:
            action: Gripper dimension of an action.
            now: Steady time [s].

        Returns:
            True to close, False to open, None to leave it: the wish is known already, unclear or too soon.
        """
        value = action * self._sign
        if abs(value) <= self._hysteresis or now - self._changed < self._interval:
            return None
        closed = value > 0.0
        if closed == self.closed:
            return None
        self.closed, self._changed = closed, now
        return closed
