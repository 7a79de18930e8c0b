"""A group of 8 rollouts on one worker and on several, taking turns: how much of the cores arrives.

    python benchmarks/rollout_scaling.py --workers 2 --rounds 5

The groups are the same in every round and for every number of workers, as training plays them: shipped policy, stage
rewards and the settings of ``tgrpo train``. The trajectories are compared, so that no speed comes from doing less. The
fastest of the rounds says most where other guests of the host take from its cores.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from statistics import median
from typing import get_args

import msgspec

from sim import loop
from sim.collecting import Collected, collect
from sim.libero import MAX_STEPS
from sim.rollout import Stop
from sim.settings import PRESETS, TrainSettings
from sim.vector import WorkerPool, WorkerSettings
from tgrpo.policies import shipped


def played(settings: TrainSettings, pool: WorkerPool, policy: Path, iteration: int) -> tuple[float, list[Collected]]:
    """Wall time [s] of the group of an iteration, and the group."""
    plan = loop.plan(settings, int(settings.task), iteration, MAX_STEPS[settings.suite])
    started = time.monotonic()
    groups = collect(plan, pool, policy, lambda _: None)
    return time.monotonic() - started, groups


def main() -> None:
    """Prints one row for each number of workers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--groups", type=int, default=3, help="groups in a round")
    parser.add_argument("--stop", choices=get_args(Stop), default=PRESETS["fast"].stop)
    arguments = parser.parse_args()
    base = msgspec.structs.replace(PRESETS["fast"], groups=1, stop=arguments.stop)
    policy = shipped(base.policy)
    counts = (1, arguments.workers)
    pools = {count: WorkerPool(count, WorkerSettings()) for count in counts}
    times: dict[tuple[int, int], list[float]] = {
        (count, group): [] for count in counts for group in range(arguments.groups)
    }
    for turn in range(arguments.rounds + 1):
        for group in range(arguments.groups):
            steps = {}
            for count in counts:
                seconds, found = played(base, pools[count], policy, group)
                steps[count] = [sorted(t.steps for t in one.first.trajectories) for one in found]
                if turn:  # the first round builds the environments
                    times[count, group].append(seconds)
            if steps[1] != steps[arguments.workers]:
                raise SystemExit("the groups differ between numbers of workers, so their times say nothing.")
    for pool in pools.values():
        pool.close()
    sys.stdout.write(
        "| workers | median [s] | fastest [s] | ratio of medians | ratio of fastest |\n|---|---|---|---|---|\n"
    )
    seconds = {
        count: [sum(which(times[count, group]) for group in range(arguments.groups)) for which in (median, min)]
        for count in counts
    }
    for count in counts:
        middle, least = seconds[count]
        sys.stdout.write(
            f"| {count} | {middle / arguments.groups:.2f} | {least / arguments.groups:.2f} "
            f"| {seconds[1][0] / middle:.2f}x | {seconds[1][1] / least:.2f}x |\n"
        )


if __name__ == "__main__":
    main()
