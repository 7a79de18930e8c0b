"""Plays the same episodes through the nodes of the robot and through `tgrpo eval`, and compares them one by one.

    python benchmarks/robot_demo.py --states 0-19

Both sides run the shipped policy greedily on the same initial states; the scene waits for the policy, so that every
episode should end after the same number of steps on both.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tgrpo_ros.child import find_command


def episodes(path: Path) -> dict[int, dict[str, Any]]:
    """Initial state to its episode."""
    return {episode["init_state"]: episode for episode in json.loads(path.read_text(encoding="utf-8"))["episodes"]}


def main() -> int:
    """Runs both and prints the table; 1 if any pair differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", default="libero_object")
    parser.add_argument("--task", default="4")
    parser.add_argument("--states", default="0-19")
    parser.add_argument("--mode", default="fast", choices=["exact", "fast"])
    parser.add_argument("--port", default="5787")
    options = parser.parse_args()
    same = [f"{name}:={getattr(options, name)}" for name in ("suite", "task", "states", "mode", "port")]
    with tempfile.TemporaryDirectory() as folder:
        robot, evaluation = Path(folder, "robot.json"), Path(folder, "eval.json")
        launcher = Path(sys.executable).parent / "tgrpo-launch"
        begun = time.monotonic()
        subprocess.run([launcher, "tgrpo_ros", "demo.launch.py", *same, f"json:={robot}"], check=True)
        seconds = time.monotonic() - begun
        command = [
            find_command(),
            "eval",
            "--suite",
            options.suite,
            "--tasks",
            options.task,
            "--states",
            options.states,
        ]
        subprocess.run([*command, "--mode", options.mode, "--json", evaluation], check=True)
        pairs = [(state, one, episodes(evaluation)[state]) for state, one in sorted(episodes(robot).items())]
    print("| initial state | robot | steps | tgrpo eval | steps |\n|---|---|---|---|---|")
    outcome = {True: "success", False: "failure"}
    for state, ours, theirs in pairs:
        cells = [word for one in (ours, theirs) for word in (outcome[one["success"]], str(one["steps"]))]
        print(f"| {state} | {' | '.join(cells)} |")
    equal = sum((a["success"], a["steps"]) == (b["success"], b["steps"]) for _, a, b in pairs)
    print(f"\n{equal} of {len(pairs)} episodes are equal in outcome and steps; the robot's took {seconds:.0f} s.")
    return 0 if equal == len(pairs) else 1


if __name__ == "__main__":
    sys.exit(main())
