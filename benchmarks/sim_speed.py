"""Simulator speed beside stock LIBERO, in one run on one core.

Stock renders at every control step; ours when the policy is asked, every ``CHUNK`` steps. The three take turns in short
blocks, and CPU time is counted, so that other load on the machine hits them alike.

Run: ``OMP_NUM_THREADS=1 python benchmarks/sim_speed.py [--blocks 5]``
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sim import libero, stock

CHUNK = 8
SUITES = ("libero_spatial", "libero_object")
SETUPS: tuple[tuple[tuple[str, ...], int], ...] = ((("agentview",), 224), (("agentview", "robot0_eye_in_hand"), 128))


def stock_env(suite: str, cameras: tuple[str, ...], size: int, task: int = 0) -> Any:
    """Returns LIBERO's own environment, reset by its own protocol."""
    with contextlib.redirect_stdout(io.StringIO()):
        from libero.libero.envs import OffScreenRenderEnv

        env = OffScreenRenderEnv(
            bddl_file_name=stock.bddl_file(suite, task),
            camera_names=list(cameras),
            camera_heights=size,
            camera_widths=size,
        )
        env.seed(0)
        env.reset()
        env.set_init_state(stock.init_states(suite, task)[0])
    return env


def cpu_ms(function: Callable[[], object]) -> float:
    """Returns the CPU time of one call [ms]."""
    start = time.process_time()
    function()
    return (time.process_time() - start) * 1e3


def chunk_of(env: Any, actions: np.ndarray[Any, Any], render: bool) -> Callable[[], None]:
    """Returns a function that executes one chunk and, for ours, renders once."""

    def run() -> None:
        for action in actions:
            env.step(action)
        if render:
            env.render()

    return run


def measure(suite: str, cameras: tuple[str, ...], size: int, blocks: int) -> dict[str, float]:
    """Returns medians over blocks: CPU time of a control step with pictures [ms] and the ratios to stock."""
    envs: dict[str, Any] = {"stock": stock_env(suite, cameras, size)}
    for mode in ("exact", "fast"):
        envs[mode] = libero.make(suite, 0, mode=mode, cameras=cameras, size=size)  # type: ignore[arg-type]
        envs[mode].reset(0)
    rng = np.random.default_rng(0)
    actions = [np.r_[rng.uniform(-1, 1, 3), np.zeros(3), -1.0] for _ in range(CHUNK)]
    times: dict[str, list[float]] = {name: [] for name in envs}
    for block in range(blocks + 1):
        for name, env in envs.items():
            if name == "stock":  # robosuite draws into whatever OpenGL context is current
                env.sim._render_context_offscreen.gl_ctx.make_current()
            elapsed = cpu_ms(chunk_of(env, np.array(actions), name != "stock")) / CHUNK
            if block:
                times[name].append(elapsed)
    row = {name: statistics.median(values) for name, values in times.items()}
    for mode in ("exact", "fast"):
        row[f"{mode} ratio"] = statistics.median(a / b for a, b in zip(times["stock"], times[mode], strict=True))
    fast = envs["fast"]
    snapshot = fast.snapshot()
    row["restart"] = statistics.median(cpu_ms(lambda: fast.restore(snapshot)) for _ in range(20))
    row["render"] = statistics.median(cpu_ms(fast.render) for _ in range(20))
    row["quantities"] = statistics.median(cpu_ms(fast.quantities) for _ in range(20))
    envs["stock"].close()
    for mode in ("exact", "fast"):
        envs[mode].close()
    return row


def main() -> None:
    """Prints the table of ``benchmarks/README.md``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=5, help="chunks measured for each environment")
    blocks = parser.parse_args().blocks
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    columns = ("stock", "exact", "exact ratio", "fast", "fast ratio", "render", "restart", "quantities")
    write("| suite | pictures | " + " | ".join(columns) + " |")
    write("|---|---|" + "---|" * len(columns))
    for suite in SUITES:
        for cameras, size in SETUPS:
            row = measure(suite, cameras, size, blocks)
            cells = [f"{row[name]:.1f}x" if "ratio" in name else f"{row[name]:.2f}" for name in columns]
            write(f"| {suite} | {len(cameras)} x {size} px | " + " | ".join(cells) + " |")


def write(line: str) -> None:
    """Writes a line of the table at once: the next one takes a minute."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
