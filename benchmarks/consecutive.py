"""TGRPO from one arm's episodes, one after another, against the simulator's parallel groups, at equal episodes.

    python -m benchmarks.consecutive --seeds 0 1 2
    python -m benchmarks.consecutive --table        # only the table of what is there

Both start from the shipped policy. The arm plays a session's plan, 4 episodes in a row from each initial state, and
what was recorded of each four is learned from as `tgrpo learn --method tgrpo` does: between episodes, with a fifth of
the telling groups held out as the gate of new versions. `tgrpo train` has whole batches from several initial states at
once, and what the simulator knows of progress. Then each plays the initial states 25 to 49 greedily.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
from msgspec.structs import replace

from benchmarks import session_alone
from benchmarks.correction import TIME_LIMITS, evaluate, outcomes
from benchmarks.session_alone import record, scene
from sim.libero import LiberoEnv
from sim.robot import stages
from sim.settings import PRESETS
from sim.stock import suite_tasks
from tgrpo.apprentice import ImitationSettings
from tgrpo.policies.base import Policy
from tgrpo.record.recorder import EpisodeRecorder
from tgrpo.record.streams import Action, PolicyReply, PolicyRequest, Stage, now
from tgrpo.rewards import StageMachine
from tgrpo.session import versions
from tgrpo.session.learn import Comparer, LearnSettings
from tgrpo.session.plan import Plan, PlannedPolicy, PlannedTask, Slot
from tgrpo.types import ActionChunk
from tgrpo_ros.child import find_command

RUNS = Path("runs/consecutive")
GROUP = 4
FAST = PRESETS["fast"]
POLICY = "tiny-libero"


def parallel(folder: Path, suite: str, task: int, seed: int, episodes: int) -> None:
    """Groups of the simulator, by the command and the settings that users start with."""
    iterations = episodes // (FAST.groups * FAST.group_size)
    words = {"suite": suite, "task": task, "seed": seed, "iterations": iterations, "evaluate-every": 0, "workers": 1}
    options = [word for name, value in words.items() for word in (f"--{name}", str(value))]
    subprocess.run([find_command(), "train", *options, "--run-dir", str(folder)], check=True)


def consecutive(folder: Path, suite: str, task: int, seed: int, episodes: int) -> None:
    """One arm's session."""
    env = scene(suite, task, POLICY)
    machine = stages(env)
    if machine is None:
        raise SystemExit(f"task {task} of {suite} has no stages, and so no labels.")
    planned = PlannedTask(
        instruction=str(suite_tasks(suite)[task].language),
        suite=suite,
        task=task,
        starts=tuple(np.random.default_rng(seed).permutation(25).tolist()),
        time_limit=TIME_LIMITS[suite],
        stages=machine.names,
    )
    plan = Plan(
        policies=(PlannedPolicy(name="tiny", checkpoint=POLICY),),
        tasks=(planned,),
        episodes=episodes,
        purpose="collect",
        group=GROUP,
        temperature=FAST.temperature,
        seed=seed,
    )
    settings = LearnSettings(
        folder, method="tgrpo", temperature=FAST.temperature, imitation=replace(ImitationSettings(), seed=seed)
    )
    session_alone.play(plan, folder, env, lambda policy: Comparer(policy, settings), partial(_roll, env, machine))
    env.close()


def _roll(
    env: LiberoEnv, machine: StageMachine, player: Policy, slot: Slot, recorder: EpisodeRecorder, limit: int
) -> bool:
    """One episode, recorded as far as a group needs it; returns whether the task was completed."""
    player.reset([slot.number])
    machine.reset(env.quantities())
    chunk, index, request, stage = np.zeros((0, 7), np.float32), 0, -1, 0
    for step in range(limit):
        if index == len(chunk):
            observation = env.observation()
            record(recorder, observation)
            decided = player.act([observation], temperature=FAST.temperature)[0]
            chunk, index, request = decided.actions, 0, request + 1
            _reply(recorder, decided, request, step, observation.instruction)
        action = chunk[index].astype(np.float64)
        done = Action(
            at=now(), step=step, source="policy", executed=action.tolist(), policy=action.tolist(), request=request,
            index=index,
        )  # fmt: skip
        recorder.put(done)
        index += 1
        success = env.step(action)
        reached = machine.step(env.quantities()).stage
        if reached != stage:
            stage = reached
            recorder.put(Stage(at=now(), stage=stage))
        if success:
            return True
    return False


def _reply(recorder: EpisodeRecorder, chunk: ActionChunk, request: int, step: int, instruction: str) -> None:
    assert chunk.tokens is not None  # noqa: S101  (the shipped policy has them)
    assert chunk.log_probs is not None  # noqa: S101
    recorder.put(PolicyRequest(at=now(), request=request, step=step, instruction=instruction))
    recorder.put(
        PolicyReply(
            at=now(),
            request=request,
            policy="tiny",
            version="",
            latency=0.0,
            actions=chunk.actions.tolist(),
            tokens=chunk.tokens.tolist(),
            log_probs=chunk.log_probs.tolist(),
        )
    )


def play(suite: str, task: int, seed: int, episodes: int) -> None:
    """Both ways with one seed, unless they are done."""
    folder = RUNS / f"{suite}_{task}_{seed}"
    if not (folder / "parallel" / "eval_after.json").exists():
        parallel(folder / "parallel", suite, task, seed, episodes)
    if not (folder / "consecutive.json").exists():
        session = folder / "session"
        consecutive(session, suite, task, seed, episodes)
        evaluate(
            versions.folder_of(session, versions.current(session).version), suite, task, folder / "consecutive.json"
        )


def table() -> None:
    """Prints successes on held-out initial states, and what the gains come to."""
    print("| task | seed | before | parallel groups | one arm | versions |\n|---|---|---|---|---|---|")
    gains: list[tuple[int, int]] = []
    for file in sorted(RUNS.glob("*/consecutive.json")):
        task, _, seed = file.parent.name.rpartition("_")
        paths = (file.parent / "parallel" / "eval_before.json", file.parent / "parallel" / "eval_after.json", file)
        before, by_groups, by_arm = (list(outcomes(path).values()) for path in paths)
        made = versions.current(file.parent / "session").version
        scores = [f"{sum(one)}/{len(one)}" for one in (before, by_groups, by_arm)]
        print(f"| {task} | {seed} | {' | '.join(scores)} | {made} |")
        gains.append((sum(by_groups) - sum(before), sum(by_arm) - sum(before)))
    groups, arm = (sum(one) for one in zip(*gains, strict=True))
    print(f"\ngained: {groups} by parallel groups, {arm} by one arm, {arm / groups:.2f} of it")


def main() -> int:
    """Plays what is asked for and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", default="libero_spatial", choices=sorted(TIME_LIMITS))
    parser.add_argument("--task", type=int, default=2)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--episodes", type=int, default=256)
    parser.add_argument("--table", action="store_true")
    chosen = parser.parse_args()
    for seed in () if chosen.table else chosen.seeds:
        play(chosen.suite, chosen.task, seed, chosen.episodes)
    table()
    return 0


if __name__ == "__main__":
    sys.exit(main())
