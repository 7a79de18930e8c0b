"""Rollouts on all machines of a Ray cluster, which may come and go.

One actor on each machine holds a pool of workers, which replaces those that die or hang; see :mod:`sim.vector`. This
side gives each machine its share of a batch, and what a lost machine had to others, under the same seeds. Ray restarts
and retries nothing, as it would not notice a machine that hangs and might play twice.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from sim.cluster.connect import ClusterSettings, join
from sim.cluster.node import Account, Delivery, Hello, Node
from sim.cluster.versions import Shelf, Version
from sim.ledger import Ledger, Quarantined, Task
from sim.pool import CancelledRolloutsError, Progress
from sim.rollout import Part, Spent, Unit, UnitResult, whole
from sim.vector import WorkerSettings
from sim.worker import SILENT, Job
from tgrpo import __version__
from tgrpo.errors import SettingsError, WorkerError

_log = logging.getLogger(__name__)

THREADS = 3
"""Of an actor: one plays, the others answer."""
NOTHING = Account(Spent(), 0)


@dataclass
class _Machine:
    """One machine of the cluster, as seen from here."""

    name: str
    """Of its node in Ray."""
    workers: int
    actor: Any
    asked: Any
    """Its answer to the last question, which is a sign of life."""
    heard: float
    """When it gave the last one, on this machine's monotonic clock [s]."""
    pid: int | None = None
    """Process of its actor; None until it has started."""
    account: Account = NOTHING
    playing: Any = None
    """What it will answer when it has played its tasks."""
    tasks: tuple[Task, ...] = ()
    cause: str = "it gave no sign of life"
    """Why it is lost, if it is."""

    def obituary(self) -> tuple[str, str]:
        """Its name and why it is lost, in a line."""
        return self.name[:8], self.cause.splitlines()[-1]


class RayPool:
    """The workers of all machines of a cluster; see :class:`sim.pool.Pool`.

    Attributes:
        quarantined: Rollouts that were left out so far.

    Example:
        >>> with RayPool(ClusterSettings(address="10.0.0.1:6379", host="10.0.0.1"), WorkerSettings()) as pool:
        ...     results = pool.play(units, policy_folder)  # doctest: +SKIP
    """

    def __init__(self, cluster: ClusterSettings, settings: WorkerSettings) -> None:
        """Joins the cluster and waits until all of its machines have started their workers.

        Raises:
            SettingsError: The token is not safe, or a machine has another version of this package.
            WorkerError: The cluster does not answer, or has no machine with a core.
        """
        self._ray = join(cluster)
        self._cluster, self._settings = cluster, settings
        self._shelf = Shelf(self._ray.put)
        self._machines: list[_Machine] = []
        self._past = NOTHING
        self.quarantined: list[Quarantined] = []
        try:
            self._discover()
            if not self._machines:
                raise WorkerError("no machine of the Ray cluster has a free core. Add one with 'tgrpo cluster --join'.")
            while any(machine.pid is None for machine in self._machines):
                self._listen()
                self._give_up()
                time.sleep(0.1)
        except BaseException:
            self.close()
            raise

    @property
    def size(self) -> int:
        """Workers of all machines."""
        return sum(machine.workers for machine in self._machines)

    @property
    def lost(self) -> int:
        """Rollouts that were lost so far, with a worker or with a machine."""
        return self._past.lost + sum(machine.account.lost for machine in self._machines)

    def spent(self) -> Spent:
        """What all machines have simulated and inferred so far; of lost machines, what they had said."""
        return _sum([self._past.spent, *(machine.account.spent for machine in self._machines)])

    def machines(self) -> dict[str, int]:
        """Process ids of the actors by the name of their node."""
        return {machine.name: machine.pid for machine in self._machines if machine.pid is not None}

    def play(
        self,
        work: Sequence[Unit | Part],
        policy: Path,
        progress: Progress = lambda result: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> list[UnitResult]:
        """Plays all units and returns their results in the same order; see :meth:`sim.pool.Pool.play`.

        Machines that have joined the cluster meanwhile take part. A group whose units are on several machines does not
        hear of a success elsewhere, so its rollouts have to be cut back afterwards.
        """
        version = self._shelf.version(policy)
        parts = [one if isinstance(one, Part) else whole(one) for one in work]
        jobs = [Job(part, version.name, 0, None) for part in parts]
        ledger = Ledger(jobs, self._settings.retries, self._settings.quarantine)
        self._discover()
        try:
            while not ledger.done:
                if cancelled():
                    raise CancelledRolloutsError("the rollouts were cancelled.")
                self._hand_out(ledger, version)
                self._collect(ledger, version, progress)
                for task in self._give_up():
                    self.quarantined += ledger.lose(task, "its machine was lost")
            return ledger.results()
        finally:
            self._recall()

    def close(self) -> None:
        """Ends the actors, and leaves the cluster; one that was started for this run ends, too."""
        for machine in self._machines:
            with contextlib.suppress(Exception):  # it may be gone
                self._ray.kill(machine.actor)
        self._machines = []
        self._ray.shutdown()

    def __enter__(self) -> RayPool:
        """Returns itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leaves the cluster."""
        self.close()

    def _discover(self) -> None:
        """Starts an actor on each machine that has none; those with graphics cards only if there are no others."""
        alive = {node["NodeID"]: node["Resources"] for node in self._ray.nodes() if node["Alive"]}
        able = {name: has for name, has in alive.items() if has.get("CPU", 0) >= 1}
        able = {name: has for name, has in able.items() if not has.get("GPU")} or able
        for name in able.keys() - {machine.name for machine in self._machines}:
            cores = int(able[name]["CPU"])
            self._machines.append(self._start(name, min(self._cluster.workers or cores, cores)))

    def _start(self, name: str, workers: int) -> _Machine:
        kind = self._ray.remote(max_restarts=0, max_task_retries=0, max_concurrency=THREADS)(Node)
        actor = kind.options(num_cpus=workers, scheduling_strategy=self._on(name)).remote(
            workers, self._settings, self._ray.get
        )
        # Starting may take long, and is no silence.
        return _Machine(name, workers, actor, actor.hello.remote(), time.monotonic() + SILENT)

    def _on(self, name: str) -> Any:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        return NodeAffinitySchedulingStrategy(name, soft=False)

    def _hand_out(self, ledger: Ledger, version: Version) -> None:
        """Divides what waits over the machines that have nothing to do; neighbours stay together, as groups are."""
        idle = [machine for machine in self._machines if machine.pid is not None and machine.playing is None]
        workers = sum(machine.workers for machine in idle)
        for machine in idle:
            count = -(-len(ledger.waiting) * machine.workers // workers)
            workers -= machine.workers
            if count:
                machine.tasks = tuple(ledger.waiting.pop() for _ in range(count))
                parts = [task.job.part for task in machine.tasks]
                machine.playing = machine.actor.play.remote(version, parts)

    def _collect(self, ledger: Ledger, version: Version, progress: Progress) -> None:
        """Books what has been played."""
        self._listen()
        playing = [machine.playing for machine in self._machines if machine.playing is not None]
        if not playing:
            time.sleep(0.1)
            return
        done, _ = self._ray.wait(playing, timeout=0.5)
        for machine in [machine for machine in self._machines if machine.playing in done]:
            with self._surviving(machine):
                # Arrays of the object store cannot be written to, unlike those of other pools.
                delivery: Delivery = copy.deepcopy(self._ray.get(machine.playing))
                tasks, machine.tasks, machine.playing = machine.tasks, (), None
                machine.account, machine.heard = delivery.account, time.monotonic()
                self._book(ledger, tasks, delivery, version, progress)

    def _book(
        self, ledger: Ledger, tasks: Sequence[Task], delivery: Delivery, version: Version, progress: Progress
    ) -> None:
        if delivery.error is not None:
            raise delivery.error
        if delivery.version != version.name:
            raise WorkerError(f"rollouts of the weights {delivery.version} came instead of {version.name}.")
        causes = {(out.suite, out.task, out.init_state, out.seed): out for out in delivery.quarantined}
        for task, result in zip(tasks, delivery.results, strict=True):
            ledger.deliver(task, result)
            progress(result)
            missing = task.job.part.without(result.rows)
            for row in missing.rows:
                unit = task.unit
                found = causes[unit.suite, unit.task, unit.start(row), unit.seeds[row]]
                self.quarantined += ledger.leave_out(task.take(Part(unit, (row,))), found.cause)

    def _listen(self) -> None:
        """Asks all machines for a sign of life, and takes what has come of the last questions."""
        for machine in list(self._machines):
            if not self._ray.wait([machine.asked], timeout=0)[0]:
                continue
            with self._surviving(machine):
                said = self._ray.get(machine.asked)
                if isinstance(said, Hello):
                    if said.version != __version__:
                        raise SettingsError(
                            f"a machine has version {said.version}, not {__version__}. Install the same."
                        )
                    machine.pid = said.pid
                else:
                    # It may have been said before the last delivery, and arrive after it.
                    machine.account = max(machine.account, said, key=lambda one: (one.lost, one.spent.simulated))
                machine.heard = time.monotonic()
                machine.asked = machine.actor.account.remote()

    @contextlib.contextmanager
    def _surviving(self, machine: _Machine) -> Iterator[None]:
        """What Ray says of a lost machine counts as its silence, which is dealt with in one place."""
        try:
            yield
        except self._ray.exceptions.RayError as error:
            machine.heard, machine.cause = float("-inf"), str(error).strip()

    def _give_up(self) -> list[Task]:
        """Lets go of machines that are silent.

        Returns:
            What they were playing.

        Raises:
            WorkerError: There is no other machine.
        """
        now = time.monotonic()
        silent = [machine for machine in self._machines if now - machine.heard > self._cluster.silence]
        for machine in silent:
            _log.warning("node %s of the cluster is lost, and what it had is played elsewhere: %s", *machine.obituary())
            self._drop(machine)
        if silent and not self._machines:
            self._discover()
            if not self._machines:
                name, cause = silent[-1].obituary()
                raise WorkerError(
                    f"all machines of the Ray cluster are lost, node {name} at last: {cause}. Add some with 'tgrpo "
                    "cluster --join', and continue with --resume."
                )
        return [task for machine in silent for task in machine.tasks]

    def _drop(self, machine: _Machine) -> None:
        self._machines.remove(machine)
        rows = sum(len(task.job.part.rows) for task in machine.tasks)
        self._past = Account(
            _sum([self._past.spent, machine.account.spent]), self._past.lost + machine.account.lost + rows
        )
        with contextlib.suppress(Exception):  # it may be gone
            self._ray.kill(machine.actor)
        if machine.pid is not None:
            # Ray's kill leaves a process that is stopped; its workers end with it.
            kill = self._ray.remote(max_retries=0, num_cpus=0)(_kill)
            kill.options(scheduling_strategy=self._on(machine.name)).remote(machine.pid)

    def _recall(self) -> None:
        """Ends what is still played, so that no answer of one batch can come in the next."""
        busy = [machine for machine in self._machines if machine.playing is not None]
        for machine in busy:
            machine.actor.cancel.remote()
        if busy:
            self._ray.wait([machine.playing for machine in busy], num_returns=len(busy), timeout=self._cluster.silence)
        for machine in busy:
            ended, _ = self._ray.wait([machine.playing], timeout=0)
            machine.playing, machine.tasks = None, ()
            if not ended:
                self._drop(machine)


def _sum(parts: Sequence[Spent]) -> Spent:
    return Spent(sum(one.simulated for one in parts), sum(one.inferred for one in parts))


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
