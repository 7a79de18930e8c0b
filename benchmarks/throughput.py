"""Control steps per second of whole rollouts, beside what the formulas of `docs/scale.md` predict from their parts.

    python -m benchmarks.throughput --workers 1 2

Two policies decide: the shipped one, with a copy in each worker, and one that takes the time of a 7B, behind the policy
server. The parts are measured in this process, as processor time, before and after the rollouts; the rollouts are what
training plays, with pictures and rewards. Time in which a worker could have run and another program had its core is
counted by the kernel; it is left out of the rate, and its share is in the table.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch

from benchmarks.capacity import Inputs, predict
from benchmarks.emulated import CHUNK, Emulated, served
from sim.libero import LiberoEnv, make
from sim.rollout import Unit
from sim.vector import WorkerPool, WorkerSettings
from tgrpo.policies import Policy, load, shipped
from tgrpo.rewards import load_stages
from tgrpo.rewards.machine import StageMachine

SUITE, TASK, GROUP = "libero_spatial", 2, 8
STEPS = 80
"""Step limit of a rollout, so that one takes about a second."""
MODEL_MS = (4.0, 6.0)
"""Time of a batch, and of each observation in it: a 7B on a new card."""


def units(groups: int) -> list[Unit]:
    """Groups of 8 rollouts, all different, that run to their ends."""
    start = Unit(suite=SUITE, task=TASK, init_states=(0,), temperature=0.5, max_steps=STEPS, execute=CHUNK)
    return [
        Unit(
            **{name: getattr(start, name) for name in start.__struct_fields__}
            | {"init_states": (group,), "seeds": tuple(range(GROUP * group, GROUP * (group + 1)))}
        )
        for group in range(groups)
    ]


def scripts(groups: int) -> dict[int, np.ndarray[tuple[int, int], np.dtype[np.float32]]]:
    """Actions ``(80, 7)`` by seed: small motions, as an arm makes them."""
    rng = np.random.default_rng(0)
    return {
        seed: np.repeat(rng.uniform(-0.5, 0.5, (STEPS // CHUNK, 7)), CHUNK, axis=0).astype(np.float32)
        for seed in range(GROUP * groups)
    }


def cost(act: Callable[[], object], times: int) -> float:
    """Processor time of this process for one call [s]: the median."""
    found = []
    for _ in range(times):
        started = time.process_time()
        act()
        found.append(time.process_time() - started)
    return median(found)


def parts(env: LiberoEnv, policy: Policy, batch: int) -> dict[str, float]:
    """Processor time of what a rollout consists of [s], by the names of :class:`benchmarks.capacity.Inputs`."""
    machine = StageMachine(load_stages(SUITE, env.name), None)
    rng = np.random.default_rng(1)
    env.reset(0)
    machine.reset(env.quantities())
    start = env.snapshot()

    def chunk() -> None:
        env.restore(start)
        for action in np.repeat(rng.uniform(-0.5, 0.5, (1, 7)), CHUNK, axis=0):
            env.step(action)
            machine.step(env.quantities())
        env.snapshot()

    def look() -> None:
        env.restore(start)
        env.observation()

    policy.reset(list(range(batch)))
    observations = [env.observation()] * batch
    decide = cost(lambda: policy.act(observations, temperature=0.5), 15) / batch
    return {
        "step": cost(chunk, 15) / CHUNK,
        "render": cost(look, 15),
        "send": decide,
        "start": cost(lambda: env.reset(1), 5),
    }


def measured(folder: Path) -> dict[str, float]:
    """The parts with a policy, in an environment of its own."""
    policy = load(folder)
    view = policy.spec.observation
    env = make(SUITE, TASK, "fast", view.cameras, view.size)
    try:
        return parts(env, policy, GROUP // 2)
    finally:
        env.close()


@contextlib.contextmanager
def emulated(batch_ms: float, item_ms: float, groups: int) -> Iterator[Path]:
    """Checkpoint folder of the emulated model behind its server."""
    with tempfile.TemporaryDirectory() as folder:
        model = Emulated(224, batch_ms, item_ms, scripts(groups))
        with served(model, Path(folder), GROUP) as checkpoint:
            yield checkpoint


def queued(pool: WorkerPool) -> float:
    """For how long a worker of a pool was ready to run and had no core, on average [s]; Linux counts it."""
    waits = [Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[1] for pid in pool.processes()]
    return float(np.mean([int(wait) for wait in waits])) / 1e9


@dataclass(frozen=True)
class Played:
    """What rollouts came to."""

    rate: float
    """Control steps per second in which the workers had their cores, the median of rounds."""
    wall_rate: float
    """The same by the clock on the wall."""
    length: float
    """Control steps of a rollout, on average."""


def played(workers: int, folder: Path, groups: int, rounds: int) -> Played:
    """Plays rounds of groups on some workers."""
    rates, wall_rates, length = [], [], 0.0
    with WorkerPool(workers, WorkerSettings()) as pool:
        pool.play(units(workers), folder)  # builds the scenes
        for _ in range(rounds):
            before, lost, started = pool.spent().simulated, queued(pool), time.monotonic()
            results = pool.play(units(groups), folder)
            steps, seconds, lost = pool.spent().simulated - before, time.monotonic() - started, queued(pool) - lost
            rates.append(steps / (seconds - lost))
            wall_rates.append(steps / seconds)
            length = float(np.mean([t.steps for result in results for t in result.trajectories]))
    return Played(median(rates), median(wall_rates), length)


def main() -> None:
    """Prints the table of ``benchmarks/README.md``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--groups", type=int, default=8, help="groups of 8 rollouts in a round")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("| policy | workers | w [ms] | predicted [steps/s] | measured [steps/s] | off by | on the wall [steps/s] |")
    print("|---|---|---|---|---|---|---|")
    with contextlib.ExitStack() as stack:
        quick = stack.enter_context(emulated(0.0, 0.0, arguments.groups))
        slow = stack.enter_context(emulated(*MODEL_MS, arguments.groups))
        tiny = shipped("tiny-libero")
        for name, folder, alike, model in (("tiny", tiny, tiny, (0.0, 0.0)), ("7B, emulated", slow, quick, MODEL_MS)):
            before = measured(alike)
            rows = [(n, played(n, folder, arguments.groups, arguments.rounds)) for n in arguments.workers]
            after = measured(alike)
            times = {part: (before[part] + after[part]) / 2 for part in before}
            print({part: f"{1e3 * value:.2f} ms" for part, value in times.items()}, file=sys.stderr, flush=True)
            for workers, found in rows:
                batch, item = (time_ms / 1e3 for time_ms in model)
                many = {"cores": workers, "cards": 1, "rollouts": GROUP * workers}
                node = Inputs(**many, **times, batch=batch, item=item, length=found.length)  # type: ignore[arg-type]
                said = predict(node) if sum(model) else workers * CHUNK / node.work  # no card decides for the small one
                print(
                    f"| {name} | {workers} | {1e3 * node.work:.1f} | {said:.0f} | {found.rate:.0f} | "
                    f"{said / found.rate - 1:+.0%} | {found.wall_rate:.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
