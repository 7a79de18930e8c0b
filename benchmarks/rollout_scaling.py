"""Batches of rollouts on one worker and on several, taking turns: how much of the cores arrives.

    python benchmarks/rollout_scaling.py --workers 2 --rounds 5
    python benchmarks/rollout_scaling.py --groups 1               # a single group in each batch

The batches are the same in every round and for every number of workers, as training plays them: shipped policy, stage
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
    """Wall time [s] of the batch of an iteration, and its groups."""
    plan = loop.plan(settings, int(settings.task), iteration, MAX_STEPS[settings.suite])
    started = time.monotonic()
    groups = collect(plan, pool, policy, lambda _: None)
    return time.monotonic() - started, groups


def main() -> None:
    """Prints one row for each number of workers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=3, help="batches in a round")
    parser.add_argument("--groups", type=int, default=PRESETS["fast"].groups, help="groups of 8 in a batch")
    parser.add_argument("--stop", choices=get_args(Stop), default=PRESETS["fast"].stop)
    arguments = parser.parse_args()
    base = msgspec.structs.replace(PRESETS["fast"], groups=arguments.groups, stop=arguments.stop)
    policy = shipped(base.policy)
    counts = (1, arguments.workers)
    pools = {count: WorkerPool(count, WorkerSettings()) for count in counts}
    times: dict[tuple[int, int], list[float]] = {
        (count, batch): [] for count in counts for batch in range(arguments.batches)
    }
    for turn in range(arguments.rounds + 1):
        for batch in range(arguments.batches):
            steps = {}
            for count in counts:
                seconds, found = played(base, pools[count], policy, batch)
                steps[count] = [sorted(t.steps for t in one.first.trajectories) for one in found]
                if turn:  # the first round builds the environments
                    times[count, batch].append(seconds)
            if steps[1] != steps[arguments.workers]:
                raise SystemExit("the batches differ between numbers of workers, so their times say nothing.")
    for pool in pools.values():
        pool.close()
    sys.stdout.write(
        "| workers | median [s] | fastest [s] | ratio of medians | ratio of fastest |\n|---|---|---|---|---|\n"
    )
    seconds = {
        count: [sum(which(times[count, batch]) for batch in range(arguments.batches)) for which in (median, min)]
        for count in counts
    }
    for count in counts:
        middle, least = seconds[count]
        sys.stdout.write(
            f"| {count} | {middle / arguments.batches:.2f} | {least / arguments.batches:.2f} "
            f"| {seconds[1][0] / middle:.2f}x | {seconds[1][1] / least:.2f}x |\n"
        )


if __name__ == "__main__":
    main()
