"""What every arm driver promises, and what the franky driver does when its process or robot fails."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tgrpo.errors import MissingDependencyError, RobotFault
from tgrpo_ros.drivers import Arm
from tgrpo_ros.motion import Pose, Reference
from tgrpo_ros.robot_config import ArmConfig


def until(condition, seconds=20.0):
    limit = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.01)
    return result


def drive(arm, target, steps=40):
    """Sends one target again and again, as a stream of references does."""
    for _ in range(steps):
        arm.follow(Reference(target))
        if not arm.simulated:
            time.sleep(0.004)
    return arm.state()


def test_keeps_the_protocol(arm):
    assert isinstance(arm, Arm)


def test_reports_are_complete_and_finite(arm):
    state = arm.state()
    for values, shape in (
        (state.pose.position, (3,)),
        (state.pose.quaternion, (4,)),
        (state.joints, (7,)),
        (state.joint_velocities, (7,)),
        (state.fingers, (2,)),
        (state.proprio, (8,)),
    ):
        assert values.shape == shape
        assert np.isfinite(values).all()
    assert np.linalg.norm(state.pose.quaternion) == pytest.approx(1.0)
    assert state.mode == "ready"
    assert state.error == ""
    assert state.received <= arm.now()


def test_nothing_moves_before_start(arm, here):
    before = arm.state().pose.position
    drive(arm, arm.state().pose.moved(np.array([0.05, 0.0, 0.0]), np.zeros(3)), steps=5)
    assert arm.state().pose.position == pytest.approx(before, abs=1e-3)


def test_follows_and_its_clock_grows(arm):
    arm.start()
    before = arm.state()
    target = before.pose.moved(np.array([0.0, 0.02, 0.02]), np.array([0.0, 0.0, 0.1]))
    after = drive(arm, target)
    assert after.pose.position == pytest.approx(target.position, abs=6e-3)
    assert after.time > before.time
    assert after.received > before.received


def test_stop_ends_following_until_the_next_start(arm):
    arm.start()
    drive(arm, arm.state().pose, steps=3)
    arm.stop()
    arm.stop()
    before = arm.state().pose.position
    drive(arm, arm.state().pose.moved(np.array([0.05, 0.0, 0.0]), np.zeros(3)), steps=5)
    assert arm.state().pose.position == pytest.approx(before, abs=1e-3)
    arm.start()
    target = arm.state().pose.moved(np.array([0.0, 0.01, 0.0]), np.zeros(3))
    assert drive(arm, target).pose.position == pytest.approx(target.position, abs=6e-3)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_reference_that_is_not_finite_is_refused(arm, wrong):
    arm.start()
    pose = arm.state().pose
    with pytest.raises(ValueError, match="finite"):
        arm.follow(Reference(Pose(np.array([wrong, 0.0, 0.0]), pose.quaternion)))
    drive(arm, pose, steps=3)


def test_the_gripper_does_not_hold_up_the_arm(arm):
    arm.start()
    pose = arm.state().pose
    width = arm.state().fingers[0]
    begun = time.monotonic()
    arm.grip(True)
    assert time.monotonic() - begun < (5.0 if arm.simulated else 0.1)
    for _ in range(20):
        drive(arm, pose, steps=5)
        if arm.state().fingers[0] < width - 0.01:
            break
    assert arm.state().fingers[0] < width - 0.01
    arm.grip(False)
    for _ in range(20):
        drive(arm, pose, steps=5)
        if arm.state().fingers[0] > width - 0.005:
            break
    assert arm.state().fingers[0] > width - 0.005


def test_recovery_without_a_reflex_is_refused(arm):
    with pytest.raises(RobotFault):
        arm.recover()


def test_close_twice(arm):
    arm.close()
    arm.close()


class TestFranky:
    def test_silence_stops_the_controller_and_it_does_not_start_again(self, franky):
        franky.start()
        pose = franky.state().pose
        drive(franky, pose, steps=5)
        assert until(lambda: franky.state().mode == "moving")
        begun = time.monotonic()
        assert until(lambda: franky.state().mode == "stopped")
        assert "without a reference" in franky.state().error
        stopped = franky.state().received - begun
        drive(franky, pose.moved(np.array([0.1, 0.0, 0.0]), np.zeros(3)), steps=20)
        assert franky.state().pose.position == pytest.approx(pose.position)
        assert stopped < 2.0  # 0.1 s on a machine that is not overloaded
        franky.start()
        assert drive(franky, pose).mode == "moving"

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
    def test_a_killed_process_is_reported(self, franky, number):
        franky.start()
        os.kill(franky.pid, number)
        assert until(lambda: franky.state().mode == "disconnected")
        with pytest.raises(RobotFault, match="gone"):
            franky.start()
        franky.follow(Reference(franky.state().pose))
        franky.stop()

    def test_a_reflex_and_its_recovery(self, franky, fakes):
        franky.start()
        fakes("FAKE_FRANKY", "reflex")
        assert until(lambda: franky.state().mode == "reflex")
        assert franky.state().error == "[cartesian_reflex]"
        with pytest.raises(RobotFault, match="Reflex mode"):
            franky.start()
        franky.recover()
        assert until(lambda: franky.state().mode == "ready")

    def test_the_process_ends_with_the_node_that_started_it(self, fakes):
        program = (
            "import os, signal; from tgrpo_ros.robot_config import ArmConfig\n"
            "from tgrpo_ros.drivers.franky import FrankyArm; from tgrpo_ros.safety.settings import JointLimits\n"
            "joints = JointLimits(low=(-2.7,) * 7, high=(2.7,) * 7)\n"
            "arm = FrankyArm(ArmConfig(driver='franky', host='172.16.0.2'), joints)\n"
            "arm.start(); print(arm.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        pid = int(done.stdout)
        assert done.returncode == -signal.SIGKILL
        until(lambda: not Path(f"/proc/{pid}/fd").exists())

    def test_an_unreachable_robot(self, fakes):
        from tgrpo_ros.drivers.franky import FrankyArm

        fakes("FAKE_FRANKY", "unreachable")
        with pytest.raises(RobotFault, match=r"172\.16\.0\.2 cannot be controlled.*timed out.*Check the cable"):
            FrankyArm(ArmConfig(driver="franky", host="172.16.0.2"), joints())

    def test_a_robot_that_serves_somebody_else(self, fakes, monkeypatch):
        from tgrpo_ros.drivers import franky

        fakes("FAKE_FRANKY", "hang")
        monkeypatch.setattr(franky, "CONNECT_PATIENCE", 1.0)
        with pytest.raises(RobotFault, match="another program"):
            franky.FrankyArm(ArmConfig(driver="franky", host="172.16.0.2"), joints())

    def test_without_the_library(self, monkeypatch):
        from tgrpo_ros.drivers.franky import FrankyArm

        monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
        try:
            import franky  # noqa: F401
        except ImportError:
            with pytest.raises(MissingDependencyError, match=r"pip install 'franky-control>=2\.0,<3'"):
                FrankyArm(ArmConfig(driver="franky", host="172.16.0.2"), joints())


def joints():
    from tgrpo_ros.safety.settings import JointLimits

    return JointLimits(low=(-2.7,) * 7, high=(2.7,) * 7)
