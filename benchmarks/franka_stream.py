"""How an FR3 follows a policy: `python -m benchmarks.franka_stream [--plot docs/images/franka_stream.png]`.

A pretended policy sends 7-DoF steps at 10 Hz through the safety layer and the FR3 driver to franka-sim, over the real
FCI protocol. What the arm did is read from the simulator's own log, taken 1000 times a second. The steps are slow
reaches in all three axes with up to 2 mm and 0.6 degrees of noise in each, sent up to 8 ms late, after a single step of
1 cm.

Lag is the shift in time at which the motion differs least from the staircase of targets. Jerk is the root mean square
of the third derivative of the position, of which a filter at 30 Hz (Butterworth, fourth order, both ways) takes the
noise that differentiating three times at 1 kHz would blow up.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.signal import butter, filtfilt

from benchmarks.franka_rig import Drive, Truth, robot_config, simulator
from tgrpo.types import FloatArray
from tgrpo_ros.drivers.franky import FrankyArm
from tgrpo_ros.robot_config import RobotConfig
from tgrpo_ros.safety import Level
from tgrpo_ros.safety.settings import MotionLimits, Workspace

SETTLE = 2.0
"""Between the single step and the stream [s]."""
CUTOFF = 30.0
"""[Hz]."""
FCI_JOINT_SPEED = np.array([2.62, 2.62, 2.62, 2.62, 5.26, 4.18, 5.26])
"""Most that an FR3 permits at mid range, FCI documentation [rad/s]."""


@dataclass(frozen=True, eq=False)
class Run:
    """One stream and what came of it."""

    config: RobotConfig
    targets: FloatArray
    """``(N, 3)`` positions that were commanded one after another [m]."""
    sent: FloatArray
    """``(N,)`` when [s], steady."""
    truth: Truth
    """Of all the time that the controller ran, and a little before."""
    end: float
    """When the controller was stopped; the stop itself has limits of its own [s], steady."""
    references: FloatArray
    """``(M, 4)`` steady time [s] and reference position [m]."""
    stopped: tuple[str, ...]
    """Reasons for which the layer left RUN."""


@dataclass(frozen=True)
class Figures:
    """Of one run."""

    lag: float
    """[s]."""
    jerk: float
    """Root mean square [m/s3]."""
    error: float
    """Root mean square after the lag [m]."""
    acceleration: float
    """Greatest [m/s2]."""
    speed: float
    """Greatest [m/s]."""
    half: float
    """Time in which the single step is half done [s]."""
    factor: float
    """Simulated time for each second."""
    violations: int
    """Rows of the truth outside the box, above the speed or acceleration limit, or above a joint's speed."""


def steps(rate: float, seconds: float, seed: int, scale: tuple[float, float]) -> tuple[FloatArray, FloatArray]:
    """The pretended policy.

    Args:
        rate: Actions in a second [1/s].
        seconds: How long [s].
        seed: Of the noise.
        scale: Metres and radians at an action of 1.

    Returns:
        Actions ``(N, 7)`` and when to send them ``(N,)`` [s].
    """
    rng = np.random.default_rng(seed)
    count = round(rate * seconds)
    phase = 2.0 * np.pi * np.arange(count)[:, None] / rate / np.array([4.0, 6.0, 5.0])
    actions = np.zeros((count, 7))
    noise = 10.0 / rate
    actions[:, :3] = (0.08 / rate * np.cos(phase) + noise * rng.uniform(-0.002, 0.002, (count, 3))) / scale[0]
    actions[:, 3:6] = noise * rng.uniform(-0.0105, 0.0105, (count, 3)) / scale[1]
    return actions, np.arange(count) / rate + rng.uniform(0.0, 0.008, count)


def run(drive: Drive, read_truth: Callable[[], Truth], rate: float, seconds: float, seed: int) -> Run:
    """Streams through an arm that is connected: the single step, a pause, then the policy."""
    config = drive.config
    scale = (config.action.position_scale, config.action.rotation_scale)
    actions, times = steps(rate, seconds, seed, scale)
    single = np.zeros((1, 7))
    single[0, 2] = 0.01 / scale[0]
    # A pause is a stream of zeros: silence would be a hold, as it should be.
    pause = np.arange(SETTLE * rate) / rate
    idle = np.zeros((len(pause), 7))
    schedule = np.concatenate([pause, SETTLE + pause, 2.0 * SETTLE + times, 2.0 * SETTLE + seconds + pause[:5]])
    actions = np.concatenate([idle, single, idle[1:], actions, idle[:5]])
    drive.begin()
    start = drive.state().pose.position
    begun = time.monotonic()
    sent = drive.stream(actions, schedule)
    end = time.monotonic()
    drive.arm.stop()
    targets = start + np.cumsum(actions[:, :3] * scale[0], axis=0)
    references = np.array([[now, *reference.pose.position] for now, reference in drive.references])
    left = [(level, why) for when, level, why in drive.levels if level is not Level.RUN and when <= sent[-1]]
    stopped = tuple(f"{level.name} {why}" for level, why in left)
    # The filter needs something at both ends.
    return Run(config, targets, sent, read_truth().between(begun - 1.0, end + 0.1), end, references, stopped)


def smooth(truth: Truth) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Time ``(N,)`` [s], position ``(N, 3)`` [m] without its noise, and its jerk ``(N - 3, 3)`` [m/s3]."""
    step = 0.001
    numerator, denominator = butter(4, CUTOFF, fs=1.0 / step)
    position = filtfilt(numerator, denominator, truth.position, axis=0)
    return truth.steady, position, np.diff(position, 3, axis=0) / step**3


def staircase(run: Run, times: FloatArray) -> FloatArray:
    """The newest target at each time ``(N, 3)`` [m]; the first one before any."""
    return np.asarray(run.targets[np.maximum(np.searchsorted(run.sent, times, side="right") - 1, 0)])


def judge(run: Run) -> Figures:
    """The figures of a run, from the simulator's log alone."""
    rate = run.config.action.rate
    first = run.sent[round(2 * SETTLE * rate)]
    times, position, jerk = smooth(run.truth)
    within = (times >= first) & (times <= run.sent[-1])
    stream = run.truth.between(first, run.sent[-1])
    shifts = np.arange(0.0, 0.5, 0.001)
    errors = [_error(run, stream, shift) for shift in shifts]
    best = int(np.argmin(errors))
    acceleration = np.diff(position, 2, axis=0) * 1e6
    single = run.truth.between(run.sent[round(SETTLE * rate)], first)
    rise = single.position[:, 2] - single.position[0, 2]
    half = float(single.steady[np.argmax(rise >= 0.005)] - single.steady[0])
    return Figures(
        lag=float(shifts[best]),
        jerk=float(np.sqrt((jerk[within[3:]] ** 2).sum(axis=1).mean())),
        error=errors[best],
        acceleration=float(np.linalg.norm(acceleration[within[2:]], axis=1).max()),
        speed=float(stream.speed.max()),
        half=half,
        factor=run.truth.factor,
        violations=violations(run, run.config.safety.workspace, run.config.safety.motion),
    )


def violations(run: Run, box: Workspace, limits: MotionLimits) -> int:
    """Rows of the truth that are outside the box, too fast, accelerated too much, or above the speed of a joint."""
    truth = run.truth
    outside = ((truth.position < np.array(box.low)) | (truth.position > np.array(box.high))).any(axis=1)
    fast = truth.speed > limits.linear_speed
    joints = (np.abs(truth.joint_velocities) > FCI_JOINT_SPEED).any(axis=1)
    acceleration = np.linalg.norm(np.diff(smooth(truth)[1], 2, axis=0), axis=1) * 1e6
    hard = np.concatenate([[False, False], acceleration > limits.linear_acceleration])
    return int(((outside | fast | joints | hard) & (truth.steady <= run.end)).sum())


def plot(run: Run, path: Path) -> None:
    """Commanded against measured motion, with the limits."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    limits, box = run.config.safety.motion, run.config.safety.workspace
    truth = run.truth
    zero = run.sent[round(SETTLE * run.config.action.rate)] - 0.5
    times, position, _ = smooth(truth)
    figure, axes = pyplot.subplots(5, 1, figsize=(9, 11), sharex=True, layout="constrained")
    for axis, name in enumerate("xyz"):
        chart = axes[axis]
        chart.step(run.sent - zero, run.targets[:, axis], where="post", color="0.6", label="target of the policy")
        chart.plot(run.references[:, 0] - zero, run.references[:, 1 + axis], color="C0", label="reference to the arm")
        chart.plot(times - zero, truth.position[:, axis], color="C3", label="measured, 1 kHz")
        for bound in (box.low[axis], box.high[axis]):
            low, high = chart.get_ylim()
            if low - 0.05 <= bound <= high + 0.05:
                chart.axhline(bound, color="k", ls="--", lw=1)
        chart.set_ylabel(f"{name} [m]")
    axes[0].legend(loc="upper right", ncols=3, fontsize=8)
    axes[3].plot(times - zero, truth.speed, color="C3")
    axes[3].axhline(limits.linear_speed, color="k", ls="--", lw=1)
    axes[3].set_ylabel("speed [m/s]")
    acceleration = np.linalg.norm(np.diff(position, 2, axis=0), axis=1) * 1e6
    axes[4].plot(times[2:] - zero, acceleration, color="C3")
    axes[4].axhline(limits.linear_acceleration, color="k", ls="--", lw=1)
    axes[4].set_ylabel("acceleration [m/s²]")
    axes[4].set_xlabel("time [s]")
    axes[4].set_xlim(0.0, run.end - zero)
    axes[4].set_ylim(0.0, 1.1 * limits.linear_acceleration)
    figure.suptitle(f"FR3 driver on franka-sim, {run.config.action.rate:g} Hz; dashed: limits of the safety layer")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)


def _error(run: Run, truth: Truth, shift: float) -> float:
    difference = staircase(run, truth.steady - shift) - truth.position
    return float(np.sqrt((difference**2).sum(axis=1).mean()))


def main(argv: Sequence[str] | None = None) -> None:
    """Prints one row for each bandwidth and seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rate", type=float, default=10.0)
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--bandwidths", type=float, nargs="+", default=[30.0])
    parser.add_argument("--stiffness", type=float, default=None, help="translational [N/m]")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--plot", type=Path)
    wanted = parser.parse_args(argv)
    print("bandwidth  lag[ms]  jerk[m/s3]  error[mm]  a_max  v_max  half[ms]  factor  violations  stopped")
    for bandwidth in wanted.bandwidths:
        for seed in range(wanted.seeds):
            with simulator() as robot, tempfile.TemporaryDirectory() as folder:
                config = robot_config(robot.address, Path(folder), wanted.rate, wanted.stiffness, bandwidth=bandwidth)
                arm = FrankyArm(config.arm, config.safety.joints)
                try:
                    one = run(Drive(config, arm), robot.truth, wanted.rate, wanted.seconds, seed)
                finally:
                    arm.close()
            found = judge(one)
            print(
                f"{bandwidth:>9.0f}{found.lag * 1e3:>9.0f}{found.jerk:>12.1f}{found.error * 1e3:>11.1f}"
                f"{found.acceleration:>7.2f}{found.speed:>7.3f}{found.half * 1e3:>10.0f}{found.factor:>8.2f}"
                f"{found.violations:>12}  {', '.join(one.stopped) or '-'}",
                flush=True,
            )
    if wanted.plot is not None:
        plot(one, wanted.plot)


if __name__ == "__main__":
    main()
