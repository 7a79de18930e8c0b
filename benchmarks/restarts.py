"""Whether rollouts do better from where the best failed one got to: `tgrpo train --collector restart`, before training.

    python -m benchmarks.restarts --tasks libero_spatial:6 libero_object:6

From each of 50 initial states the shipped policy plays 4 drafts, sampling as in training. Where all of them fail it
plays 4 rollouts from where the best draft completed its last stage, and 4 with other seeds from the initial state. The
states are compared in pairs, by a one-sided sign test.
"""

from __future__ import annotations

import argparse
import sys

from scipy.stats import binomtest

from benchmarks.patience import sampled
from sim.collecting import Collected, collect
from sim.settings import TrainSettings
from sim.vector import WorkerPool, WorkerSettings
from tgrpo.policies import shipped
from tgrpo.types import RolloutGroup

SIZE = 4
HEAD = (
    "| task | states without a successful draft, restarted | successes from there | from the initial state | "
    "states better, worse | p | steps of a restarted rollout, of a fresh one |\n|---|---|---|---|---|---|---|"
)


def successes(groups: list[RolloutGroup]) -> list[int]:
    """Successful rollouts of each group."""
    return [sum(rollout.success for rollout in group.trajectories) for group in groups]


def length(groups: list[RolloutGroup]) -> float:
    """Mean control steps of a rollout."""
    rollouts = [rollout for group in groups for rollout in group.trajectories]
    return sum(rollout.steps for rollout in rollouts) / max(len(rollouts), 1)


def row(task: str, restarted: list[Collected], fresh: list[Collected]) -> str:
    """One line of the table."""
    pairs = [
        (one.groups[0], other.first)
        for one, other in zip(restarted, fresh, strict=True)
        if one.groups[0].trajectories is not one.first.trajectories
    ]
    again, anew = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    differences = [a - b for a, b in zip(successes(again), successes(anew), strict=True)]
    better, worse = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    p = binomtest(better, better + worse, alternative="greater").pvalue if better + worse else 1.0
    hopeless = sum(not any(rollout.success for rollout in one.first.trajectories) for one in restarted)
    total = SIZE * len(pairs)
    return (
        f"| {task} | {hopeless}, {len(pairs)} of {len(restarted)} | {sum(successes(again))} of {total} | "
        f"{sum(successes(anew))} of {total} | {better}, {worse} | {p:.2g} | {length(again):.0f}, {length(anew):.0f} |"
    )


def main() -> None:
    """Plays and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="*", default=["libero_spatial:6"], help="SUITE:TASK")
    parser.add_argument("--states", type=int, default=50)
    parser.add_argument("--workers", type=int, default=2)
    chosen, settings = parser.parse_args(), TrainSettings()
    sys.stdout.write(HEAD + "\n")
    for name in chosen.tasks:
        suite, _, task = name.partition(":")
        drafts, anew = (
            sampled(suite, int(task), range(chosen.states), range(first, first + SIZE), settings) for first in (0, 1000)
        )
        policy = shipped(settings.policy)
        with WorkerPool(chosen.workers, WorkerSettings(mode=settings.mode, scene=(suite, int(task)))) as pool:
            restarted = collect(drafts, pool, policy, lambda _: None, "restart")
            fresh = collect(anew, pool, policy, lambda _: None)
        sys.stdout.write(row(f"{suite} {task}", restarted, fresh) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
