"""A worker is killed or frozen every few seconds while 320 rollouts are played: what is delivered, and how fast.

    python -m benchmarks.chaos --rollouts 320 --every 5

The rollouts are played once in peace and once under fire, by the shipped policy with pictures and rewards; each must be
delivered once, and equal to what it was in peace.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import threading
import time
from collections import Counter

from sim.rollout import Unit, UnitResult
from sim.vector import WorkerPool, WorkerSettings
from tgrpo.policies import shipped

GROUP = 8


class Enemy(threading.Thread):
    """Kills or freezes a random worker at intervals until it is told to stop."""

    def __init__(self, pool: WorkerPool, every: float, seed: int) -> None:
        super().__init__(daemon=True)
        self._pool, self._every, self._rng = pool, every, random.Random(seed)
        self._over = threading.Event()
        self.struck: list[tuple[int, signal.Signals]] = []

    def run(self) -> None:
        """Strikes."""
        while not self._over.wait(self._every):
            sign = (signal.SIGKILL, signal.SIGSTOP)[len(self.struck) % 2]
            pid = self._rng.choice(self._pool.processes())
            try:
                os.kill(pid, sign)
            except ProcessLookupError:
                continue
            self.struck.append((pid, sign))

    def stop(self) -> None:
        """Ends it."""
        self._over.set()
        self.join()


def units(rollouts: int, steps: int) -> list[Unit]:
    """Rollouts in groups of 8, all different."""
    return [
        Unit(
            suite="libero_spatial",
            task=2,
            init_states=(number % 25,),
            seeds=tuple(range(GROUP * number, GROUP * (number + 1))),
            temperature=0.5,
            max_steps=steps,
            keep=False,
        )
        for number in range(rollouts // GROUP)
    ]


def facts(results: list[UnitResult]) -> Counter[tuple[int, bool, int, float]]:
    """Seed, success, steps and return of every rollout, and how often it came."""
    return Counter(
        (result.unit.seeds[row], t.success, t.steps, float(t.rewards.sum()))
        for result in results
        for row, t in zip(result.rows, result.trajectories, strict=True)
    )


def left_behind(struck: list[tuple[int, signal.Signals]]) -> list[int]:
    """Processes that were struck and are still there."""
    return [pid for pid, _ in struck if os.path.exists(f"/proc/{pid}")]  # noqa: PTH110  (no file is meant)


def main() -> None:
    """Prints the table of ``benchmarks/README.md``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollouts", type=int, default=320)
    parser.add_argument("--every", type=float, default=5.0, help="time between two strikes [s]")
    parser.add_argument("--deadline", type=float, default=1.5, help="silence after which a worker is replaced [s]")
    parser.add_argument("--steps", type=int, default=80, help="step limit of a rollout")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    policy = shipped("tiny-libero")
    settings = WorkerSettings(timeout=arguments.deadline, retries=1000, quarantine=0)
    wanted = units(arguments.rollouts, arguments.steps)
    with WorkerPool(arguments.workers, settings) as pool:
        pool.play(units(GROUP * arguments.workers, 8), policy)  # builds the scenes
        started = time.monotonic()
        calm = facts(pool.play(wanted, policy))
        calm_seconds = time.monotonic() - started
        enemy = Enemy(pool, arguments.every, seed=0)
        started = time.monotonic()
        enemy.start()
        stormy = facts(pool.play(wanted, policy))
        seconds = time.monotonic() - started
        enemy.stop()
        lost = pool.lost
    if calm != stormy:
        raise SystemExit(f"{sum((calm - stormy).values())} rollouts are missing or differ.")
    signs = Counter(sign for _, sign in enemy.struck)
    struck = f"{signs[signal.SIGKILL]} | {signs[signal.SIGSTOP]}"
    print("| delivered | killed | frozen | rollouts lost and played again | calm [s] | under fire [s] | throughput |")
    print("|---|---|---|---|---|---|---|")
    print(
        f"| {sum(stormy.values())} of {arguments.rollouts}, each once and equal | {struck} | {lost} | "
        f"{calm_seconds:.0f} | {seconds:.0f} | {calm_seconds / seconds:.0%} |"
    )
    print(f"processes left behind: {left_behind(enemy.struck)}")


if __name__ == "__main__":
    main()
