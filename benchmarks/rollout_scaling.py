"""A group of 8 rollouts on one worker and on several, taking turns: how much of the cores arrives.

    python benchmarks/rollout_scaling.py --workers 2 --rounds 5

The groups are the same in every round and for every number of workers, as training plays them: shipped policy, stage
rewards and the settings of ``tgrpo train``. The trajectories are compared, so that no speed comes from doing less.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from statistics import median

import msgspec

from sim import loop
from sim.libero import MAX_STEPS
from sim.settings import PRESETS, TrainSettings
from sim.vector import WorkerPool, WorkerSettings
from tgrpo.policies import shipped
from tgrpo.types import RolloutGroup


def played(settings: TrainSettings, pool: WorkerPool, policy: Path, groups: int) -> tuple[float, list[RolloutGroup]]:
    """Wall time [s] of some groups, one after the other, and the groups."""
    started = time.monotonic()
    found = []
    for iteration in range(groups):
        plan = loop.plan(settings, int(settings.task), iteration, MAX_STEPS[settings.suite])
        found += loop.collect(plan, pool, policy, lambda _: None)
    return time.monotonic() - started, found


def main() -> None:
    """Prints one row for each number of workers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--groups", type=int, default=3, help="groups in a round")
    arguments = parser.parse_args()
    base = msgspec.structs.replace(PRESETS["fast"], groups=1)
    policy = shipped(base.policy)
    counts = (1, arguments.workers)
    pools = {count: WorkerPool(count, WorkerSettings()) for count in counts}
    settings = {count: msgspec.structs.replace(base, workers=count) for count in counts}
    times: dict[int, list[float]] = {count: [] for count in counts}
    for turn in range(arguments.rounds + 1):
        steps = {}
        for count in counts:
            seconds, groups = played(settings[count], pools[count], policy, arguments.groups)
            steps[count] = [sorted(t.steps for t in group.trajectories) for group in groups]
            if turn:  # the first round builds the environments
                times[count].append(seconds / arguments.groups)
        if steps[1] != steps[arguments.workers]:
            raise SystemExit("the groups differ between numbers of workers, so their times say nothing.")
    for pool in pools.values():
        pool.close()
    single, several = (median(times[count]) for count in counts)
    sys.stdout.write(
        "| workers | group of 8 [s] | ratio |\n|---|---|---|\n"
        f"| 1 | {single:.2f} | 1.0x |\n| {arguments.workers} | {several:.2f} | {single / several:.2f}x |\n"
    )


if __name__ == "__main__":
    main()
