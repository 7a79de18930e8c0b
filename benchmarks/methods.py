"""Methods at equal environment steps: success on held-out initial states while the shipped policy learns.

    python -m benchmarks.methods --tasks libero_spatial:2 libero_object:0 --seeds 0 1 2 --methods tgrpo grpo-sparse
    python -m benchmarks.methods --own "mine=--learner.baseline gtpo --learner.gamma 0.95" --tasks libero_object:0
    python -m benchmarks.methods --table           # only tables and pictures of the runs that are there

Each run is `tgrpo train` with one setting changed, 16 iterations of 32 rollouts on one worker, so that as many runs as
there are cores go side by side. What came of it is kept in a small file in ``benchmarks/learning_curves``; a run that
has one is not repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from benchmarks.methods_plot import picture
from tgrpo.record.metrics import read_metrics
from tgrpo.record.stats import wilson
from tgrpo_ros.child import find_command

RUNS = Path("runs/methods")
RECORDS = Path(__file__).parent / "learning_curves"
PLAIN = "tgrpo"
ENOUGH = 3
"""Seeds of a method that is drawn."""
GRACE = ["--stop", "synchronised", "--grace", "1.3"]
HALF = ["--learner.a-step", "0.5", "--learner.a-traj", "0.5"]
REUSE = ["--iterations", "8", "--learner.epochs", "4", "--evaluate-every", "2"]
STAGE = ["--learner.baseline", "return_to_go_stage"]
SHORT = ["--patience", "100", "--iterations", "12"]
MEAN = ["--temperature", "1", "--mean-temperature", "1", "--patience", "100", "--iterations", "8"]
METHODS: dict[str, list[str]] = {
    PLAIN: [],
    "grpo-sparse": ["--learner.baseline", "grpo", "--learner.scalariser", "success"],
    "grpo": ["--learner.baseline", "grpo"],
    "tgrpo-sparse": ["--learner.scalariser", "success"],
    "stage": STAGE,
    "gtpo": ["--learner.baseline", "gtpo"],
    "gdpo": ["--learner.scalariser", "gdpo"],
    "step": ["--sampler", "step"],
    "accuracy": ["--sampler", "accuracy"],
    "replay": ["--replay", "success"],
    "restart": ["--collector", "restart"],
    "synchronised": ["--stop", "synchronised"],
    "grace": GRACE,
    "half-grace": [*HALF, *GRACE],
    "half-patience": [*HALF, *SHORT],
    "no-step-level": ["--learner.a-step", "0", "--learner.a-traj", "1"],
    "a1-0.1": ["--learner.a-step", "0.1", "--learner.a-traj", "0.9"],
    "a1-0.5": HALF,
    "a1-0.9": ["--learner.a-step", "0.9", "--learner.a-traj", "0.1"],
    "no-trajectory-level": ["--learner.a-step", "1", "--learner.a-traj", "0"],
    "groups-of-2": ["--group-size", "2", "--groups", "16"],
    "groups-of-4": ["--group-size", "4", "--groups", "8"],
    "groups-of-16": ["--group-size", "16", "--groups", "2"],
    "patience": SHORT,
    "mean": MEAN,
    "stage-patience": [*STAGE, *SHORT],
    "episode": ["--exploration", "episode"],
    "small": ["--groups", "2"],
    "reuse": REUSE,
    "grace-reuse": [*GRACE, *REUSE],
}
ABLATIONS = {name for name in METHODS if name.startswith(("a1-", "groups-of-", "no-"))}
"""Methods that take something away from TGRPO, or change its numbers: in a table and a picture of their own."""


@dataclass(frozen=True)
class Record:
    """What is kept of a run."""

    method: str
    suite: str
    task: int
    seed: int
    options: list[str]
    curve: list[tuple[int, int, int]]
    """Environment steps that training has simulated so far, also those of rollouts that were cut back afterwards, and
    greedy successes out of how many held-out initial states."""
    minutes: float
    """Of training, beside whatever else was running."""
    signal: float | None = None
    """Share of the groups that had something to compare; the first runs did not keep it."""

    def at(self, steps: float) -> float:
        """Successes when so many environment steps were spent, on straight lines between evaluations."""
        return float(np.interp(steps, [point[0] for point in self.curve], [point[1] for point in self.curve]))


Found: TypeAlias = dict[tuple[str, int], dict[str, list[Record]]]
"""Task to method to its runs, by seed."""


def run(method: str, options: list[str], suite: str, task: int, seed: int, iterations: int) -> None:
    """Trains once, unless that has been done."""
    name = f"{method}_{suite}_{task}_{seed}"
    if (RECORDS / f"{name}.json").exists():
        return
    folder = RUNS / name
    words = {"suite": suite, "task": task, "seed": seed, "iterations": iterations, "evaluate-every": 4, "workers": 1}
    fixed = [word for key, value in words.items() for word in (f"--{key}", str(value))]
    command = [find_command(), "train", *fixed, "--run-dir", str(folder), *options]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    rows = read_metrics(folder)
    minutes = summary["seconds"]["training"] / 60
    record = Record(method, suite, task, seed, options, curve(summary["before"], rows), minutes, signal(rows))
    RECORDS.mkdir(exist_ok=True)
    (RECORDS / f"{name}.json").write_text(json.dumps(asdict(record)) + "\n", encoding="utf-8")


def curve(before: dict[str, Any], rows: list[dict[str, Any]]) -> list[tuple[int, int, int]]:
    """Every evaluation of a run, with the environment steps before it."""
    found = [(row["simulated_steps"], row["eval"]) for row in rows if "eval" in row]
    return [(steps, result["successes"], result["n"]) for steps, result in [(0, before), *found]]


def signal(rows: list[dict[str, Any]]) -> float:
    """Share of a run's groups that had something to compare."""
    return 1.0 - sum(row["groups_skipped"] for row in rows) / sum(row["groups"] for row in rows)


def records() -> Found:
    """All that is kept."""
    found: Found = {}
    for file in sorted(RECORDS.glob("*.json")):
        record = Record(**json.loads(file.read_text(encoding="utf-8")))
        found.setdefault((record.suite, record.task), {}).setdefault(record.method, []).append(record)
    return found


def only(found: Found, names: set[str]) -> Found:
    """The tasks on which some of the methods were run, with these and plain TGRPO."""
    return {
        task: {method: runs for method, runs in methods.items() if method in {*names, PLAIN}}
        for task, methods in sorted(found.items())
        if names & methods.keys()
    }


def steps_to(runs: Sequence[Record], successes: float) -> float | None:
    """Environment steps at which the mean curve of some runs first has so many successes a run; None if never."""
    grid = np.linspace(0, min(record.curve[-1][0] for record in runs), 1000)
    mean = np.mean([[record.at(steps) for steps in grid] for record in runs], axis=0)
    reached = np.flatnonzero(mean >= successes)
    return float(grid[reached[0]]) if len(reached) else None


def share_of(plain: Sequence[Record], runs: Sequence[Record]) -> float | None:
    """Steps to what plain TGRPO comes to in the end, as a share of those it takes itself; None if never."""
    goal = float(np.mean([record.at(_end(plain)) for record in plain]))
    own, reference = steps_to(runs, goal), steps_to(plain, goal)
    return None if own is None or not reference else own / reference


def without_one(plain: Sequence[Record], runs: Sequence[Record]) -> str:
    """Smallest and largest :func:`share_of` when one of the seeds is left out of both: how much hangs on one run."""
    seeds = {record.seed for record in plain} & {record.seed for record in runs}
    if len(seeds) < ENOUGH:
        return ""
    kept = [[[r for r in of if r.seed != seed] for of in (plain, runs)] for seed in sorted(seeds)]
    shares = sorted(float("inf") if (s := share_of(*pair)) is None else s for pair in kept)
    return " to ".join("never" if share == float("inf") else f"{share:.2f}" for share in (shares[0], shares[-1]))


def table(found: Found) -> str:
    """Each task and method: success at equal steps, and the steps to what plain TGRPO comes to."""
    lines = [
        "| task | method | seeds | before | at equal steps | 95 % | each seed | steps to plain's end, of plain's "
        "| without one seed | groups with signal |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (suite, task), methods in found.items():
        plain = methods.get(PLAIN)
        for method, runs in sorted(methods.items(), key=lambda item: _place(item[0])):
            compared = [*runs, *(plain or [])]
            budget = min(record.curve[-1][0] for record in compared)
            reached = [record.at(budget) for record in runs]
            n = sum(record.curve[0][2] for record in runs)
            low, high = wilson(round(sum(reached)), n)
            share = share_of(plain, runs) if plain else None
            spread = without_one(plain, runs) if plain else ""
            lines.append(
                f"| {suite} {task} | {method} | {len(runs)} | {sum(r.curve[0][1] for r in runs) / n:.0%} "
                f"| {sum(reached) / n:.0%} at {budget / 1000:.0f}k | {low:.0%} to {high:.0%} "
                f"| {', '.join(f'{one:.0f}' for one in reached)} | {'never' if share is None else f'{share:.2f}'} "
                f"| {spread} | {_signal(runs)} |"
            )
    return "\n".join(lines)


def _place(method: str) -> int:
    """Where a method stands in the tables: the user's own come last."""
    return list(METHODS).index(method) if method in METHODS else len(METHODS)


def _signal(runs: Sequence[Record]) -> str:
    known = [record.signal for record in runs if record.signal is not None]
    return f"{np.mean(known):.0%}" if known else ""


def _end(runs: Sequence[Record]) -> int:
    return min(record.curve[-1][0] for record in runs)


def own(text: str) -> tuple[str, list[str]]:
    """A method of the user's from ``"NAME=OPTIONS"``."""
    name, equals, options = text.partition("=")
    if not equals or not name.isidentifier() or name in METHODS:
        raise argparse.ArgumentTypeError(f"{text!r}: write NAME=OPTIONS, with a NAME like my_method that is not taken.")
    return name, shlex.split(options)


def main() -> None:
    """Runs what the command line names, then prints the tables and draws the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="*", default=["libero_spatial:2"], help="SUITE:TASK")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=[PLAIN])
    parser.add_argument("--own", nargs="*", type=own, default=[], metavar="NAME=OPTIONS", help="of `tgrpo train`")
    parser.add_argument("--iterations", type=int, default=16)
    parser.add_argument("--table", action="store_true", help="only tables and pictures of what is there")
    chosen = parser.parse_args()
    if not chosen.table:
        for seed in chosen.seeds:
            for name in chosen.tasks:
                suite, _, task = name.partition(":")
                for method, options in (*((one, METHODS[one]) for one in chosen.methods), *chosen.own):
                    run(method, options, suite, int(task), seed, chosen.iterations)
    found = records()
    played = {method for methods in found.values() for method in methods}
    for name, methods in (("learning_curves", played - ABLATIONS), ("ablations", ABLATIONS)):
        part = only(found, methods)
        sys.stdout.write(table(part) + "\n\n")
        drawn = {f"{suite} {task}": enough for (suite, task), of in part.items() if (enough := _enough(of))}
        (RECORDS / f"{name}.svg").write_text(picture(drawn), encoding="utf-8")


def _enough(methods: Mapping[str, list[Record]]) -> dict[str, list[Record]]:
    """The methods with enough seeds to be drawn; none if plain TGRPO is the only one."""
    found = {name: runs for name, runs in methods.items() if len(runs) >= ENOUGH}
    return found if found.keys() - {PLAIN} else {}


if __name__ == "__main__":
    main()
