"""Simulated FR3s behind the real FCI protocol, and the loop that drives one as a robot's node does.

franka-sim judges each millisecond of the arm, but its hand closes at once; franky-sim has a hand that takes its time.
Each has a virtual environment of its own (`make franka-sim franky-sim`), as their numpy and MuJoCo are not ours.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from tgrpo.types import FloatArray
from tgrpo_ros.drivers.franky import FrankyArm
from tgrpo_ros.motion import ArmState, Command, Reference, Source
from tgrpo_ros.robot_config import RobotConfig, load
from tgrpo_ros.safety import Guard, Level
from tgrpo_ros.safety.guard import Output

ROOT = Path(__file__).resolve().parent.parent
PYTHON = ROOT / ".venv-franka-sim" / "bin" / "python"
HAND_PYTHON = ROOT / ".venv-franky-sim" / "bin" / "python"
COLUMNS = 31
BOX = "low: [0.30, -0.30, 0.15]\nhigh: [0.70, 0.30, 0.60]\n"
"""Around the pose that the simulated arm starts in [m]."""
SESSION = "rig"


@dataclass(frozen=True, eq=False)
class Truth:
    """What the simulated arm really did, 1000 times a second of its own time."""

    time: FloatArray
    """``(N,)`` of the simulation [s]."""
    steady: FloatArray
    """``(N,)`` steady clock of this machine [s]."""
    joints: FloatArray
    """``(N, 7)`` [rad]."""
    joint_velocities: FloatArray
    """``(N, 7)`` [rad/s]."""
    position: FloatArray
    """``(N, 3)`` of the flange [m]."""
    rotation: FloatArray
    """``(N, 3, 3)`` of the flange."""
    velocity: FloatArray
    """``(N, 3)`` of the flange [m/s]."""

    def between(self, begin: float, end: float) -> Truth:
        """The rows between two steady times [s]."""
        rows = (self.steady >= begin) & (self.steady <= end)
        return Truth(*(values[rows] for values in vars(self).values()))

    @property
    def speed(self) -> FloatArray:
        """``(N,)`` [m/s]."""
        return np.asarray(np.linalg.norm(self.velocity, axis=1))

    @property
    def factor(self) -> float:
        """Simulated time for each second: 1 unless the machine is too busy."""
        return float((self.time[-1] - self.time[0]) / (self.steady[-1] - self.steady[0]))


class Simulator:
    """A running franka-sim.

    Attributes:
        address: To connect to; port 1337 is libfranka's own.
    """

    def __init__(self, address: str, process: subprocess.Popen[str], path: Path) -> None:
        """Takes over a process that is ready."""
        self.address, self._process, self._path = address, process, path

    def truth(self, patience: float = 0.2) -> Truth:
        """Everything so far.

        Args:
            patience: The newest rows are written this much later [s].
        """
        time.sleep(patience)
        table = np.fromfile(self._path)
        table = table[: len(table) // COLUMNS * COLUMNS].reshape(-1, COLUMNS)
        times, joints, velocities, position, matrix, velocity = np.split(table, [2, 9, 16, 19, 28], axis=1)
        return Truth(
            times[:, 0], times[:, 1], joints, velocities, position, matrix.reshape(-1, 3, 3), velocity
        )  # fmt: skip


@contextmanager
def urgent(priority: int = 10) -> Iterator[None]:
    """Gives this thread precedence on a busy machine, if that is permitted.

    Only for a loop that sleeps: Linux halts a core's real-time threads when they have taken 950 ms of a second.
    """
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    try:
        yield
    finally:
        with contextlib.suppress(PermissionError):
            os.sched_setscheduler(0, *before)


@contextmanager
def simulator(friction: float = 0.2) -> Iterator[Simulator]:
    """Starts franka-sim and ends it.

    Args:
        friction: Coulomb friction of each joint [N m].

    Raises:
        FileNotFoundError: Its virtual environment is missing.
        RuntimeError: It did not start.
    """
    address = _address()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "truth"
        words = [str(ROOT / "benchmarks" / "franka_server.py"), address, str(path), "--friction", str(friction)]
        with _running(PYTHON, words, "ready") as process:
            yield Simulator(address, process, path)


@contextmanager
def hand_simulator() -> Iterator[str]:
    """Starts franky-sim, gives its address, and ends it.

    Raises:
        FileNotFoundError: Its virtual environment is missing.
        RuntimeError: It did not start.
    """
    address = _address()
    words = ["-u", "-m", "franky_sim.run_server", "--simulator", "mujoco", "--hostname", address]
    with _running(HAND_PYTHON, words, "Press Ctrl+C"):
        yield address


def _address() -> str:
    """One for each simulated robot, as their ports are always libfranka's."""
    return f"127.{random.randint(1, 254)}.{random.randint(1, 254)}.{random.randint(1, 254)}"


@contextmanager
def _running(python: Path, words: list[str], ready: str) -> Iterator[subprocess.Popen[str]]:
    """A process that has printed a line that begins with a word."""
    if not python.exists():
        raise FileNotFoundError(f"{python} is missing. Run: make {python.parents[1].name.removeprefix('.venv-')}")
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen([python, *words], stdout=subprocess.PIPE, stderr=errors, text=True)
        try:
            if not any(line.startswith(ready) for line in process.stdout or ()):
                errors.seek(0)
                raise RuntimeError(f"the simulated robot did not start:\n{errors.read()[-2000:]}")
            yield process
        finally:
            process.terminate()  # it ignores SIGINT when it is started in the background
            try:
                process.wait(5.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def robot_config(
    address: str, folder: Path, rate: float = 10.0, stiffness: float | None = None, **motion: float
) -> RobotConfig:
    """The shipped configuration of an FR3, at an address, with a box around the simulated arm.

    Args:
        address: Of the simulator.
        folder: For the file of the box.
        rate: Of the policy [1/s].
        stiffness: Translational [N/m]; the shipped one by default.
        motion: Limits of motion to replace.
    """
    path = folder / "box.yaml"
    path.write_text(BOX)
    config = load("fr3", path)
    replace = msgspec.structs.replace
    safety = replace(config.safety, motion=replace(config.safety.motion, **motion))
    gains = config.arm.impedance
    if stiffness is not None:
        gains = replace(gains, translational_stiffness=stiffness)
    arm = replace(config.arm, host=address, impedance=gains)
    return replace(config, arm=arm, action=replace(config.action, rate=rate), safety=safety, cameras=())


@dataclass(eq=False)
class Drive:
    """Guard and driver in a loop, at the rate of the safety layer.

    Attributes:
        references: Steady time [s] and reference of each tick.
        levels: Each level that was entered: steady time [s], level and name of the reason.
    """

    config: RobotConfig
    arm: FrankyArm
    references: list[tuple[float, Reference]] = field(default_factory=list)
    levels: list[tuple[float, Level, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Builds the safety layer."""
        self.guard = Guard(self.config.safety, self.config.action, (), time.monotonic())
        self._sequence = 0

    def begin(self) -> None:
        """Arms the layer and starts the controller."""
        state = self.state()
        self.guard.arbiter.acquire(Source.POLICY, SESSION, time.monotonic())
        self.guard.arm(time.monotonic(), state)
        self.arm.start()
        self.guard.arm(time.monotonic(), self.state())

    def state(self) -> ArmState:
        """The newest report."""
        state = self.arm.state()
        if state is None:
            raise RuntimeError("the arm has reported nothing yet")
        return state

    def command(self, actions: FloatArray, age: float = 0.0) -> str:
        """Sends a chunk ``(K, 7)``; returns why it was refused."""
        now = time.monotonic()
        self._sequence += 1
        actions = np.atleast_2d(actions).astype(np.float32)
        return self.guard.submit(Command(Source.POLICY, SESSION, self._sequence, now - age, actions), now)

    def tick(self) -> Output:
        """One tick: report in, reference out."""
        now = time.monotonic()
        out = self.guard.tick(now, self.arm.state())
        if out.gripper is not None:
            self.arm.grip(out.gripper)
        if out.reference is not None:
            self.references.append((now, out.reference))
            self.arm.follow(out.reference)
        if out.halt:
            self.arm.stop()
        name = "" if out.reason is None else out.reason.name
        if not self.levels or self.levels[-1][1:] != (out.level, name):
            self.levels.append((now, out.level, name))
        return out

    def run(self, seconds: float, each: Callable[[float], object] | None = None) -> None:
        """Ticks for some time.

        Args:
            seconds: How long [s].
            each: Called before each tick with the time since the beginning [s].
        """
        period = 1.0 / self.config.safety.rate
        begun = due = time.monotonic()
        with urgent():
            while (now := time.monotonic()) < begun + seconds:
                if each is not None:
                    each(now - begun)
                self.tick()
                due = max(due + period, time.monotonic() - period)
                time.sleep(max(0.0, due - time.monotonic()))

    def stream(self, actions: FloatArray, times: FloatArray, seconds: float | None = None) -> FloatArray:
        """Sends single actions at given times.

        Args:
            actions: ``(N, 7)``.
            times: ``(N,)`` since the beginning [s].
            seconds: How long to go on; to the end by default [s].

        Returns:
            Steady time at which each action was sent ``(N,)`` [s].
        """
        sent: list[float] = []

        def each(elapsed: float) -> None:
            if len(sent) < len(times) and elapsed >= times[len(sent)]:
                why = self.command(actions[len(sent)])
                if why:
                    raise RuntimeError(f"action {len(sent)} was refused: {why}")
                sent.append(time.monotonic())

        self.run(float(times[-1]) + 0.2 if seconds is None else seconds, each)
        return np.array(sent)
