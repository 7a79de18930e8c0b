"""A worker is killed or frozen every few seconds while 320 rollouts are played: what is delivered, and how fast.

    python -m benchmarks.chaos --rollouts 320 --every 5

The rollouts are played once in peace and once under fire, by the shipped policy with pictures and rewards; each must be
delivered once, and equal to what it was in peace. Peace and war take turns, block by block, so that whatever else the
machine does meets both.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator

from sim.rollout import Unit, UnitResult
from sim.vector import WorkerPool, WorkerSettings
from tgrpo.policies import shipped

GROUP = 8
TICK = 0.05
"""Time between two looks at the clock [s]."""


class Enemy(threading.Thread):
    """Kills or freezes a random worker at intervals, while it is at war, until it is told to stop.

    Attributes:
        struck: Process ids, and how each of them was struck.
    """

    def __init__(self, pool: WorkerPool, every: float, seed: int) -> None:
        super().__init__(daemon=True)
        self._pool, self._every, self._rng = pool, every, random.Random(seed)
        self._over, self._war = threading.Event(), threading.Event()
        self.struck: list[tuple[int, signal.Signals]] = []

    def run(self) -> None:
        """Strikes; only time at war counts."""
        waited = 0.0
        while not self._over.wait(TICK):
            waited += TICK * self._war.is_set()
            if waited >= self._every:
                waited = 0.0
                self._strike()

    def _strike(self) -> None:
        sign = (signal.SIGKILL, signal.SIGSTOP)[len(self.struck) % 2]
        pid = self._rng.choice(self._pool.processes())
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, sign)
            self.struck.append((pid, sign))

    @contextlib.contextmanager
    def at_war(self) -> Iterator[None]:
        """Strikes during a block."""
        self._war.set()
        try:
            yield
        finally:
            self._war.clear()

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
    parser.add_argument("--blocks", type=int, default=4, help="turns of peace and war")
    parser.add_argument("--every", type=float, default=5.0, help="time between two strikes [s]")
    parser.add_argument("--deadline", type=float, default=0.5, help="silence after which a worker is replaced [s]")
    parser.add_argument("--steps", type=int, default=80, help="step limit of a rollout")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    policy = shipped("tiny-libero")
    wanted = units(arguments.rollouts, arguments.steps)
    scene = (wanted[0].suite, wanted[0].task)
    settings = WorkerSettings(timeout=arguments.deadline, retries=1000, quarantine=0, scene=scene)
    size = -(-len(wanted) // arguments.blocks)
    seconds = {"peace": 0.0, "war": 0.0}
    found: dict[str, Counter[tuple[int, bool, int, float]]] = {kind: Counter() for kind in seconds}
    with WorkerPool(arguments.workers, settings) as pool:
        enemy = Enemy(pool, arguments.every, seed=0)
        enemy.start()
        scenes = units(GROUP * arguments.workers, 8)
        pool.play(scenes, policy)
        for first in range(0, len(wanted), size):
            for kind in seconds:
                started = time.monotonic()
                with enemy.at_war() if kind == "war" else contextlib.nullcontext():
                    found[kind] += facts(pool.play(wanted[first : first + size], policy))
                pool.play(scenes, policy)  # what the last strike destroyed is rebuilt at the expense of the war
                seconds[kind] += time.monotonic() - started
                print(f"block {first // size}, {kind}: {time.monotonic() - started:.1f} s", file=sys.stderr, flush=True)
        enemy.stop()
        lost = pool.lost
    if found["peace"] != found["war"] or set(found["war"].values()) != {1}:
        raise SystemExit(f"{sum((found['peace'] - found['war']).values())} rollouts are missing or differ.")
    signs = Counter(sign for _, sign in enemy.struck)
    struck = f"{signs[signal.SIGKILL]} | {signs[signal.SIGSTOP]}"
    print("| delivered | killed | frozen | rollouts lost and played again | calm [s] | under fire [s] | throughput |")
    print("|---|---|---|---|---|---|---|")
    print(
        f"| {sum(found['war'].values())} of {arguments.rollouts}, each once and equal | {struck} | {lost} | "
        f"{seconds['peace']:.0f} | {seconds['war']:.0f} | {seconds['peace'] / seconds['war']:.0%} |"
    )
    print(f"processes left behind: {left_behind(enemy.struck)}")


if __name__ == "__main__":
    main()
