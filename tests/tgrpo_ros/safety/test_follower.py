"""The follower against anything a target can do; figures are checked on its output alone."""

import math
import time as clock

import numpy as np
import pytest

from tgrpo import rotation
from tgrpo_ros.motion import Pose
from tgrpo_ros.safety.follower import MAX_STEP, Follower, approach, braked, shortened, stopping_point
from tgrpo_ros.safety.settings import MotionLimits, Workspace

LIMITS = MotionLimits()
BOX = Workspace(low=(0.3, -0.3, 0.1), high=(0.7, 0.3, 0.6))
CENTRE = Pose(np.array([0.5, 0.0, 0.3]), rotation.identity())
TICK = 0.004


def follower(pose=CENTRE):
    return Follower(LIMITS, BOX, 0.0, pose)


def drive(one, targets, rng=None, period=0.1):
    """Positions, velocities and times while targets change once for each period."""
    times, poses, linear, angular = [one.time], [one.pose], [one.linear], [one.angular]
    due = one.time
    index = 0
    while index < len(targets) or one.time < due:
        if one.time >= due:
            one.aim(targets[index], period)
            index, due = index + 1, due + period
        dt = TICK if rng is None else float(rng.uniform(0.0005, 0.012))
        one.advance(one.time + dt)
        times.append(one.time)
        poses.append(one.pose)
        linear.append(one.linear)
        angular.append(one.angular)
    return np.array(times), np.array([pose.position for pose in poses]), np.array(linear), np.array(angular)


def violations(times, positions, linear, angular, limits=LIMITS):
    """What no sequence of targets may cause."""
    dt = np.diff(times)
    eps = 1e-9
    moved = np.linalg.norm(np.diff(positions, axis=0), axis=1) / dt
    # Over one step of the integration; a position that was merely clipped to the box would show here.
    way = np.diff(positions, axis=0) - 0.5 * (linear[1:] + linear[:-1]) * dt[:, None]
    return {
        "jumped": int((np.linalg.norm(way, axis=1)[dt <= MAX_STEP] > eps).sum()),
        "box": int(((positions < np.array(BOX.low) - eps) | (positions > np.array(BOX.high) + eps)).any(axis=1).sum()),
        "speed": int((np.linalg.norm(linear, axis=1) > limits.linear_speed + eps).sum()),
        "moved": int((moved > limits.linear_speed + eps).sum()),
        "turning": int((np.linalg.norm(angular, axis=1) > limits.angular_speed + eps).sum()),
        "acceleration": int(
            (np.linalg.norm(np.diff(linear, axis=0), axis=1) > limits.linear_acceleration * dt + eps).sum()
        ),
        "angular acceleration": int(
            (np.linalg.norm(np.diff(angular, axis=0), axis=1) > limits.angular_acceleration * dt + eps).sum()
        ),
    }


@pytest.mark.parametrize("seed", range(4))
def test_random_far_targets_break_no_limit(seed):
    rng = np.random.default_rng(seed)
    targets = [Pose(rng.uniform(-3, 3, 3), rotation.normalised(rng.normal(size=4))) for _ in range(60)]
    assert not any(violations(*drive(follower(), targets, rng)).values())


def test_targets_that_jump_between_two_corners_break_no_limit():
    corners = [Pose(np.array(BOX.low), rotation.identity()), Pose(np.array(BOX.high), rotation.identity())]
    for period in (0.02, 0.15, 0.5, 1.3):
        assert not any(violations(*drive(follower(), corners * 15, period=period)).values())


def test_full_speed_along_a_wall_stays_inside_and_keeps_its_speed():
    wall = [Pose(np.array([0.7, y, 0.3]), rotation.identity()) for y in (-0.3, 0.3, -0.3, 0.3)]
    times, positions, linear, angular = drive(follower(), wall, period=2.5)
    assert not any(violations(times, positions, linear, angular).values())
    middle = np.abs(positions[:, 1]) < 0.05
    assert np.abs(linear[middle & (times > 3), 1]).min() > 0.15


def test_a_target_that_leaves_the_wall_at_the_last_moment_breaks_no_limit():
    rng = np.random.default_rng(5)
    for _ in range(12):
        one = follower(Pose(rng.uniform(BOX.low, BOX.high), rotation.identity()))
        wall = Pose(np.array([0.7, rng.uniform(-0.3, 0.3), rng.uniform(0.1, 0.6)]), rotation.identity())
        other = Pose(rng.uniform(BOX.low, BOX.high), rotation.identity())
        assert not any(violations(*drive(one, [wall] * 6 + [other, wall] * 6, period=0.05)).values())


def test_reaches_its_target_without_overshoot():
    one = follower()
    goal = Pose(np.array([0.53, 0.0, 0.3]), rotation.from_vector(np.array([0.0, 0.0, 0.1])))
    _, positions, *_ = drive(one, [goal] + [goal] * 15)
    assert one.pose.position == pytest.approx(goal.position, abs=1e-4)
    assert np.linalg.norm(rotation.difference(goal.quaternion, one.pose.quaternion)) < 1e-3
    assert positions[:, 0].max() < 0.53 + 2e-4


@pytest.mark.parametrize("moving_for", [0.02, 0.1, 0.2, 0.35, 0.6])
def test_stops_within_v_over_a_from_any_state(moving_for):
    one = follower()
    one.aim(Pose(np.array([0.7, 0.3, 0.6]), rotation.from_vector(np.array([2.0, 1.0, 0.5]))), 0.1)
    one.advance(moving_for)
    speed, turning = np.linalg.norm(one.linear), np.linalg.norm(one.angular)
    limit = max(speed / LIMITS.linear_acceleration, turning / LIMITS.angular_acceleration)
    begun = one.time
    while not one.resting:
        one.brake(one.time + TICK)
        assert one.time - begun <= limit + TICK + 1e-9
    assert np.all(one.pose.position <= BOX.high)


def test_a_gap_of_the_robots_clock_is_a_stop_not_a_jump():
    one = follower()
    one.aim(Pose(np.array([0.7, 0.0, 0.3]), rotation.identity()), 0.1)
    one.advance(0.4)
    before = one.pose.position.copy()
    reference = one.advance(3600.0)
    assert one.resting
    assert one.time == 3600.0
    assert np.linalg.norm(reference.pose.position - before) < 0.04
    assert one.target is one.pose


def test_a_step_of_next_to_nothing():
    one = follower()
    one.aim(Pose(np.array([0.7, 0.0, 0.3]), rotation.identity()), 0.1)
    assert one.advance(1e-15).pose.position == pytest.approx(CENTRE.position)


@pytest.mark.parametrize("time", [0.4, 0.1, -1e6, math.nan])
def test_a_clock_that_stands_or_goes_back_moves_nothing(time):
    one = follower()
    one.aim(Pose(np.array([0.7, 0.0, 0.3]), rotation.identity()), 0.1)
    one.advance(0.4)
    before = one.pose
    one.advance(time)
    assert one.pose is before


def test_one_long_step_equals_many_short_ones():
    many, few = follower(), follower()
    goal = Pose(np.array([0.6, 0.1, 0.4]), rotation.identity())
    for one in (many, few):
        one.aim(goal, 0.1)
    for index in range(20):
        many.advance((index + 1) * MAX_STEP)
    few.advance(20 * MAX_STEP)
    assert few.pose.position == pytest.approx(many.pose.position, abs=1e-12)


def test_feed_forward_is_the_velocity_of_the_reference_itself():
    one = follower()
    one.aim(Pose(np.array([0.6, 0.0, 0.3]), rotation.identity()), 0.1)
    one.advance(0.2)
    first = one.reference()
    second = one.advance(one.time + 0.001)
    slope = (second.pose.position - first.pose.position) / 0.001
    assert slope == pytest.approx((first.linear + second.linear) / 2, abs=1e-9)


def test_pure_parts():
    assert np.linalg.norm(shortened(np.array([3.0, 4.0, 0.0]), 1.0)) == pytest.approx(1.0)
    assert braked(np.array([0.001, 0.0, 0.0]), 1.5, 0.004).tolist() == [0.0, 0.0, 0.0]
    assert np.linalg.norm(approach(np.array([10.0, 0.0, 0.0]), 30.0, 0.3, 1.5)) == pytest.approx(0.3)
    stop = stopping_point(np.zeros(3), np.array([0.3, 0.0, 0.0]), 1.5)
    assert stop[0] >= 0.3**2 / (2 * 1.5)


def test_fast_enough_for_250_hz():
    one = follower()
    one.aim(Pose(np.array([0.7, 0.3, 0.6]), rotation.from_vector(np.array([1.0, 0.0, 0.0]))), 0.1)
    begun = clock.process_time()
    for index in range(500):
        one.advance((index + 1) * TICK)
    assert (clock.process_time() - begun) / 500 < 0.002
