"""Rollout workers: processes that play units in parallel, and survive each other's death.

A rollout depends on its unit and the policy alone, so one that is lost with its worker is simply played again: by a new
process, with the same result. For the same reason a worker that is idle may take over half of what another one plays.
"""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any

import msgspec

from sim.ledger import Ledger, Quarantined, Task
from sim.libero import Mode
from sim.pool import CancelledRolloutsError, Progress
from sim.rollout import Part, Spent, StopSignal, Unit, UnitResult, whole
from sim.worker import SCENE, SILENT, Answer, Crash, Job, Pulse, Report, serve
from tgrpo.errors import SettingsError, TgrpoError
from tgrpo.settings import Strict

_log = logging.getLogger(__name__)

SLOTS = 4096
"""Most rollouts of one batch that may stop together."""


class WorkerSettings(Strict, frozen=True):
    """What holds for all workers of a pool."""

    mode: Mode = "fast"
    """``exact`` equals stock LIBERO, ``fast`` simplifies pictures."""
    scene: tuple[str, int] | None = None
    """Suite and task of most rollouts. A process prepares it once for all workers of its first pool."""
    timeout: Annotated[float, msgspec.Meta(gt=0)] = 300.0
    """A worker that gives no sign of life for this long is replaced [s]."""
    retries: Annotated[int, msgspec.Meta(ge=0)] = 2
    """How often a rollout that was lost alone is played again before it is left out."""
    quarantine: Annotated[int, msgspec.Meta(ge=0)] = 8
    """Most rollouts of a batch that may be left out before the run gives up."""


@dataclass
class _Worker:
    process: ForkServerProcess
    pipe: Connection
    pulse: Pulse
    task: Task | None = None
    """What it is playing."""
    given: float = 0.0
    """When it was told to, on the machine's monotonic clock [s]."""
    scene: tuple[str, int] | None = None
    """Suite and task of the environment that it has."""
    awake: float = field(default_factory=time.monotonic)
    """When it was last seen not to be stopped, while it may be silent [s]."""

    def silence(self) -> float:
        """For how long nothing has been heard of it [s]; while it may be silent, for how long it has been stopped."""
        now = time.monotonic()
        if self.pulse.beat <= now:
            return now - max(self.given, self.pulse.beat)
        if not _stopped(self.process.pid):
            self.awake = now
        return now - self.awake


class WorkerPool:
    """A few processes that each hold an environment and a copy of the policy.

    Attributes:
        size: Number of processes.
        quarantined: Rollouts that were left out so far, because they were lost whenever they were tried.
        lost: Rollouts that were lost so far, and played again or left out.

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
        self.size, self._settings = workers, settings
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["sim.preload"])
        self._stops = self._context.RawArray("i", SLOTS)
        self._workers: list[_Worker] = []
        self._past = Spent()
        self.quarantined: list[Quarantined] = []
        self.lost = 0
        with _told(settings):
            self._fill()

    def play(
        self,
        work: Sequence[Unit | Part],
        policy: Path,
        progress: Progress = lambda result: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> list[UnitResult]:
        """Plays all units and returns their results in the same order; see :meth:`sim.pool.Pool.play`.

        Raises:
            CancelledRolloutsError: ``cancelled`` said so.
            WorkerError: More rollouts than ``quarantine`` allows were lost more often than ``retries`` allows.
            TgrpoError: What a worker raised on purpose, for example an unknown task.
        """
        jobs = _jobs(work, policy)
        for slot in {slot for job in jobs for slot in job.together or ()}:
            self._stops[slot] = StopSignal.NEVER
        try:
            return self._play(Ledger(jobs, self._settings.retries, self._settings.quarantine), progress, cancelled)
        finally:
            for worker in [worker for worker in self._workers if worker.task is not None]:
                self._drop(worker)

    def spent(self) -> Spent:
        """What all workers together have simulated and inferred so far, lost rollouts too."""
        pulses = [worker.pulse for worker in self._workers]
        return Spent(
            self._past.simulated + sum(pulse.simulated for pulse in pulses),
            self._past.inferred + sum(pulse.inferred for pulse in pulses),
        )

    def _play(self, ledger: Ledger, progress: Progress, cancelled: Callable[[], bool]) -> list[UnitResult]:
        while not ledger.done:
            if cancelled():
                raise CancelledRolloutsError("the rollouts were cancelled.")
            self._fill()
            for worker in [worker for worker in self._workers if worker.task is None]:
                if ledger.waiting:
                    _give(worker, ledger.waiting.pop())
                else:
                    self._find_help(worker)
            for worker, task in self._busy(timeout=0.5):
                self._book(ledger, worker, task, progress)
        return ledger.results()

    def _book(self, ledger: Ledger, worker: _Worker, task: Task, progress: Progress) -> None:
        """Books what a worker says, or that it is gone."""
        answer = self._receive(worker)
        if isinstance(answer, Part):
            ledger.waiting.append(task.take(answer))
            return
        if isinstance(answer, Report):
            task.advance(answer.part)
            return
        worker.task = None
        if answer is None:
            self._lose(ledger, task, self._mourn(worker))
        elif isinstance(answer, Crash):
            self._lose(ledger, task, answer.cause)
        elif isinstance(answer, TgrpoError):
            raise answer
        else:
            ledger.deliver(task, answer)
            progress(answer)

    def _lose(self, ledger: Ledger, task: Task, cause: str) -> None:
        """Books a loss."""
        unit, rows = task.unit, task.job.part.rows
        self.lost += len(rows)
        states = sorted({unit.start(row) for row in rows})
        _log.warning(
            "%s task %d init states %s: %s; what was lost is played again", unit.suite, unit.task, states, cause
        )
        out = ledger.lose(task, cause)
        self.quarantined += out
        for rollout in out:
            _log.error("left out: %s", rollout)

    def _find_help(self, idle: _Worker) -> None:
        """Asks the worker that has most to do in the same scene to give half of it away."""
        busy = [w for w in self._workers if w.task is not None and w.scene == idle.scene and w.pulse.running > 1]
        if busy:
            max(busy, key=lambda worker: worker.pulse.running).pulse.asked = 1

    def close(self) -> None:
        """Ends all processes."""
        for worker in self._workers:
            worker.pipe.close()
            if worker.task is not None:
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
        while len(self._workers) < self.size:
            ours, theirs = self._context.Pipe()
            pulse = self._context.RawValue(Pulse, time.monotonic() + SILENT)
            process = self._context.Process(target=serve, args=(theirs, self._settings.mode, self._stops, pulse))
            process.daemon = True
            with _one_thread_each(), _uninterruptible():
                process.start()
            theirs.close()
            self._workers.append(_Worker(process, ours, pulse))

    def _busy(self, timeout: float) -> Iterator[tuple[_Worker, Task]]:
        """Workers that answered, died or fell silent, and what each of them was playing."""
        busy = [(worker, worker.task) for worker in self._workers if worker.task is not None]
        handles: list[Any] = [handle for worker, _ in busy for handle in (worker.pipe, worker.process.sentinel)]
        signalled = wait(handles, timeout)
        for worker, task in busy:
            heard = worker.pipe in signalled or worker.process.sentinel in signalled
            if heard or worker.silence() > self._settings.timeout:
                yield worker, task

    def _receive(self, worker: _Worker) -> Answer | None:
        """The worker's answer; None if it has none because it died or hangs."""
        # A worker that stops in the middle of an answer would otherwise block this process, too.
        guard = threading.Timer(self._settings.timeout, worker.process.kill)
        guard.start()
        try:
            answer: Answer | None = worker.pipe.recv() if worker.pipe.poll() else None
        except (EOFError, OSError):
            return None
        finally:
            guard.cancel()
        return answer

    def _mourn(self, worker: _Worker) -> str:
        """Removes a worker that died or hangs; returns what happened to it."""
        hung = worker.process.is_alive() and worker.silence() > self._settings.timeout
        self._drop(worker)
        if hung:
            return f"a rollout worker gave no sign of life for {self._settings.timeout:g} s and is replaced"
        return f"a rollout worker died (exit code {worker.process.exitcode}) and is replaced"

    def _drop(self, worker: _Worker) -> None:
        worker.process.kill()
        worker.process.join()
        worker.pipe.close()
        self._workers.remove(worker)
        self._past.simulated += worker.pulse.simulated
        self._past.inferred += worker.pulse.inferred


def _jobs(work: Sequence[Unit | Part], policy: Path) -> list[Job]:
    parts = [one if isinstance(one, Part) else whole(one) for one in work]
    firsts = [0, *itertools.accumulate(len(part.unit.seeds) for part in parts)]
    members: dict[int, list[int]] = {}
    for part, first in zip(parts, firsts, strict=False):
        if part.unit.group is not None:
            members.setdefault(part.unit.group, []).extend(range(first, first + len(part.unit.seeds)))
    if members and firsts[-1] > SLOTS:
        raise SettingsError(f"{firsts[-1]} rollouts in one batch; at most {SLOTS} may stop together. Use fewer groups.")
    groups = {group: tuple(slots) for group, slots in members.items()}
    return [
        Job(part, str(policy), first, None if part.unit.group is None else groups[part.unit.group])
        for part, first in zip(parts, firsts, strict=False)
    ]


def _stopped(pid: int | None) -> bool:
    """Whether a process is frozen by a signal, so that it cannot even start."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state in ("T", "t")


def _give(worker: _Worker, task: Task) -> None:
    unit = task.job.part.unit
    worker.task, worker.given, worker.scene = task, time.monotonic(), (unit.suite, unit.task)
    worker.pulse.running = worker.pulse.asked = 0
    try:
        worker.pipe.send(task.job)
    except (BrokenPipeError, ConnectionResetError):
        _log.debug("worker %s is gone; it is replaced when its silence is noticed", worker.process.pid)


@contextmanager
def _told(settings: WorkerSettings) -> Iterator[None]:
    """The process that workers are forked from, if it starts here, hears which scene they will play."""
    if settings.scene is not None:
        os.environ[SCENE] = msgspec.json.encode((*settings.scene, settings.mode)).decode()
    try:
        yield
    finally:
        os.environ.pop(SCENE, None)


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
