"""Attacks the safety layer and measures it: `python -m benchmarks.safety [--commands 90000]`.

An adversary sends random, absurd, stale, duplicate and foreign commands, jumps between sources, stops clocks, drops
frames and reports reflexes; whatever happens, it arms the arm again. What comes out is judged on its own: is any
reference outside the box, or faster, or accelerated more than the limits say? A second part measures how far the
follower lags behind a stream of targets, how it jerks, and what a tick costs.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import numpy as np

from tgrpo import rotation
from tgrpo.errors import RobotFault
from tgrpo.settings import from_builtins
from tgrpo.spec import ActionSpec
from tgrpo.types import FloatArray
from tgrpo_ros.motion import ArmState, Command, Pose, Source
from tgrpo_ros.safety import Follower, Guard, Level, SafetySettings
from tgrpo_ros.safety.follower import MAX_STEP
from tgrpo_ros.safety.settings import MotionLimits, Workspace

BOX = {"low": [0.3, -0.3, 0.1], "high": [0.7, 0.3, 0.6]}
JOINTS = {"low": [-2.7] * 7, "high": [2.7] * 7}
TICK = 0.004
ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Record:
    """References in the order they came out; a new segment begins where the arm was armed again."""

    times: FloatArray
    segments: FloatArray
    positions: FloatArray
    linear: FloatArray
    angular: FloatArray


class Adversary:
    """Everything that may happen to a safety layer, at random.

    Attributes:
        settings: Of the layer under attack.
        commands: Sent so far.
        faults: How often the layer reached DECELERATE or FAULT.
    """

    def __init__(self, seed: int) -> None:
        """Builds a layer to attack.

        Args:
            seed: Of all decisions.
        """
        self.settings = from_builtins({"workspace": BOX, "joints": JOINTS}, SafetySettings)
        self.commands, self.faults = 0, 0
        self._rng = np.random.default_rng(seed)
        self._guard = Guard(self.settings, ActionSpec(rate=10.0), ["front"], now=0.0)
        self._now, self._robot, self._segment = 0.0, 50.0, 0
        self._pose = Pose(np.array([0.5, 0.0, 0.3]), rotation.identity())
        self._sequence = 0
        self._direction = np.ones(7)

    def play(self, ticks: int) -> Record:
        """Attacks for some ticks and returns what came out."""
        rows = []
        for _ in range(ticks):
            dt = TICK if self._rng.random() < 0.995 else float(self._rng.choice([0.0, 0.02, 0.3, 60.0]))
            self._now += dt
            self._robot += dt if self._rng.random() < 0.9995 else float(self._rng.uniform(-5.0, 5.0))
            state = self._state()
            self._attack()
            if self._guard.ladder.level >= Level.DECELERATE and self._rng.random() < 0.2:
                self._arm(state)
            out = self._guard.tick(self._now, state)
            self.faults += out.level >= Level.DECELERATE
            if out.reference is not None:
                reference = out.reference
                rows.append(
                    [self._robot, self._segment, *reference.pose.position, *reference.linear, *reference.angular]
                )
                self._pose = reference.pose
        table = np.array(rows)
        return Record(table[:, 0], table[:, 1], table[:, 2:5], table[:, 5:8], table[:, 8:11])

    def _attack(self) -> None:
        rng = self._rng
        if rng.random() < 0.98:
            self._guard.watch.see("front", self._now, int(rng.integers(1 << 30)), self._now)
        while rng.random() < 0.4:
            source = Source(int(rng.choice([1, 1, 1, 2, 4])))
            session = "intruder" if rng.random() < 0.05 else "one"
            self._sequence += int(rng.choice([1, 1, 1, 0, -3]))
            observed = self._now - float(rng.choice([0.0, 0.0, 0.1, 0.6, 30.0, -1.0, np.nan]))
            engaged = bool(rng.random() < 0.9)
            command = Command(source, session, self._sequence, observed, self._actions(), engaged)
            if rng.random() < 0.5 and self._guard.arbiter.holder(source) is None:
                self._guard.arbiter.acquire(source, "one", self._now)
            self._guard.submit(command, self._now)
            self.commands += 1

    def _actions(self) -> FloatArray:
        rng = self._rng
        count = int(rng.choice([1, 1, 8, 20]))
        kind = rng.random()
        if rng.random() < 0.005:
            self._direction = rng.choice([-1.0, 0.0, 1.0], size=7)
        size = float(10.0 ** rng.uniform(-1.5, 0.2)) if kind < 0.95 else float(10.0 ** rng.uniform(1, 300))
        actions = np.asarray((self._direction + rng.normal(scale=0.3, size=(count, 7))) * size)
        if kind > 0.98:
            actions[rng.integers(count), rng.integers(7)] = rng.choice([np.nan, np.inf, -np.inf])
        return actions if kind < 0.995 else actions[:, : int(rng.integers(0, 7))]

    def _arm(self, state: ArmState) -> None:
        try:
            if self._guard.ladder.level is Level.FAULT:
                self._guard.acknowledge(self._now, state)
            self._guard.arm(self._now, state)
            self._segment += 1
        except RobotFault:
            return

    def _state(self) -> ArmState:
        rng = self._rng
        odd = rng.random()
        noise = rng.normal(scale=0.002, size=3)
        pushed = rng.normal(scale=0.2, size=3) if odd < 0.0005 else np.zeros(3)
        return ArmState(
            time=self._robot,
            received=self._now - (0.3 if 0.0005 < odd < 0.001 else 0.0),
            pose=self._pose.moved(noise + pushed, rng.normal(scale=0.005, size=3)),
            joints=np.full(7, 2.68 if 0.001 < odd < 0.0015 else 0.0),
            joint_velocities=np.full(7, 0.04),
            fingers=np.zeros(2),
            proprio=np.zeros(8, np.float32),
            mode="reflex" if 0.0015 < odd < 0.002 else "ready",
        )


def judge(record: Record, settings: SafetySettings) -> dict[str, int]:
    """Number of references that break each limit."""
    limits, box = settings.motion, settings.workspace
    same = (np.diff(record.segments) == 0) & (np.diff(record.times) >= 0)
    dt = np.diff(record.times)[same]

    def changes(values: FloatArray) -> FloatArray:
        return np.asarray(np.linalg.norm(np.diff(values, axis=0)[same], axis=1))

    # Over one step of the integration the way is the mean velocity times the time, else a jump hides in the position.
    single = dt <= MAX_STEP
    way = np.diff(record.positions, axis=0)[same] - 0.5 * (record.linear[1:] + record.linear[:-1])[same] * dt[:, None]
    outside = (record.positions < np.array(box.low) - ROUNDING) | (record.positions > np.array(box.high) + ROUNDING)
    return {
        "not finite": int((~np.isfinite(record.positions)).sum() + (~np.isfinite(record.linear)).sum()),
        "outside the box": int(outside.any(axis=1).sum()),
        "too fast": int((np.linalg.norm(record.linear, axis=1) > limits.linear_speed + ROUNDING).sum()),
        "moved too fast": int((changes(record.positions) > limits.linear_speed * dt + ROUNDING).sum()),
        "jumped": int((np.linalg.norm(way[single], axis=1) > ROUNDING).sum()),
        "turned too fast": int((np.linalg.norm(record.angular, axis=1) > limits.angular_speed + ROUNDING).sum()),
        "accelerated too much": int((changes(record.linear) > limits.linear_acceleration * dt + ROUNDING).sum()),
        "turn accelerated too much": int((changes(record.angular) > limits.angular_acceleration * dt + ROUNDING).sum()),
    }


def lag_and_jerk(
    bandwidth: float, rate: float = 10.0, seconds: float = 12.0, seed: int = 0
) -> tuple[float, float, float]:
    """Lag [s], root mean square jerk [m/s3] and error after the lag [m] of the follower behind a stream of targets.

    The targets are those of a policy at 10 Hz: slow reaches with 2 mm of noise in each action.
    """
    rng = np.random.default_rng(seed)
    limits = MotionLimits(bandwidth=bandwidth)
    follower = Follower(
        limits, Workspace(low=(-1, -1, -1), high=(1, 1, 1)), 0.0, Pose(np.zeros(3), rotation.identity())
    )
    targets, steps, positions = [], round(1.0 / rate / TICK), []
    target = np.zeros(3)
    for index in range(int(seconds * rate)):
        phase = 2 * np.pi * index / rate / np.array([4.0, 6.0, 5.0])
        target = target + 0.008 * np.cos(phase) + rng.uniform(-0.002, 0.002, 3)
        follower.aim(Pose(target, rotation.identity()), 1.0 / rate)
        for _ in range(steps):
            targets.append(target)
            positions.append(follower.advance(follower.time + TICK).pose.position)
    staircase, motion = np.array(targets), np.array(positions)
    shifts = range(150)
    errors = [float(np.sqrt(((staircase[: len(motion) - n] - motion[n:]) ** 2).sum(axis=1).mean())) for n in shifts]
    best = int(np.argmin(errors))
    jerk = np.diff(motion, 3, axis=0) / TICK**3
    return best * TICK, float(np.sqrt((jerk**2).sum(axis=1).mean())), errors[best]


def main() -> None:
    """Prints both parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--commands", type=int, default=90_000)
    wanted = parser.parse_args().commands
    total: dict[str, int] = {}
    commands = ticks = faults = seed = 0
    begun = time.process_time()
    while commands < wanted:
        adversary = Adversary(seed)
        record = adversary.play(10_000)
        for name, count in judge(record, adversary.settings).items():
            total[name] = total.get(name, 0) + count
        commands, ticks, faults = commands + adversary.commands, ticks + 10_000, faults + adversary.faults
        seed += 1
    cost = (time.process_time() - begun) / ticks
    print(f"{commands} commands, {ticks} ticks, {faults} of them stopped, {cost * 1e6:.0f} us each with the adversary")
    for name, count in total.items():
        print(f"  {name:<28}{count}")
    print("bandwidth [rad/s]   lag [ms]   jerk rms [m/s3]   error after the lag [mm]")
    for bandwidth in (15.0, 20.0, 30.0, 40.0, 60.0):
        lag, jerk, error = lag_and_jerk(bandwidth)
        print(f"{bandwidth:>17.0f}{lag * 1e3:>11.0f}{jerk:>18.1f}{error * 1e3:>27.1f}")


if __name__ == "__main__":
    main()
