"""When rollouts complete their stages: what `tgrpo train --patience` would save, and what it would lose.

    python -m benchmarks.patience --tasks libero_spatial:2 libero_object:0 libero_goal:7

The shipped policy samples as in training, 8 rollouts from each of a few initial states.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np

from sim.rollout import Unit
from sim.settings import TrainSettings
from sim.vector import WorkerPool, WorkerSettings
from tgrpo.algo.cutting import stuck
from tgrpo.policies import shipped
from tgrpo.types import Trajectory

HEAD = (
    "| task | successes | longest wait of a success, median (most) | last stage of a failure, median (most) | patience "
    "| successes lost | steps |\n|---|---|---|---|---|---|---|"
)


def waits(trajectory: Trajectory) -> np.ndarray:
    """Control steps before each new stage, and after the last one."""
    furthest = np.maximum.accumulate(trajectory.stages)
    advances = np.flatnonzero(np.diff(furthest, prepend=0) > 0) + 1
    return np.diff([0, *advances, trajectory.steps])


def ends(trajectory: Trajectory, patience: int, execute: int) -> int:
    """Control steps that would have been played: who is stuck is stopped before the next decision."""
    stages = trajectory.stages.tolist()
    decisions = range(execute, trajectory.steps, execute)
    return next((step for step in decisions if stuck(stages[:step], patience)), trajectory.steps)


def row(task: str, played: list[Trajectory], patience: int, execute: int) -> str:
    """One line of the table."""
    won, lost = ([t for t in played if t.success is wanted] for wanted in (True, False))
    longest = [int(waits(t).max()) for t in won]
    last = [t.steps - int(waits(t)[-1]) for t in lost]
    steps = sum(ends(t, patience, execute) for t in played) / sum(t.steps for t in played)
    cut = sum(ends(t, patience, execute) < t.steps for t in won)
    figures = (f"{np.median(of):.0f} ({max(of)})" if of else "" for of in (longest, last))
    return (
        f"| {task} | {len(won)} of {len(played)} | {' | '.join(figures)} | {patience} | {cut} | {steps:.2f} of before |"
    )


def sampled(suite: str, task: int, states: Sequence[int], seeds: Sequence[int], settings: TrainSettings) -> list[Unit]:
    """Rollouts that are sampled as in training, with the same seeds from each initial state."""
    return [
        Unit(
            suite=suite,
            task=task,
            init_states=(state,),
            seeds=tuple(seeds),
            temperature=settings.temperature,
            execute=settings.execute,
            keep=False,
        )
        for state in states
    ]


def main() -> None:
    """Plays and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="*", default=["libero_spatial:2"], help="SUITE:TASK")
    parser.add_argument("--states", type=int, nargs="*", default=[0, 6, 12, 18])
    parser.add_argument("--patience", type=int, nargs="*", default=[64, 100])
    parser.add_argument("--workers", type=int, default=2)
    chosen, settings = parser.parse_args(), TrainSettings()
    sys.stdout.write(HEAD + "\n")
    for name in chosen.tasks:
        suite, _, task = name.partition(":")
        seeds = range(settings.group_size)
        units = sampled(suite, int(task), chosen.states, seeds, settings)
        with WorkerPool(chosen.workers, WorkerSettings(mode=settings.mode, scene=(suite, int(task)))) as pool:
            played = [t for result in pool.play(units, shipped(settings.policy)) for t in result.trajectories]
        for patience in chosen.patience:
            sys.stdout.write(row(f"{suite} {task}", played, patience, settings.execute) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
