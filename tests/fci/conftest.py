"""A simulated FR3 that speaks the real FCI protocol, and driver and safety layer in front of it.

Slowness of the machine is no failure: where a figure needs a simulator in real time, the test looks at how it ran.
"""

import time

import pytest

from benchmarks.franka_rig import PYTHON, Drive, robot_config, simulator
from tgrpo_ros.drivers.franky import FrankyArm


def wait_for(condition, seconds=20.0):
    """Polls until a condition holds; a hang is a failure, slowness is not."""
    limit = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.005)
    return result


@pytest.fixture
def wait():
    return wait_for


@pytest.fixture(scope="module")
def robot():
    """franka-sim, with its limits and its demand for a command in each millisecond enforced."""
    pytest.importorskip("franky", reason="the FR3 driver needs franky-control: make setup")
    if not PYTHON.exists():
        pytest.skip("no simulated FR3; install it once with: make franka-sim")
    with simulator() as running:
        yield running


@pytest.fixture
def config(robot, tmp_path):
    return robot_config(robot.address, tmp_path)


@pytest.fixture
def connect(config):
    """Connects the real driver; each connection is closed at the end."""
    opened = []

    def begin():
        opened.append(FrankyArm(config.arm, config.safety.joints))
        return opened[-1]

    yield begin
    for arm in opened:
        arm.close()


@pytest.fixture
def drive(config, connect):
    return Drive(config, connect())
