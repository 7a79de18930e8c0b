"""What an FR3 does with a policy's stream, judged by what the simulator says it did."""

from functools import partial

import numpy as np
import pytest

from benchmarks import franka_stream
from benchmarks.franka_rig import Drive, robot_config
from tgrpo_ros.safety import Level

pytestmark = pytest.mark.realtime

PASS = {10.0: (0.155, 6.0), 20.0: (0.125, 12.0)}
"""Greatest lag [s] and jerk [m/s3] by the rate of the policy."""
REAL_TIME = 0.9
"""Share of real time below which a lag says nothing about the driver."""


@pytest.fixture(scope="module", params=[10.0, 20.0])
def streamed(robot, request, tmp_path_factory):
    from tgrpo_ros.drivers.franky import FrankyArm

    config = robot_config(robot.address, tmp_path_factory.mktemp("box"), request.param)
    arm = FrankyArm(config.arm, config.safety.joints)
    try:
        return franka_stream.run(Drive(config, arm), robot.truth, request.param, 6.0, 0)
    finally:
        arm.close()


def test_a_stream_is_followed_without_a_reflex(streamed):
    assert not [why for why in streamed.stopped if "reflex" in why or "DECELERATE" in why or "FAULT" in why]
    figures = franka_stream.judge(streamed)
    moved = np.ptp(streamed.truth.position, axis=0)
    assert (moved > 0.05).all()
    assert figures.violations == 0
    if figures.factor >= REAL_TIME and not streamed.stopped:
        lag, jerk = PASS[streamed.config.action.rate]
        assert figures.lag <= lag
        assert figures.jerk <= jerk
        assert figures.error <= 0.006


def test_the_judge_sees_violations(streamed):
    """The same log against tighter limits must not pass."""
    import msgspec

    safety = streamed.config.safety
    judge = partial(franka_stream.violations, streamed)
    slow = msgspec.structs.replace(safety.motion, linear_speed=0.05)
    soft = msgspec.structs.replace(safety.motion, linear_acceleration=0.1)
    small = msgspec.structs.replace(safety.workspace, low=(0.30, 0.0, 0.15))
    assert judge(safety.workspace, slow) > 100
    assert judge(safety.workspace, soft) > 100
    assert judge(small, safety.motion) > 100


def test_far_targets_stay_within_speed_and_box(drive, robot):
    """The longest steps, one after another, against a wall of the box."""
    motion, box = drive.config.safety.motion, drive.config.safety.workspace
    drive.begin()
    assert "a step of 0.4" in drive.command(np.array([8.0, 0, 0, 0, 0, 0, 0]))
    actions = np.zeros((14, 7))
    actions[:10, :3] = [0.0, 5.0, 0.0]  # 25 cm at a time, of which 3 cm are taken
    drive.stream(actions, np.arange(14) / drive.config.action.rate)
    begun = drive.references[0][0]
    truth = robot.truth().between(begun, drive.references[-1][0])
    references = np.array([reference.pose.position for _, reference in drive.references])
    speeds = np.array([np.linalg.norm(reference.linear) for _, reference in drive.references])
    assert speeds.max() <= motion.linear_speed + 1e-9
    assert references[:, 1].max() <= box.high[1] + 1e-9
    assert truth.position[:, 1].max() - truth.position[0, 1] > 0.1
    assert truth.position[:, 1].max() <= box.high[1] + 0.005  # a compliant arm swings through
    assert truth.speed.max() <= motion.linear_speed * 1.15
    assert not [why for _, level, why in drive.levels if level is Level.FAULT]


def test_it_goes_back(drive, robot):
    """The same way back, so that the tests after it begin where these did."""
    drive.begin()
    actions = np.zeros((14, 7))
    actions[:10, :3] = [0.0, -0.5, 0.0]
    drive.stream(actions, np.arange(14) / drive.config.action.rate)
    assert drive.state().pose.position[1] < 0.15
