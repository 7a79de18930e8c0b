"""How long the hand of an FR3 takes, and that the arm does not wait for it: `python -m benchmarks.gripper`.

Against franky-sim (`make franky-sim`), by the driver and the safety layer of a real arm. A policy's stream moves the
arm sideways all the time, closes the hand after one second, and opens it after four.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.franka_rig import Drive, hand_simulator, robot_config
from tgrpo.types import FloatArray
from tgrpo_ros.drivers.franky import FrankyArm

RATE, CLOSE, OPEN, END = 10.0, 1.0, 4.0, 7.0
"""Of the stream [1/s], and its times [s]."""
STEP = 0.15
"""Of each action, of the largest one: 0.75 cm at 10 Hz, to one side until the hand opens and then back."""
MOVED = 1e-3
"""By which the width has changed when the hand moves [m]."""


class Sample(NamedTuple):
    """What was known at a tick."""

    time: float
    """Since the beginning [s]."""
    width: float
    """Between the fingers [m]."""
    position: float
    """Of the arm, along the way of the stream [m]."""


@dataclass(frozen=True)
class Motion:
    """One motion of the hand."""

    begins: float
    """From the action that asks for it until the width changes [s]."""
    takes: float
    """From there until it changes no more [s]."""
    travel: float
    """Of the arm while the hand moved [m]."""


def run(drive: Drive) -> list[Sample]:
    """Streams, and looks at every tick."""
    samples: list[Sample] = []
    times = np.arange(0.0, END, 1.0 / RATE)
    actions = np.zeros((len(times), 7))
    actions[:, 1] = np.where(times < OPEN, STEP, -STEP)
    actions[:, 6] = np.where((times >= CLOSE) & (times < OPEN), 1.0, -1.0)
    drive.begin()
    sent = 0

    def each(elapsed: float) -> None:
        nonlocal sent
        if sent < len(times) and elapsed >= times[sent]:
            if why := drive.command(actions[sent]):
                raise RuntimeError(f"action {sent} was refused: {why}")
            sent += 1
        state = drive.state()
        samples.append(Sample(elapsed, 2.0 * float(state.fingers[0]), float(state.pose.position[1])))

    drive.run(END, each)
    drive.arm.stop()
    return samples


def motion(samples: list[Sample], asked: float, until: float) -> Motion:
    """What the hand did between two times [s].

    Raises:
        ValueError: It did not move.
    """
    table: FloatArray = np.array([sample for sample in samples if asked <= sample.time < until])
    times, width, position = table.T
    moved = np.flatnonzero(np.abs(width - width[0]) > MOVED)
    if not len(moved):
        raise ValueError(f"the hand did not move between {asked} and {until} s; its width is {width[0]:.3f} m.")
    begun = moved[0]
    ended = np.flatnonzero(np.abs(width - width[-1]) > MOVED)[-1]
    return Motion(times[begun] - asked, times[ended] - times[begun], abs(position[ended] - position[begun]))


def main() -> int:
    """Runs it and prints a table."""
    with hand_simulator() as address, tempfile.TemporaryDirectory() as folder:
        config = robot_config(address, Path(folder), RATE)
        arm = FrankyArm(config.arm, config.safety.joints)
        try:
            samples = run(Drive(config, arm))
        finally:
            arm.close()
    print("| the hand | begins after | takes | the arm moved meanwhile |")
    print("|---|---|---|---|")
    for name, asked, until in (("closes", CLOSE, OPEN), ("opens", OPEN, END)):
        found = motion(samples, asked, until)
        print(f"| {name} | {1000 * found.begins:.0f} ms | {found.takes:.2f} s | {100 * found.travel:.1f} cm |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
