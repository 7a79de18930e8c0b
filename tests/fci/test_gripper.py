"""The hand of an FR3, which takes a second to close, and an arm that does not wait for it."""

import numpy as np
import pytest

from benchmarks import gripper
from benchmarks.franka_rig import HAND_PYTHON, Drive, hand_simulator, robot_config

pytestmark = pytest.mark.realtime


@pytest.fixture(scope="module")
def arm_config(tmp_path_factory):
    """franky-sim, which has such a hand."""
    pytest.importorskip("franky", reason="the FR3 driver needs franky-control: make setup")
    if not HAND_PYTHON.exists():
        pytest.skip("no simulated hand; install it once with: make franky-sim")
    with hand_simulator() as address:
        yield robot_config(address, tmp_path_factory.mktemp("box"), gripper.RATE)


@pytest.fixture
def arm(arm_config):
    from tgrpo_ros.drivers.franky import FrankyArm

    arm = FrankyArm(arm_config.arm, arm_config.safety.joints)
    yield arm
    arm.close()


def test_the_arm_follows_while_the_hand_closes_and_opens(arm, arm_config):
    drive = Drive(arm_config, arm)
    samples = gripper.run(drive)
    widths = np.array([sample.width for sample in samples])
    assert widths.min() < 0.01
    assert widths.max() > 0.07
    for asked, until in ((gripper.CLOSE, gripper.OPEN), (gripper.OPEN, gripper.END)):
        found = gripper.motion(samples, asked, until)
        assert found.takes > 0.3  # it is not a hand that jumps
        assert found.travel > 0.02
    between = widths[(widths > 0.01) & (widths < 0.07)]
    assert len(np.unique(between)) >= 5  # the width is reported on the way, not only at its ends
    assert {name for _, _, name in drive.levels} <= {"", "NOT_ARMED", "STALE_COMMAND"}


def test_of_several_wishes_the_last_one_counts(arm, wait):
    width = lambda: 2.0 * arm.state().fingers[0]  # noqa: E731
    for last, reached in ((True, lambda: width() < 0.01), (False, lambda: width() > 0.07)):
        for close in (last, not last, last):
            arm.grip(close)
        wait(reached)


def test_a_hand_that_does_not_move_is_said(arm_config):
    still = [gripper.Sample(0.01 * i, 0.08, 0.0) for i in range(100)]
    with pytest.raises(ValueError, match=r"did not move between 0\.2 and 0\.9 s; its width is 0\.080 m"):
        gripper.motion(still, 0.2, 0.9)
