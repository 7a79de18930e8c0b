"""Rollout workers: processes that play units in parallel, and survive each other's death.

A unit's trajectories depend on the unit and the policy alone, so one that is lost with its worker is simply
played again: by a new process, with the same result.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from multiprocessing.sharedctypes import SynchronizedArray
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any

import msgspec

from sim.libero import LiberoEnv, Mode, make
from sim.rollout import Stop, StopSignal, Unit, UnitResult, play
from tgrpo.errors import TgrpoError, WorkerError
from tgrpo.policies import Policy, load
from tgrpo.rewards import StageMachine, load_stages
from tgrpo.settings import Strict

_log = logging.getLogger(__name__)

GROUPS = 1024
"""Most groups of one batch: slots of the shared stop signal."""


class WorkerSettings(Strict, frozen=True):
    """What every worker needs to know before its first unit."""

    mode: Mode = "fast"
    """``exact`` equals stock LIBERO, ``fast`` simplifies pictures."""
    stop: Stop = "synchronised"
    """Whether a group stops together at its first success."""
    rewards: bool = True
    """Whether stage rewards are computed."""
    timeout: Annotated[float, msgspec.Meta(gt=0)] = 300.0
    """A worker that takes longer for one unit is replaced [s]."""
    retries: Annotated[int, msgspec.Meta(ge=0)] = 2
    """How often a lost unit is played again before the run gives up."""


class _SharedStop(StopSignal):
    """One slot of an array in shared memory."""

    def __init__(self, slots: SynchronizedArray[int], group: int) -> None:
        self._slots, self._group = slots, group

    def get(self) -> int:
        return self._slots[self._group]

    def lower(self, step: int) -> None:
        with self._slots.get_lock():
            self._slots[self._group] = min(self._slots[self._group], step)


@dataclass
class _Worker:
    process: SpawnProcess
    pipe: Connection
    unit: int | None = None
    """Index of the unit it is playing."""
    started: float = 0.0


class WorkerPool:
    """A few processes that each hold an environment and a copy of the policy.

    Example:
        >>> with WorkerPool(2, WorkerSettings()) as pool:  # doctest: +SKIP
        ...     results = pool.play(units, policy_folder)
    """

    def __init__(self, workers: int, settings: WorkerSettings) -> None:
        """Starts the processes.

        Args:
            workers: How many; one for each core is best.
            settings: What each of them does.
        """
        self._settings = settings
        self._context = multiprocessing.get_context("spawn")
        self._stops: SynchronizedArray[int] = self._context.Array("i", GROUPS)
        self._workers = [self._start() for _ in range(workers)]

    def play(
        self, units: Sequence[Unit], policy: Path, progress: Callable[[UnitResult], None] | None = None
    ) -> list[UnitResult]:
        """Plays all units and returns their results in the same order.

        Args:
            units: What to play; units with the same ``group`` stop together if the settings say so.
            policy: Checkpoint folder; its name must change when its content does.
            progress: Called with each result as it comes in.

        Raises:
            WorkerError: A unit was lost more often than ``retries`` allow.
            TgrpoError: What a worker raised on purpose, for example an unknown task.
        """
        for unit in units:
            self._stops[unit.group] = unit.max_steps or 2**30
        results: list[UnitResult | None] = [None] * len(units)
        waiting = list(range(len(units)))[::-1]
        lost = dict.fromkeys(waiting, 0)
        while any(result is None for result in results):
            for worker in self._workers:
                if worker.unit is None and waiting:
                    self._give(worker, waiting.pop(), units, policy)
            for worker in self._ready():
                index = worker.unit
                if index is None:
                    continue
                answer = self._receive(worker)
                if answer is None:
                    lost[index] += 1
                    self._replace(worker, units[index], lost[index])
                    waiting.append(index)
                    continue
                if isinstance(answer, Exception):
                    raise answer
                results[index] = answer
                if progress is not None:
                    progress(answer)
        return [result for result in results if result is not None]

    def close(self) -> None:
        """Ends all processes."""
        for worker in self._workers:
            worker.pipe.close()
        for worker in self._workers:
            worker.process.join(2.0)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
        self._workers = []

    def __enter__(self) -> WorkerPool:
        """Returns itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends all processes."""
        self.close()

    def _start(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs, self._settings, self._stops), daemon=True)
        with _one_thread_each():
            process.start()
        theirs.close()
        return _Worker(process, ours)

    def _give(self, worker: _Worker, index: int, units: Sequence[Unit], policy: Path) -> None:
        worker.unit, worker.started = index, time.monotonic()
        try:
            worker.pipe.send((units[index], str(policy)))
        except (BrokenPipeError, ConnectionResetError):
            _log.debug("worker %s is gone; it is replaced when its silence is noticed", worker.process.pid)

    def _ready(self) -> Iterable[_Worker]:
        """Workers that answered, died or are overdue."""
        handles: list[Any] = [handle for w in self._workers for handle in (w.pipe, w.process.sentinel)]
        signalled = wait(handles, timeout=1.0)
        now = time.monotonic()
        return [
            w
            for w in self._workers
            if w.pipe in signalled or w.process.sentinel in signalled or now - w.started > self._settings.timeout
        ]

    def _receive(self, worker: _Worker) -> UnitResult | Exception | None:
        """The worker's answer; None if it has none because it died or hangs."""
        try:
            if worker.pipe.poll():
                answer: UnitResult | Exception = worker.pipe.recv()
                worker.unit = None
                return answer
        except (EOFError, ConnectionResetError):
            return None
        return None

    def _replace(self, worker: _Worker, unit: Unit, lost: int) -> None:
        hung = worker.process.is_alive()
        worker.process.kill()
        worker.process.join()
        what = f"hung for {self._settings.timeout:.0f} s" if hung else f"died (exit code {worker.process.exitcode})"
        message = f"a rollout worker {what} in {unit.suite} task {unit.task} init state {unit.init_state}"
        if lost > self._settings.retries:
            raise WorkerError(
                f"{message}, {lost} times. Out of memory? Try fewer workers; "
                "what is saved can be continued with --resume."
            )
        _log.warning("%s; it is replaced and the rollouts are played again", message)
        worker.pipe.close()
        fresh = self._start()
        worker.process, worker.pipe, worker.unit = fresh.process, fresh.pipe, None


class _one_thread_each:  # noqa: N801  (a context manager, read as a phrase)
    """Children inherit one thread for each numeric library: workers share the cores already."""

    _NAMES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

    def __enter__(self) -> None:
        self._saved = {name: os.environ.get(name) for name in self._NAMES}
        os.environ.update(dict.fromkeys(self._NAMES, "1"))

    def __exit__(self, *_: object) -> None:
        for name, value in self._saved.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


class _Stage:
    """What a worker keeps between units: its environment, its policy, its stage machine."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._policy: tuple[str, Policy] | None = None
        self._env: tuple[tuple[str, int], LiberoEnv, Callable[[], StageMachine] | None] | None = None

    def policy(self, folder: str) -> Policy:
        if self._policy is None or self._policy[0] != folder:
            self._policy = (folder, load(folder))
        return self._policy[1]

    def env(self, unit: Unit, policy: Policy) -> tuple[LiberoEnv, Callable[[], StageMachine] | None]:
        key = (unit.suite, unit.task)
        if self._env is None or self._env[0] != key:
            if self._env is not None:
                self._env[1].close()
            view = policy.spec.observation
            env = make(unit.suite, unit.task, self._settings.mode, view.cameras, view.size)
            machine = partial(StageMachine, load_stages(unit.suite, env.name)) if self._settings.rewards else None
            self._env = (key, env, machine)
        return self._env[1], self._env[2]


def _serve(pipe: Connection, settings: WorkerSettings, stops: SynchronizedArray[int]) -> None:
    """A worker's life: units in, results out, until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import torch

    torch.set_num_threads(1)
    stage = _Stage(settings)
    while True:
        try:
            unit, folder = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            policy = stage.policy(folder)
            env, machine = stage.env(unit, policy)
            stop = _SharedStop(stops, unit.group) if settings.stop == "synchronised" else None
            answer: UnitResult | Exception = play(env, policy, unit, machine=machine, stop=stop)
        except TgrpoError as error:
            answer = error
        except Exception as error:  # noqa: BLE001  (whatever it is, the parent must hear of it)
            answer = WorkerError(f"{type(error).__name__} in a rollout worker: {error}")
        pipe.send(answer)
