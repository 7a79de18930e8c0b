"""The stage rewards of all 40 tasks, audited: `python -m benchmarks.stage_audit --suites libero_spatial libero_object`.

For each task expert, chance and the shipped policy play from a few initial states, as in `tgrpo reward audit`. A task
that is done is not repeated; `--table` only prints what is there.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec

from sim import reward
from sim.libero import task_names
from sim.reward import RewardCommand
from sim.stock import SUITES
from tgrpo.record import files
from tgrpo.rewards import load_stages
from tgrpo.rewards.audit import Verdict

RUNS = Path("runs/stage_audit")


def table() -> str:
    """What has been audited, as Markdown."""
    lines = [
        "| task | rollouts | successes | initial states at most | success states at least | rank correlation | audit |",
        "|---|---|---|---|---|---|---|",
    ]
    passed = 0
    for suite in SUITES[:4]:
        for file in sorted(RUNS.glob(f"{suite}_[0-9].json")):
            found = msgspec.json.decode(file.read_bytes(), type=Verdict)
            passed += not found.problems
            measured = (found.start, found.end, found.correlation)
            numbers = " | ".join("none" if number is None else f"{number:.2f}" for number in measured)
            judged = "; ".join(found.problems) or "passed"
            lines.append(f"| {file.stem} | {found.rollouts} | {found.successes} | {numbers} | {judged} |")
    return "\n".join([*lines, "", f"{passed} of {len(lines) - 2} pass."])


def main() -> int:
    """Audits what is asked for and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suites", nargs="+", default=SUITES[:4], choices=SUITES[:4])
    parser.add_argument("--states", default="0-1")
    parser.add_argument("--table", action="store_true")
    chosen = parser.parse_args()
    for suite in () if chosen.table else chosen.suites:
        for task, name in enumerate(task_names(suite)):
            out = RUNS / f"{suite}_{task}.json"
            if not out.exists():
                command = RewardCommand("audit", str(task), suite=suite, states=chosen.states)
                verdict = reward.audited(command, task, load_stages(suite, name))
                files.write_json(out, msgspec.to_builtins(verdict))
                sys.stderr.write(reward.describe(name, verdict) + "\n")
    sys.stdout.write(table() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
