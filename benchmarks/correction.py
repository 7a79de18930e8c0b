"""What one session of corrections is worth: success on held-out initial states before it and after it.

    python -m benchmarks.correction --seeds 0 1 2
    python -m benchmarks.correction --seeds 0 1 2 --alone  # without nodes, to try settings quickly
    python -m benchmarks.correction --table                # only the table of the sessions that are there

Each seed is a session by the command that users run, with nodes, safety layer, recorder and learner: 30 episodes from
initial states 0 to 24, in which a scripted operator takes over through the teleoperation node. Then version 0 and the
last version play the initial states 25 to 49 greedily. A session that is finished is not repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from msgspec.structs import replace

from tgrpo.apprentice import ImitationSettings
from tgrpo.record.episode import load
from tgrpo.record.session import closed_episodes
from tgrpo.record.stats import mcnemar_exact, pooled_mcnemar
from tgrpo.record.steps import steps
from tgrpo.rewards import StageMachine, load_stages
from tgrpo.session import versions
from tgrpo.session.learn import LearnSettings
from tgrpo_ros.child import find_command

SESSIONS = {False: Path("runs/correction"), True: Path("runs/correction_alone")}
"""With and without nodes."""
PATIENCE, STAGES = 80, 0
"""A person who waits for 4 s without progress, and then finishes the task."""
MORE_TIME = 5.0
"""Longer than the standard protocol, so that a person who takes over late can finish [s]."""
LEARNER = ImitationSettings(learning_rate=1e-3, steps=25)
"""What the tiny policy takes; one that is larger wants less."""
TIME_LIMITS = {"libero_spatial": 11.0, "libero_object": 14.0, "libero_goal": 15.0}
"""Of the standard protocol [s]."""


def play(suite: str, task: int, seed: int, episodes: int, options: list[str] | None, demos: list[str]) -> None:
    """Plays the session, unless it is done; without nodes if there are no options for them."""
    folder = SESSIONS[options is None] / f"{suite}_{task}_{seed}"
    if (folder / "result.json").exists():
        return
    from sim.libero import task_names
    from sim.stock import suite_tasks

    folder.mkdir(parents=True, exist_ok=True)
    stages = StageMachine(load_stages(suite, task_names(suite)[task])).names
    planned = {
        "suite": suite,
        "task": task,
        "instruction": str(suite_tasks(suite)[task].language),
        "starts": np.random.default_rng(seed).permutation(25).tolist(),
        "time_limit": TIME_LIMITS[suite] + MORE_TIME,
        "stages": list(stages),
    }
    plan = {
        "name": f"{suite} {task}, seed {seed}",
        "purpose": "correct",
        "episodes": episodes,
        "policies": [{"name": "tiny", "checkpoint": "tiny-libero"}],
        "tasks": [planned],
        "seed": seed,
    }
    (folder / "plan.yaml").write_text(yaml.safe_dump(plan), encoding="utf-8")
    session = folder / "plan"
    if options is None:
        from benchmarks.correction_alone import play as play_alone

        settings = LearnSettings(session, demos=tuple(demos), imitation=replace(LEARNER, seed=seed))
        play_alone(folder / "plan.yaml", session, settings, PATIENCE, STAGES)
    else:
        learning = {"seed": seed, "learning-rate": LEARNER.learning_rate, "steps": LEARNER.steps}
        learn = " ".join(f"--imitation.{name}={value}" for name, value in learning.items())
        learn += "".join(f" --demos {Path(name).resolve()}" for name in demos)
        what = ("page:=0", f"learn_args:={learn}", f"patience_steps:={PATIENCE}", f"stages:={STAGES}", *options)
        command = [find_command(), "session", "correct", str(folder / "plan.yaml"), *what]
        # One number of threads for everything: nodes, scene and learner share the cores.
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    last = versions.current(session).version
    for name, version in (("before", 0), ("after", last)):
        evaluate(versions.folder_of(session, version), suite, task, folder / f"{name}.json")
    counts = [_interventions(load(path, cameras=())) for path in closed_episodes(session)]
    result = {"versions": last, "interventions": counts}
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")


def evaluate(checkpoint: Path, suite: str, task: int, out: Path) -> None:
    """Greedy success on held-out initial states."""
    what = ["--suite", suite, "--tasks", str(task), "--states", "25-49", "--mode", "fast", "--json", str(out)]
    subprocess.run([find_command(), "eval", str(checkpoint), *what], check=True)


def _interventions(episode: Any) -> dict[str, float]:
    """How often a person took over in an episode, and the share of its steps that they commanded."""
    taken = steps(episode).intervention
    begun = int((np.diff(taken.astype(int), prepend=0) == 1).sum())
    return {"times": begun, "share": float(taken.mean()) if len(taken) else 0.0}


def table(sessions: Path) -> None:
    """Prints what the finished sessions show, and all of one task pooled."""
    print("| task | seed | before | after | gained | lost | p | interventions in thirds | share of steps in thirds |")
    print("|---|---|---|---|---|---|---|---|---|")
    pooled: dict[str, list[tuple[int, int]]] = {}
    for file in sorted(sessions.glob("*/result.json")):
        result = json.loads(file.read_text(encoding="utf-8"))
        task, _, seed = file.parent.name.rpartition("_")
        before, after = (outcomes(file.parent / f"{name}.json") for name in ("before", "after"))
        gained = sum(after[state] and not before[state] for state in before)
        lost = sum(before[state] and not after[state] for state in before)
        pooled.setdefault(task, []).append((gained, lost))
        n, counts = len(before), result["interventions"]
        thirds = [" ".join(f"{x:.2f}" for x in _thirds([one[key] for one in counts])) for key in ("times", "share")]
        p = mcnemar_exact(gained, lost)
        print(
            f"| {task} | {seed} | {sum(before.values())}/{n} | {sum(after.values())}/{n} | {gained} | {lost} | {p:.2g} "
            f"| {thirds[0]} | {thirds[1]} |"
        )
    for task, found in pooled.items():
        print(f"\n{task}: pooled p = {pooled_mcnemar(found):.2g}")


def _thirds(values: list[float]) -> Iterable[float]:
    return (float(part.mean()) for part in np.array_split(np.array(values), 3))


def outcomes(path: Path) -> dict[int, bool]:
    """Success by initial state, of a file that `tgrpo eval` wrote."""
    episodes = json.loads(path.read_text(encoding="utf-8"))["episodes"]
    return {episode["init_state"]: bool(episode["success"]) for episode in episodes}


def main() -> int:
    """Plays what is asked for and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", default="libero_spatial", choices=sorted(TIME_LIMITS))
    parser.add_argument("--task", type=int, default=6)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--episodes", type=int, default=30)
    parser.add_argument("--demos", nargs="*", default=[], help="demonstrations that are taught beside the corrections")
    parser.add_argument("--options", nargs="*", default=[], help="launch arguments, as in port:=5760")
    parser.add_argument("--alone", action="store_true", help="without nodes, in this process")
    parser.add_argument("--table", action="store_true")
    chosen = parser.parse_args()
    for seed in () if chosen.table else chosen.seeds:
        play(chosen.suite, chosen.task, seed, chosen.episodes, None if chosen.alone else chosen.options, chosen.demos)
    table(SESSIONS[chosen.alone])
    return 0


if __name__ == "__main__":
    sys.exit(main())
