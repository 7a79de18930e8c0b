"""Faults between policy and robot, each injected for real; what follows is read from the simulator's own log."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tgrpo.errors import RobotFault
from tgrpo_ros.safety import Level

pytestmark = pytest.mark.realtime

ROOT = Path(__file__).resolve().parents[2]
FORWARD = np.array([0.1, 0.0, 0.1, 0.0, 0.0, 0.0, -1.0])
RESTING = 0.005
"""Below this speed the flange rests [m/s]."""


@pytest.fixture
def moving(drive):
    """An arm in the middle of a motion, there and back."""
    drive.begin()
    sign = 1.0 if drive.state().pose.position[2] < 0.4 else -1.0
    actions = np.tile(FORWARD * sign, (6, 1))
    drive.stream(actions, np.arange(6) / drive.config.action.rate, seconds=0.55)
    return drive


def rested(robot, since, patience=3.0):
    """Time after which the flange rested for good [s], and how far it still moved [m]."""
    time.sleep(patience)
    truth = robot.truth()
    after = truth.between(since, since + patience)
    fast = np.flatnonzero(after.speed > RESTING)
    end = 0 if len(fast) == 0 else fast[-1]
    return float(after.steady[end] - since), float(np.linalg.norm(after.position[end] - after.position[0]))


@pytest.fixture
def measured(record_property):
    """Notes a reaction time in the test report (`--junit-xml`) and on the screen (`-rP`)."""

    def note(name, seconds):
        record_property(name, f"{seconds:.3f} s")
        print(f"{name}: {seconds:.3f} s")

    return note


def reasons(drive):
    return [(level, name) for _, level, name in drive.levels]


def test_b1_nan_is_refused_and_the_third_is_a_fault(moving, robot, measured):
    begun = time.monotonic()
    for _ in range(3):
        assert "not finite" in moving.command(np.full(7, np.nan))
        moving.run(0.02)
    moving.run(1.0)
    assert (Level.FAULT, "bad_commands") in reasons(moving)
    took, way = rested(robot, begun, 1.0)
    motion = moving.config.safety.motion
    measured("B1: first of three NaN to rest", took)
    assert way < motion.linear_speed**2 / motion.linear_acceleration
    assert took < 1.0
    assert moving.state().mode != "reflex"


def test_b1_a_reference_that_is_not_finite_does_not_reach_the_robot(moving):
    from tgrpo_ros.motion import Pose, Reference

    pose = moving.state().pose
    with pytest.raises(ValueError, match="finite"):
        moving.arm.follow(Reference(Pose(np.array([np.nan, 0, 0]), pose.quaternion)))
    moving.run(0.1)
    assert moving.state().mode == "moving"


def test_b10_a_stall_of_the_node_is_a_hold_and_no_reflex(moving):
    time.sleep(0.04)
    moving.run(0.1)
    assert (Level.HOLD, "missed_ticks") in reasons(moving)
    assert moving.guard.ladder.level < Level.DECELERATE
    assert moving.state().mode == "moving"


def test_b9_a_node_that_is_silent_for_too_long_stops_the_controller_softly(moving, robot, wait, measured):
    begun = time.monotonic()
    wait(lambda: moving.state().mode == "stopped")
    assert "without a reference" in moving.state().error
    took, _ = rested(robot, begun, 1.5)
    measured("B9: node silent to rest", took)
    if robot.truth().between(begun, begun + 1.5).factor > 0.9:
        assert took < 0.1 + 0.2 + 0.2  # silence, then the pass figure of B9: 0.2 s and the deceleration
    moving.run(0.3)
    assert (Level.DECELERATE, "robot_stopped") in reasons(moving)
    with pytest.raises(RobotFault):
        moving.guard.acknowledge(time.monotonic(), moving.state())


def test_b5_a_stopped_bridge_is_a_reflex_and_recovery_is_on_command_and_bounded(moving, wait, measured):
    for _ in range(2):
        os.kill(moving.arm.pid, signal.SIGSTOP)
        time.sleep(0.1)
        os.kill(moving.arm.pid, signal.SIGCONT)
        wait(lambda: moving.state().mode == "reflex")
        assert "communication_constraints_violation" in moving.state().error
        moving.run(0.3)
        assert (Level.FAULT, "reflex") in reasons(moving)
        at = moving.state().pose.position
        with pytest.raises(RobotFault, match="still there: reflex"):
            moving.guard.acknowledge(time.monotonic(), moving.state())
        begun = time.monotonic()
        moving.guard.recover(begun, moving.state())
        moving.arm.recover()
        wait(lambda: moving.state().mode == "ready")
        measured("B5: recovery", time.monotonic() - begun)
        moving.run(0.2)
        assert moving.guard.ladder.level is Level.FAULT  # the recovery itself moves nothing
        assert moving.state().pose.position == pytest.approx(at, abs=2e-3)
        with pytest.raises(RobotFault, match="not a reflex"):
            moving.guard.recover(time.monotonic(), moving.state())
        moving.guard.acknowledge(time.monotonic(), moving.state())
        moving.begin()
        moving.stream(np.zeros((5, 7)), np.arange(5) / 10.0)
        assert moving.state().mode == "moving"
    os.kill(moving.arm.pid, signal.SIGSTOP)
    time.sleep(0.1)
    os.kill(moving.arm.pid, signal.SIGCONT)
    wait(lambda: moving.state().mode == "reflex")
    with pytest.raises(RobotFault, match="more than 2 within 60 s"):
        moving.guard.recover(time.monotonic(), moving.state())


def test_b9_a_killed_bridge_leaves_an_arm_that_rests(moving, robot, connect, measured):
    begun = time.monotonic()
    os.kill(moving.arm.pid, signal.SIGKILL)
    moving.run(0.3)
    assert (Level.DECELERATE, "robot_disconnected") in reasons(moving)
    took, _ = rested(robot, begun, 1.5)
    measured("B9: bridge killed to rest", took)
    assert took < 1.0
    again = connect()
    assert again.state().mode == "ready"


def test_b9_a_killed_node_takes_its_bridge_with_it_and_the_arm_rests(config, robot, tmp_path, wait, measured):
    program = (
        "import sys, time, numpy as np\n"
        "from pathlib import Path\n"
        "from benchmarks.franka_rig import Drive, robot_config\n"
        "from tgrpo_ros.drivers.franky import FrankyArm\n"
        "config = robot_config(sys.argv[1], Path(sys.argv[2]))\n"
        "drive = Drive(config, FrankyArm(config.arm, config.safety.joints))\n"
        "drive.begin()\n"
        "sign = 1.0 if drive.state().pose.position[2] < 0.4 else -1.0\n"
        "actions = np.tile(np.array([0.1, 0, 0.1, 0, 0, 0, -1.0]) * sign, (100, 1))\n"
        "print(drive.arm.pid, flush=True)\n"
        "drive.stream(actions, np.arange(100) / 10.0)\n"
    )
    command = [sys.executable, "-c", program, config.arm.host, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as node:
        bridge = int(node.stdout.readline())
        time.sleep(0.8)
        begun = time.monotonic()
        node.kill()
    wait(lambda: not Path(f"/proc/{bridge}/fd").exists())
    took, _ = rested(robot, begun, 1.5)
    measured("B9: node killed to rest", took)
    truth = robot.truth()
    assert truth.between(begun - 0.1, begun).speed.max() > 0.02
    if truth.between(begun, begun + 1.5).factor > 0.9:
        assert took < 0.2 + 0.2


def test_b7_a_second_bridge_is_refused_and_the_first_one_does_not_notice(moving, config):
    program = (
        "import sys\n"
        "from tgrpo_ros.drivers import franky\n"
        "from tgrpo_ros.robot_config import ArmConfig, load\n"
        "franky.CONNECT_PATIENCE = 1.0\n"
        "limits = load('sim').safety.joints\n"
        "franky.FrankyArm(ArmConfig(driver='franky', host=sys.argv[1]), limits)\n"
    )
    command = [sys.executable, "-c", program, config.arm.host]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT) as second:
        while second.poll() is None:
            moving.stream(np.zeros((3, 7)), np.arange(3) / 10.0, seconds=0.3)
        told = second.stderr.read()
    assert "RobotFault: the robot at" in told
    assert "another program" in told
    assert moving.guard.ladder.level < Level.DECELERATE
    assert moving.state().mode == "moving"


def test_b12_an_exhausted_chunk_holds_where_it_is(moving):
    moving.run(0.6)
    assert {name for _, name in reasons(moving)} >= {"starved"}
    assert moving.guard.starved == 1
    reference = moving.references[-1][1]
    assert not reference.linear.any()


def test_the_gripper_moves_while_the_arm_does(moving, wait):
    before = moving.state().fingers[0]
    moving.arm.grip(True)
    wait(lambda: (moving.run(0.02), moving.state().fingers[0] < before - 0.01)[1])
    moving.arm.grip(False)
    wait(lambda: (moving.run(0.02), moving.state().fingers[0] > before - 0.005)[1])
    assert moving.state().mode == "moving"


def test_a_hand_that_is_busy_holds_up_neither_the_arm_nor_the_next_wish(moving, wait, measured):
    """Closing takes the simulated hand 0.8 s; in the middle of it somebody wants it open again."""
    actions = np.zeros((20, 7))
    actions[:, 6] = -1.0
    moving.arm.grip(True)
    begun = time.monotonic()
    moving.stream(actions[:4], np.arange(4) / 10.0)
    moving.arm.grip(False)
    moving.stream(actions, np.arange(20) / 10.0)
    wait(lambda: (moving.run(0.02), moving.state().fingers[0] > 0.035)[1])
    measured("hand closed and open again", time.monotonic() - begun)
    assert moving.state().mode == "moving"  # 0.1 s without a reference would have stopped the controller
    assert {name for _, level, name in moving.levels if level is not Level.RUN} <= {"stale_command", "starved"}
