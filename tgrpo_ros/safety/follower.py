"""The reference follower: turns targets at the policy's rate into a smooth reference at the arm's rate.

A target is approached by linear interpolation over one policy period, which a critically damped second-order follower
tracks within limits of velocity and acceleration. Time is the robot's clock, so a slow robot gets slow references.

Two things hold at every instant, whatever the targets are:

* velocity and acceleration stay within their limits, as every change of velocity is cut to ``acceleration * dt``;
* the arm can still stop inside the box: a step is taken only if braking after it ends inside, else this step brakes.
  Braking goes straight to the stopping point, so it stays inside, and from inside there always is such a step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tgrpo import rotation
from tgrpo.types import FloatArray
from tgrpo_ros.motion import Pose, Reference
from tgrpo_ros.safety.settings import MotionLimits, Workspace

MAX_STEP = 0.005
"""Longest step of the integration [s]; a longer time is cut into several."""
BRAKING_SHARE = 0.85
"""Share of the acceleration limit that an approach is planned with; the rest corrects."""
_ROUNDING = 1e-9
_Z = np.zeros(3)
_Z.setflags(write=False)


def length(vector: FloatArray) -> float:
    """Euclidean length of a vector ``(3,)``."""
    x, y, z = vector.tolist()
    return math.sqrt(x * x + y * y + z * z)


def shortened(vector: FloatArray, limit: float) -> FloatArray:
    """The vector ``(3,)``, not longer than a limit, in the same direction."""
    size = length(vector)
    return vector if size <= limit else vector * (limit / size)


def braked(velocity: FloatArray, acceleration: float, dt: float) -> FloatArray:
    """The velocity ``(3,)`` after braking for ``dt`` [s] with all of the acceleration."""
    speed = length(velocity)
    change = acceleration * dt
    return _Z if speed <= change else velocity * (1.0 - change / speed)


def stopping_point(position: FloatArray, velocity: FloatArray, acceleration: float) -> FloatArray:
    """Where braking would end ``(3,)`` [m]; never nearer than it does end, with steps of up to :data:`MAX_STEP`."""
    return position + velocity * (length(velocity) / (2.0 * acceleration) + 0.5 * MAX_STEP)


def approach(error: FloatArray, bandwidth: float, speed: float, acceleration: float) -> FloatArray:
    """The velocity ``(3,)`` to close an error ``(3,)`` with.

    Proportional to a small error; to a greater one, what still lets it brake to a stop at the target; never more than
    ``speed``. The second curve begins where the first one would need more deceleration than there is.
    """
    distance, gain = length(error), 0.5 * bandwidth
    braking = BRAKING_SHARE * acceleration
    near = braking / (gain * gain)
    if distance <= near:
        return error * min(gain, speed / distance if distance > 0.0 else gain)
    return error * (min(math.sqrt(2.0 * braking * (distance - 0.5 * near)), speed) / distance)


def accelerated(
    velocity: FloatArray, wanted: FloatArray, bandwidth: float, acceleration: float, dt: float
) -> FloatArray:
    """The velocity ``(3,)`` after ``dt`` [s] of changing towards the wanted one, within the acceleration limit.

    It is a point between the two, so it is not faster than the faster one.
    """
    change = (wanted - velocity) * min(1.0, 2.0 * bandwidth * dt)
    return velocity + shortened(change, acceleration * dt)


@dataclass(frozen=True, eq=False)
class Path:
    """A target and how it is approached: from where, since when, for how long."""

    start: Pose
    goal: Pose
    begun: float
    """Robot time [s]."""
    period: float
    """[s]."""
    turn: FloatArray
    """Rotation vector ``(3,)`` from start to goal [rad]."""

    def at(self, time: float) -> Pose:
        """The interpolated pose at a robot time [s]; the goal after its period."""
        share = (time - self.begun) / self.period
        if share >= 1.0:
            return self.goal
        share = max(share, 0.0)
        position = self.start.position + (self.goal.position - self.start.position) * share
        return Pose(position, rotation.turned(self.start.quaternion, self.turn * share))


class Follower:
    """Where the reference is and how fast it moves.

    Attributes:
        time: Robot time that the reference has been integrated to [s].
        pose: Present pose of the reference.
        linear: Present velocity ``(3,)`` [m/s].
        angular: Present angular velocity ``(3,)`` [rad/s].
    """

    def __init__(self, limits: MotionLimits, workspace: Workspace, time: float, pose: Pose) -> None:
        """Starts at rest.

        Args:
            limits: Of velocity and acceleration.
            workspace: Box that the reference stays in.
            time: Robot time [s].
            pose: Where the arm is, inside the box.
        """
        self._limits = limits
        self._low, self._high = np.array(workspace.low), np.array(workspace.high)
        # Next to a wall the speed towards it is proportional to the distance, so that sliding along it stays smooth.
        self._wall_time = limits.linear_speed / (2.0 * limits.linear_acceleration) + 2.0 * MAX_STEP
        self.restart(time, pose)

    def restart(self, time: float, pose: Pose) -> None:
        """Forgets the target and rests at a pose, clipped to the box."""
        self.time = time
        self.pose = Pose(np.clip(pose.position, self._low, self._high), pose.quaternion)
        self.linear, self.angular = np.zeros(3), np.zeros(3)
        self._path: Path | None = None

    @property
    def resting(self) -> bool:
        """Whether the reference stands still."""
        return not (self.linear.any() or self.angular.any())

    @property
    def target(self) -> Pose:
        """Where the reference goes to; after braking, where it is."""
        return self.pose if self._path is None else self._path.goal

    def aim(self, target: Pose, period: float) -> None:
        """Sets a new target.

        Args:
            target: Pose, clipped to the box.
            period: Time over which the target moves there, one period of the policy [s].
        """
        start = self.pose if self._path is None else self._path.at(self.time)
        goal = Pose(np.clip(target.position, self._low, self._high), target.quaternion)
        turn = rotation.difference(goal.quaternion, start.quaternion)
        self._path = Path(start, goal, self.time, period, turn)

    def release(self) -> None:
        """Drops the target: from now on the reference brakes, until there is a new one."""
        self._path = None

    def advance(
        self, time: float, bounded: Callable[[Pose], Pose] | None = None, *, braking: bool = False
    ) -> Reference:
        """Follows the target until a robot time.

        Args:
            time: Robot time [s].
            bounded: Moves the pose that is followed at one instant to where it may be.
            braking: Brake this time instead, and keep the target.
        """
        steps = self._steps(time)
        for dt in steps:
            self.time += dt
            if braking or self._path is None:
                self._brake(dt)
            else:
                pose = self._path.at(self.time)
                self._follow(bounded(pose) if bounded else pose, dt)
        if steps:
            self.time = time  # without the rounding of the sum
        return self.reference()

    def brake(self, time: float) -> Reference:
        """Stops with all of the acceleration, until a robot time [s], and drops the target."""
        self.release()
        return self.advance(time)

    def reference(self) -> Reference:
        """The present reference: its pose and its own velocity, never the raw difference of two targets."""
        return Reference(self.pose, self.linear, self.angular)

    def _steps(self, time: float) -> list[float]:
        elapsed = time - self.time
        if not elapsed > 0.0:
            return []
        longest = self._limits.stop_time + MAX_STEP
        if elapsed > longest:
            # The robot heard nothing for longer than a stop takes: it is at rest now, and so is the reference.
            self._path = None
            self.time, elapsed = time - longest, longest
        count = max(1, math.ceil(elapsed / MAX_STEP - _ROUNDING))
        return [elapsed / count] * count

    def _follow(self, target: Pose, dt: float) -> None:
        limits = self._limits
        bandwidth, acceleration = limits.bandwidth, limits.linear_acceleration
        position = self.pose.position
        wanted = approach(target.position - position, bandwidth, limits.linear_speed, acceleration)
        wanted = np.minimum(
            np.maximum(wanted, (self._low - position) / self._wall_time), (self._high - position) / self._wall_time
        )
        linear = accelerated(self.linear, wanted, bandwidth, acceleration, dt)
        moved = position + (self.linear + linear) * (0.5 * dt)
        if not (self._inside(moved) and self._inside(stopping_point(moved, linear, acceleration))):
            linear = braked(self.linear, acceleration, dt)
        turn = rotation.difference(target.quaternion, self.pose.quaternion)
        wanted = approach(turn, bandwidth, limits.angular_speed, limits.angular_acceleration)
        self._move(linear, accelerated(self.angular, wanted, bandwidth, limits.angular_acceleration, dt), dt)

    def _brake(self, dt: float) -> None:
        limits = self._limits
        linear = braked(self.linear, limits.linear_acceleration, dt)
        self._move(linear, braked(self.angular, limits.angular_acceleration, dt), dt)

    def _move(self, linear: FloatArray, angular: FloatArray, dt: float) -> None:
        position = self.pose.position + (self.linear + linear) * (0.5 * dt)
        position = np.minimum(np.maximum(position, self._low), self._high)
        turn = (self.angular + angular) * (0.5 * dt)
        quaternion = rotation.turned(self.pose.quaternion, turn) if turn.any() else self.pose.quaternion
        self.pose, self.linear, self.angular = Pose(position, quaternion), linear, angular

    def _inside(self, point: FloatArray) -> bool:
        return bool((point >= self._low - _ROUNDING).all() and (point <= self._high + _ROUNDING).all())
