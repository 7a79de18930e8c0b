"""One group of 8 rollouts: the peers' way of stepping LIBERO beside ours, in one run, with the same model and actions.

    python -m benchmarks.peer_rollouts --suites libero_spatial libero_object

Half of the rollouts play the scripted expert's actions and succeed, the others never close the gripper and run to the
step limit. Where all of the peer's decisions are played, both ways must end with the same successes. The peers' way is
written in `benchmarks/peer.py`; ours is `WorkerPool` with the emulated model behind the policy server. What both keep
from one group to the next (processes, environments) is not counted; what they do anew (reset, settling) is.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from benchmarks.emulated import CHUNK, Emulated, chunk, served
from benchmarks.peer import PeerVector
from sim import stock
from sim.expert.search import search
from sim.libero import MAX_STEPS, Mode, make
from sim.rollout import Unit
from sim.vector import WorkerPool, WorkerSettings

SIZE = 224
GROUP = 8
STATE = 1


def scripts(suite: str, task: int) -> dict[int, NDArray[np.float32]]:
    """Actions ``(T, 7)`` of each rollout by its seed: every second one succeeds."""
    env = make(suite, task, "exact", (), SIZE)
    env.reset(STATE)
    *_, attempt = search(env)
    env.close()
    good = np.asarray(attempt.executed, np.float32)
    bad = good.copy()
    bad[:, -1] = -1.0
    return {seed: bad if seed % 2 else good for seed in range(GROUP)}


def peer_group(vector: PeerVector, model: Emulated, suite: str, task: int, most: int) -> tuple[float, list[bool], int]:
    """The peers' way; returns wall time [s], who succeeded, and control steps.

    Args:
        vector: Its environments.
        model: Takes its time for all of them.
        suite: LIBERO suite.
        task: Index of the task.
        most: Decisions to measure; the time of those that are left is that of the measured ones.
    """
    decisions = -(-MAX_STEPS[suite] // CHUNK)
    started = time.monotonic()
    vector.reset(stock.init_states(suite, task)[STATE])
    begun = time.monotonic()
    if not most:
        return begun - started, [], 0
    succeeded = np.zeros(GROUP, bool)
    steps = 0
    for number in range(min(most, decisions)):
        model.wait(GROUP)
        chunks = [chunk(model.scripts[seed], number) for seed in range(GROUP)]
        for place in range(min(CHUNK, MAX_STEPS[suite] - number * CHUNK)):
            _, done = vector.step([actions[place] for actions in chunks])
            succeeded |= done
            steps += GROUP
    played = time.monotonic() - begun
    scale = MAX_STEPS[suite] * GROUP / steps
    return begun - started + played * scale, succeeded.tolist(), steps


def our_group(
    pool: WorkerPool, folder: Path, suite: str, task: int, workers: int
) -> tuple[float, list[bool], int, int]:
    """Ours; returns wall time [s], who succeeded, control steps and observations of the trajectories."""
    units = [
        Unit(suite=suite, task=task, init_states=(STATE,), seeds=tuple(range(GROUP))[part::workers], rewards=False)
        for part in range(workers)
    ]
    started = time.monotonic()
    results = pool.play(units, folder)
    seconds = time.monotonic() - started
    found = {
        result.unit.seeds[row]: trajectory
        for result in results
        for row, trajectory in zip(result.rows, result.trajectories, strict=True)
    }
    ordered = [found[seed] for seed in range(GROUP)]
    steps, decisions = sum(t.steps for t in ordered), sum(len(t.executed) for t in ordered)
    return seconds, [t.success for t in ordered], steps, decisions


def measure(suite: str, arguments: argparse.Namespace) -> None:
    """Prints the rows of one suite."""
    plans = scripts(suite, arguments.task)
    model = Emulated(SIZE, *arguments.model_ms, plans)
    modes: tuple[Mode, ...] = ("exact", "fast")
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(served(model, Path(stack.enter_context(tempfile.TemporaryDirectory())), GROUP))
        times: dict[str, float] = {}
        outcomes: dict[str, list[bool]] = {}
        shares: dict[str, tuple[float, float]] = {}
        for mode in modes:
            with WorkerPool(arguments.workers, WorkerSettings(mode=mode)) as pool:
                runs = []
                for turn in range(arguments.rounds + 1):
                    before = pool.spent()
                    seconds, outcomes[mode], steps, decisions = our_group(
                        pool, folder, suite, arguments.task, arguments.workers
                    )
                    after = pool.spent()
                    if turn:  # the first one builds the environments
                        runs.append(seconds)
                shares[mode] = (
                    steps / (after.simulated - before.simulated),
                    decisions / (after.inferred - before.inferred),
                )
                times[mode] = median(runs)
                print(f"{suite} {mode}: {runs} s", file=sys.stderr, flush=True)
        vector = PeerVector(GROUP, suite, arguments.task, SIZE)
        stack.callback(vector.close)
        peer_group(vector, model, suite, arguments.task, 0)  # starts the processes
        peer, outcomes["peer"], steps = peer_group(
            vector, model, suite, arguments.task, arguments.peer_decisions or 999
        )
    whole = steps == MAX_STEPS[suite] * GROUP
    if outcomes["exact"] != outcomes["fast"] or (whole and outcomes["exact"] != outcomes["peer"]):
        raise SystemExit(f"the ways differ in who succeeds, so their times say nothing: {outcomes}")
    for mode in modes:
        useful = " / ".join(f"{share:.0%}" for share in shares[mode])
        print(
            f"| {suite} | {mode} | {sum(outcomes[mode])}/{GROUP} | {peer:.1f}{'' if whole else ' (from a part)'} | "
            f"{times[mode]:.2f} | {peer / times[mode]:.1f}x | {useful} |",
            flush=True,
        )


def main() -> None:
    """Prints the table of ``benchmarks/README.md``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suites", nargs="+", default=["libero_spatial", "libero_object"])
    parser.add_argument("--task", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3, help="groups of ours that are measured")
    parser.add_argument("--model-ms", type=float, nargs=2, default=(4.0, 6.0), help="time of a batch, and of each item")
    parser.add_argument("--peer-decisions", type=int, default=0, help="measure so many of the peer's; 0 measures all")
    arguments = parser.parse_args()
    print("| suite | ours | succeeded | peer's way [s] | ours [s] | ratio | useful steps / observations |")
    print("|---|---|---|---|---|---|---|")
    for suite in arguments.suites:
        measure(suite, arguments)


if __name__ == "__main__":
    main()
