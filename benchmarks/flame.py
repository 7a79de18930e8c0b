"""Flame graphs of rollouts, the peers' way and ours, down to the functions of MuJoCo and of the renderer.

    pip install py-spy
    python -m benchmarks.flame

Writes `docs/images/flame_peer.svg` and `flame_ours.svg`. Theirs is one environment process, which plays one rollout of
a group of 8; ours is one worker, which plays all 8 with the shipped policy. Building scenes is in neither.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

SUITE, TASK, GROUP, CHUNK, SIZE = "libero_spatial", 2, 8, 8, 224
FOLDER = Path(__file__).resolve().parents[1] / "docs" / "images"
SETTLE = 2.0
"""Time that the profiler takes to attach [s]."""
TITLES = {
    "peer": "The peers' way: one rollout of libero_spatial, 224 px, rendered at every step",
    "ours": "Ours: a group of 8 rollouts of libero_spatial, decided by the shipped policy",
}


def peer(steps: int) -> Callable[[], object]:
    """One environment process of the peers."""
    from benchmarks.peer import REST
    from benchmarks.peer import SETTLE as RESTS
    from benchmarks.sim_speed import stock_env
    from sim import stock

    env = stock_env(SUITE, ("agentview",), SIZE, TASK)
    state = stock.init_states(SUITE, TASK)[0]
    actions = np.random.default_rng(0).uniform(-0.5, 0.5, (steps, 7))

    def play() -> None:
        env.reset()
        env.set_init_state(state)
        for action in [REST] * RESTS + list(actions):
            env.step(action)

    return play


def ours(steps: int) -> Callable[[], object]:
    """One worker of ours."""
    import torch

    from sim.libero import make
    from sim.rollout import Unit
    from sim.rollout import play as play_unit
    from tgrpo.policies import load, shipped
    from tgrpo.rewards import load_stages

    torch.set_num_threads(1)
    policy = load(shipped("tiny-libero"))
    view = policy.spec.observation
    env = make(SUITE, TASK, "fast", view.cameras, view.size)
    stages = load_stages(SUITE, env.name)
    unit = Unit(
        suite=SUITE,
        task=TASK,
        init_states=(0,),
        seeds=tuple(range(GROUP)),
        temperature=0.5,
        max_steps=steps,
        execute=CHUNK,
    )
    play_unit(env, policy, unit, stages=stages)  # the first pictures send meshes to the renderer
    return lambda: play_unit(env, policy, unit, stages=stages)


def profile(way: str, steps: int, rate: int) -> None:
    """Writes the graph of one way."""
    profiler = shutil.which("py-spy", path=str(Path(sys.executable).parent)) or shutil.which("py-spy")
    if profiler is None:
        raise SystemExit("py-spy is not installed: pip install py-spy")
    graph = FOLDER / f"flame_{way}.svg"
    command = [sys.executable, "-m", "benchmarks.flame", "--play", way, "--steps", str(steps)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as player:
        if player.stdin is None or player.stdout is None:
            raise SystemExit("the player has no pipes.")
        said = iter(player.stdout)
        while next(said, "ready\n") != "ready\n":
            pass
        recorded = [profiler, "record", "--native", "--rate", str(rate), "--pid", str(player.pid), "--duration", "600"]
        with subprocess.Popen([*recorded, "--function", "--output", str(graph)]) as recorder:
            time.sleep(SETTLE)
            player.stdin.write("go\n")
            player.stdin.flush()
            took = next(said, "it failed").strip()
            recorder.wait(120)
    # Its title would be the command line, with the paths of this machine.
    graph.write_text(re.sub(">[^<]*py-spy record[^<]*<", f">{TITLES[way]}<", graph.read_text("utf-8")), "utf-8")
    print(f"{TITLES[way]}: {took}")


def main() -> None:
    """Profiles both ways, or plays one of them to be profiled."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=80, help="step limit of a rollout")
    parser.add_argument("--rate", type=int, default=25, help="samples in a second")
    parser.add_argument("--play", choices=tuple(TITLES), help="only play one way")
    arguments = parser.parse_args()
    if arguments.play is None:
        for way in TITLES:
            profile(way, arguments.steps, arguments.rate)
        return
    play = {"peer": peer, "ours": ours}[arguments.play](arguments.steps)
    print("ready", flush=True)
    sys.stdin.readline()
    started = time.process_time()
    play()
    print(f"{time.process_time() - started:.2f} s of processor time", flush=True)
    os._exit(0)  # taking down the interpreter is not part of it


if __name__ == "__main__":
    main()
