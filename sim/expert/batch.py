"""Demonstrations of many tasks and initial states, made by worker processes."""

from __future__ import annotations

import gc
import itertools
import multiprocessing
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import NamedTuple

from sim.expert.collect import collect
from sim.expert.noise import NoiseSettings
from sim.libero import LiberoEnv, Mode, make
from tgrpo.errors import WorkerError
from tgrpo.record.demo_file import Demonstration

_AHEAD = 4
"""Units per worker that are queued; more would only hold finished pictures in memory."""


class Unit(NamedTuple):
    """One demonstration to make."""

    task: int
    init_state: int
    seed: int


class Recipe(NamedTuple):
    """What all demonstrations of a batch share."""

    suite: str
    mode: Mode
    cameras: tuple[str, ...]
    size: int
    every: int
    noise: NoiseSettings
    fixtures: int


_environment: LiberoEnv | None = None
"""The environment of the worker's last unit; building one takes seconds."""


def make_one(recipe: Recipe, unit: Unit) -> Demonstration | None:
    """Makes one demonstration; the environment is kept for the next unit of the same task."""
    global _environment
    key = (recipe.suite, unit.task, recipe.mode, recipe.cameras, recipe.size)
    env = _environment
    if env is None or (env.suite, env.task, env.mode, env.cameras, env.size) != key:
        if env is not None:
            env.close()
            # LIBERO's objects refer to each other; without this each task leaves 400 MB behind.
            env = _environment = None
            gc.collect()
        env = _environment = make(recipe.suite, unit.task, recipe.mode, recipe.cameras, recipe.size)
    return collect(env, unit.init_state, unit.seed, recipe.noise, every=recipe.every, fixtures=recipe.fixtures)


def make_all(recipe: Recipe, units: Iterable[Unit], workers: int) -> Iterator[tuple[Unit, Demonstration | None]]:
    """Makes demonstrations in spawned processes and yields them as they get ready.

    Args:
        recipe: What they share.
        units: What to make; units of one task should follow each other.
        workers: Number of processes; 1 works in this process.

    Yields:
        Each unit with its demonstration, or None where the expert failed.

    Raises:
        WorkerError: A worker process died.
    """
    todo = iter(units)
    if workers == 1:
        for unit in todo:
            yield unit, make_one(recipe, unit)
        return
    running: dict[Future[Demonstration | None], Unit] = {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        try:
            while True:
                for waiting in itertools.islice(todo, workers * _AHEAD - len(running)):
                    running[pool.submit(make_one, recipe, waiting)] = waiting
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), future.result()
        except BrokenProcessPool as error:
            raise WorkerError(
                "a process that made demonstrations died, most often for lack of memory. What was finished is "
                "saved; run the same command again, with fewer --workers."
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
