"""Rollout workers: processes that play units in parallel, and survive each other's death.

A unit's trajectories depend on the unit and the policy alone, so one that is lost with its worker is simply
played again: by a new process, with the same result.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any

import msgspec

from sim.libero import Mode
from sim.rollout import StopSignal, Unit, UnitResult
from sim.worker import Job, serve
from tgrpo.errors import SettingsError, TgrpoError, WorkerError
from tgrpo.settings import Strict

_log = logging.getLogger(__name__)

SLOTS = 4096
"""Most units of one batch that may stop together."""
START = 300.0
"""A new process may take this long until its first sign of life [s]."""


class WorkerSettings(Strict, frozen=True):
    """What holds for all workers of a pool."""

    mode: Mode = "fast"
    """``exact`` equals stock LIBERO, ``fast`` simplifies pictures."""
    timeout: Annotated[float, msgspec.Meta(gt=0)] = 300.0
    """A worker that gives no sign of life for this long is replaced [s]."""
    retries: Annotated[int, msgspec.Meta(ge=0)] = 2
    """How often a lost unit is played again before the run gives up."""


class CancelledRolloutsError(TgrpoError, RuntimeError):
    """Whoever asked for rollouts does not want them any more."""


@dataclass
class _Worker:
    process: SpawnProcess
    pipe: Connection
    beat: Any
    """Shared number: when the worker last gave a sign of life, on the machine's monotonic clock [s]."""
    unit: int | None = None
    """Index of the unit it is playing."""
    given: float = 0.0
    """When it was told to play that unit, on the same clock [s]."""

    def silence(self) -> float:
        """For how long nothing has been heard of it [s]."""
        return time.monotonic() - max(self.given, self.beat.value)


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
        self._size, self._settings = workers, settings
        self._context = multiprocessing.get_context("spawn")
        self._stops = self._context.RawArray("i", SLOTS)
        self._workers: list[_Worker] = []
        self._fill()

    def play(
        self,
        units: Sequence[Unit],
        policy: Path,
        progress: Callable[[UnitResult], None] = lambda result: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> list[UnitResult]:
        """Plays all units and returns their results in the same order.

        Args:
            units: What to play; those with the same ``group`` stop together.
            policy: Checkpoint folder; its name must change when its content does.
            progress: Called with each result as it comes in.
            cancelled: Asked about once a second whether to give up.

        Raises:
            CancelledRolloutsError: ``cancelled`` said so.
            WorkerError: A unit was lost more often than ``retries`` allow.
            TgrpoError: What a worker raised on purpose, for example an unknown task.
        """
        jobs = _jobs(units, policy)
        for job in jobs:
            self._stops[job.slot] = StopSignal.NEVER
        try:
            return self._play(jobs, progress, cancelled)
        finally:
            for worker in [worker for worker in self._workers if worker.unit is not None]:
                self._drop(worker)

    def _play(
        self, jobs: Sequence[Job], progress: Callable[[UnitResult], None], cancelled: Callable[[], bool]
    ) -> list[UnitResult]:
        results: dict[int, UnitResult] = {}
        waiting = list(range(len(jobs)))[::-1]
        lost = dict.fromkeys(waiting, 0)
        while len(results) < len(jobs):
            if cancelled():
                raise CancelledRolloutsError("the rollouts were cancelled.")
            self._fill()
            for worker in self._workers:
                if worker.unit is None and waiting:
                    _give(worker, waiting.pop(), jobs)
            for worker, index in self._busy(timeout=0.5):
                answer = self._receive(worker)
                if answer is None:
                    lost[index] += 1
                    self._mourn(worker, jobs[index].unit, lost[index])
                    waiting.append(index)
                    continue
                worker.unit = None
                if isinstance(answer, TgrpoError):
                    raise answer
                results[index] = answer
                progress(answer)
        return [results[index] for index in range(len(jobs))]

    def close(self) -> None:
        """Ends all processes."""
        for worker in self._workers:
            worker.pipe.close()
            if worker.unit is not None:
                worker.process.kill()
        for worker in self._workers:
            worker.process.join(5.0)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
        self._workers = []

    def processes(self) -> list[int]:
        """Process ids of the workers."""
        return [worker.process.pid for worker in self._workers if worker.process.pid is not None]

    def __enter__(self) -> WorkerPool:
        """Returns itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends all processes."""
        self.close()

    def _fill(self) -> None:
        while len(self._workers) < self._size:
            ours, theirs = self._context.Pipe()
            beat = self._context.RawValue("d", time.monotonic() + START)
            process = self._context.Process(target=serve, args=(theirs, self._settings.mode, self._stops, beat))
            process.daemon = True
            with _one_thread_each(), _uninterruptible():
                process.start()
            theirs.close()
            self._workers.append(_Worker(process, ours, beat))

    def _busy(self, timeout: float) -> Iterator[tuple[_Worker, int]]:
        """Workers that answered, died or fell silent, and the index of the unit each of them had."""
        busy = [(worker, worker.unit) for worker in self._workers if worker.unit is not None]
        handles: list[Any] = [handle for worker, _ in busy for handle in (worker.pipe, worker.process.sentinel)]
        signalled = wait(handles, timeout)
        for worker, index in busy:
            heard = worker.pipe in signalled or worker.process.sentinel in signalled
            if heard or worker.silence() > self._settings.timeout:
                yield worker, index

    def _receive(self, worker: _Worker) -> UnitResult | TgrpoError | None:
        """The worker's answer; None if it has none because it died or hangs."""
        # A worker that stops in the middle of an answer would otherwise block this process, too.
        guard = threading.Timer(self._settings.timeout, worker.process.kill)
        guard.start()
        try:
            answer: UnitResult | TgrpoError | None = worker.pipe.recv() if worker.pipe.poll() else None
        except (EOFError, OSError):
            return None
        finally:
            guard.cancel()
        return answer

    def _mourn(self, worker: _Worker, unit: Unit, lost: int) -> None:
        """Removes a worker that died or hangs.

        Raises:
            WorkerError: The unit was lost too often.
        """
        hung = worker.process.is_alive() and worker.silence() > self._settings.timeout
        self._drop(worker)
        code = worker.process.exitcode
        what = f"gave no sign of life for {self._settings.timeout:.0f} s" if hung else f"died (exit code {code})"
        message = f"a rollout worker {what} in {unit.suite} task {unit.task} init state {unit.init_state}"
        if lost > self._settings.retries:
            raise WorkerError(
                f"{message}, {lost} times. Out of memory? Try fewer workers; "
                "what is saved can be continued with --resume."
            )
        _log.warning("%s; it is replaced and the rollouts are played again", message)

    def _drop(self, worker: _Worker) -> None:
        worker.process.kill()
        worker.process.join()
        worker.pipe.close()
        self._workers.remove(worker)


def _jobs(units: Sequence[Unit], policy: Path) -> list[Job]:
    members: dict[int, list[int]] = {}
    for slot, unit in enumerate(units):
        if unit.group is not None:
            members.setdefault(unit.group, []).append(slot)
    if members and len(units) > SLOTS:
        raise SettingsError(f"{len(units)} units in one batch; at most {SLOTS} may stop together. Use fewer groups.")
    together = {slot: tuple(slots) for slots in members.values() for slot in slots}
    return [Job(unit, str(policy), slot % SLOTS, together.get(slot)) for slot, unit in enumerate(units)]


def _give(worker: _Worker, index: int, jobs: Sequence[Job]) -> None:
    worker.unit, worker.given = index, time.monotonic()
    try:
        worker.pipe.send(jobs[index])
    except (BrokenPipeError, ConnectionResetError):
        _log.debug("worker %s is gone; it is replaced when its silence is noticed", worker.process.pid)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Children inherit one thread for each numeric library: workers share the cores already."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    saved = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in saved.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _uninterruptible() -> Iterator[None]:
    """Children inherit that Ctrl-C, which a terminal sends to all processes at once, does not concern them."""
    resource_tracker.ensure_running()  # it would end the blocking
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
