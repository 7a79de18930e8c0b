"""Ablations of the training recipe: each variant on some tasks over seeds, by the command that users run.

    python benchmarks/recipe.py --tasks 4 --seeds 0 1 2 --variants default no-step no-trajectory
    python benchmarks/recipe.py --table            # only the table of the runs that are there

A run that is finished is not repeated. Success is greedy, on held-out initial states, before and after.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tgrpo.record.stats import pooled_mcnemar

RUNS = Path("runs/recipe")
VARIANTS: dict[str, list[str]] = {
    "default": [],
    "no-step": ["--learner.a-step", "0", "--learner.a-traj", "1"],
    "no-trajectory": ["--learner.a-step", "1", "--learner.a-traj", "0"],
    "synchronised-stop": ["--stop", "synchronised"],
    "temperature-1": ["--temperature", "1.0"],
    "temperature-1.6": ["--temperature", "1.6"],
    "learning-rate-1e-4": ["--learner.learning-rate", "1e-4"],
    "full-weights": ["--learner.adapter", "full", "--learner.learning-rate", "3e-5"],
    "chunk-noise": ["--exploration", "chunk", "--temperature", "0.2"],
}


def run(variant: str, suite: str, task: int, seed: int) -> None:
    """Trains once, unless that has been done."""
    folder = RUNS / f"{variant}_{suite}_{task}_{seed}"
    if (folder / "summary.json").exists():
        return
    program = Path(sys.executable).parent / "tgrpo"
    what = ["--suite", suite, "--task", str(task), "--seed", str(seed), "--run-dir", str(folder)]
    # Success on the way is nice to watch but changes nothing.
    subprocess.run([str(program), "train", *what, "--evaluate-every", "0", *VARIANTS[variant]], check=True)


def rows() -> Iterable[dict[str, Any]]:
    """One row for each variant and task, pooled over the seeds."""
    found: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
    for file in sorted(RUNS.glob("*/summary.json")):
        summary = json.loads(file.read_text(encoding="utf-8"))
        if summary["finished"]:
            variant = file.parent.name.removesuffix(f"_{summary['suite']}_{summary['task']}_{summary['seed']}")
            found.setdefault((variant, summary["suite"], summary["task"]), []).append(summary)
    for (variant, suite, task), summaries in sorted(found.items()):
        yield {
            "variant": variant,
            "task": f"{suite} {task}",
            "seeds": len(summaries),
            "before": _rate(summaries, "before"),
            "after": _rate(summaries, "after"),
            "each": ", ".join(f"{s['after']['successes']}/{s['after']['n']}" for s in summaries),
            "p": pooled_mcnemar([(s["gained"], s["lost"]) for s in summaries]),
            "minutes": sum(s["seconds"]["training"] for s in summaries) / len(summaries) / 60,
        }


def _rate(summaries: list[dict[str, Any]], when: str) -> float:
    return sum(s[when]["successes"] for s in summaries) / sum(s[when]["n"] for s in summaries)


def table() -> str:
    """The rows as Markdown."""
    lines = [
        "| variant | task | seeds | before | after | after, each seed | pooled McNemar p | training [min] |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['variant']} | {r['task']} | {r['seeds']} | {r['before']:.0%} | {r['after']:.0%} | {r['each']} "
        f"| {r['p']:.2g} | {r['minutes']:.1f} |"
        for r in rows()
    ]
    return "\n".join(lines)


def main() -> None:
    """Runs what the command line names, then prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", default="libero_object")
    parser.add_argument("--tasks", type=int, nargs="*", default=[0])
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--variants", nargs="*", choices=VARIANTS, default=["default"])
    parser.add_argument("--table", action="store_true", help="only print the table")
    arguments = parser.parse_args()
    if not arguments.table:
        for variant in arguments.variants:
            for task in arguments.tasks:
                for seed in arguments.seeds:
                    run(variant, arguments.suite, task, seed)
    sys.stdout.write(table() + "\n")


if __name__ == "__main__":
    main()
