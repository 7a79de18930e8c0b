"""`tgrpo train` under torchrun: process 0 decides, writes and says everything, the others do their share of the work.

Every process plays its share of the rollouts with workers of its own and computes its share of every update. The others
obey orders of process 0, so nothing has to be agreed upon: a stop, a pause or another setting is never theirs to know.
What travels between the processes of the group is pickled, as torch does it; nothing else is ever unpickled.

Each process decides for its own workers, so it has the whole policy while rollouts are played, whether sharded or not.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import distributed

from sim import settings as run_settings
from sim.ledger import Quarantined
from sim.libero import resolve_task
from sim.pool import CancelledRolloutsError, Pool, Progress
from sim.rollout import Part, Spent, Unit, UnitResult
from sim.settings import TrainSettings
from sim.shared import SharedPolicy, acting
from sim.vector import WorkerPool, WorkerSettings
from tgrpo.errors import SettingsError, TgrpoError
from tgrpo.learner import Learner, Update
from tgrpo.policies import sharding
from tgrpo.policies.trainable import Trainable, load_trainable
from tgrpo.types import RolloutGroup

PATIENCE = timedelta(days=30)
"""Longest wait for another process: a paused run waits as long as a person likes. torchrun notices deaths."""
START = "start"
"""Folder in the run folder that keeps the policy as it was before the training."""

T = TypeVar("T")


@dataclass(frozen=True)
class Begin:
    """Get ready to train the policy in a run folder."""

    settings: TrainSettings
    run: Path


@dataclass(frozen=True)
class Load:
    """Continue from a checkpoint."""

    folder: Path


@dataclass(frozen=True)
class Play:
    """Play your share of some rollouts."""

    number: int
    work: list[Unit | Part]
    version: str
    """Name of the weights as they are now."""


@dataclass(frozen=True)
class Learn:
    """Compute your share of an update."""

    groups: list[RolloutGroup]
    rate: float


@dataclass(frozen=True)
class Played:
    """What one process played, and the accounts of its workers."""

    results: list[UnitResult]
    error: TgrpoError | None
    spent: Spent
    lost: int
    quarantined: list[Quarantined]


@contextmanager
def group() -> Iterator[None]:
    """Joins the processes that torchrun has started; alone, it does nothing."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=PATIENCE)
    # Not after an error: whoever waits for this process shall find the connection broken.
    yield
    if not sharding.rank():
        _order(None)
    distributed.barrier()  # nobody closes connections that another one still reads from
    distributed.destroy_process_group()


def worker_count(settings: TrainSettings) -> int:
    """Rollout workers of this process: those of the settings are divided over the processes of a machine."""
    return -(-run_settings.worker_count(settings) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


class DividedPool:
    """The workers of all processes, seen from process 0; each process plays a share with workers of its own."""

    def __init__(self, own: Pool, learner: Learner) -> None:
        """Starts nothing.

        Args:
            own: The workers of this process.
            learner: Of this process.
        """
        self._learner = learner
        self.size = own.size * sharding.world()
        self._own, self._number, self._cancel = own, 0, Cancel()
        self._others: list[Played] = []

    @property
    def lost(self) -> int:
        """Rollouts that were lost so far."""
        return self._own.lost + sum(other.lost for other in self._others)

    @property
    def quarantined(self) -> list[Quarantined]:
        """Rollouts that were left out so far."""
        return [*self._own.quarantined, *(rollout for other in self._others for rollout in other.quarantined)]

    def spent(self) -> Spent:
        """What the workers of all processes have simulated and inferred."""
        accounts = [self._own.spent(), *(other.spent for other in self._others)]
        return Spent(sum(one.simulated for one in accounts), sum(one.inferred for one in accounts))

    def play(
        self,
        work: Sequence[Unit | Part],
        policy: Path,
        progress: Progress = lambda result: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> list[UnitResult]:
        """Plays all units and returns their results in the same order; see :meth:`sim.pool.Pool.play`."""
        self._number += 1
        _order(Play(self._number, list(work), policy.name))
        self._learner.gather()
        here = _play(self._own, share_of(work), policy, self._cancel, self._number, progress, cancelled)
        played: list[Any] = [None] * sharding.world()
        with sharding.together():
            distributed.gather_object(here, played)
        self._others = played[1:]
        for result in [result for other in self._others for result in other.results]:
            progress(result)
        errors = [one.error for one in played if one.error is not None]
        # What went wrong comes first: the others were only cancelled because of it.
        for error in sorted(errors, key=lambda error: isinstance(error, CancelledRolloutsError)):
            raise error
        return [result for one in played for result in one.results]


class LeadingLearner(Learner):
    """The learner of process 0: all processes do what it does."""

    def update(self, groups: Sequence[RolloutGroup], rate: float = 1.0) -> Update:
        """Takes optimiser steps in all processes; see :meth:`Learner.update`."""
        _order(Learn(list(groups), rate))
        return super().update(groups, rate)

    def load_state(self, folder: Path) -> dict[str, Any]:
        """Continues from a checkpoint in all processes; see :meth:`Learner.load_state`."""
        _order(Load(folder))
        return super().load_state(folder)


def check(settings: TrainSettings) -> None:
    """Refuses what several processes cannot do.

    Raises:
        SettingsError: All weights would be trained.
    """
    if sharding.world() > 1 and settings.learner.adapter == "full":
        raise SettingsError("adapter is 'full': several processes train adapters only; train with 'lora'.")


def learner(policy: Trainable, settings: TrainSettings, run: Path) -> LeadingLearner:
    """The learner of process 0; the others get ready, too.

    Args:
        policy: Where training starts.
        settings: The run.
        run: Its folder, which all processes can read.
    """
    check(settings)
    _order(Begin(settings, run.resolve()))
    return _learner(LeadingLearner, policy, settings)


def follow() -> int:
    """What processes other than 0 do: they obey. Signals are for process 0 to decide about.

    Returns:
        The exit code.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    try:
        begin = _next_order()
        if begin is not None:
            Follower(begin).obey()
    except sharding.LostProcessError:
        return 1  # whoever failed has said why
    return 0


class Follower:
    """One of the other processes, in training."""

    def __init__(self, begin: Begin) -> None:
        """Loads the policy that training starts from."""
        settings = begin.settings
        torch.set_num_threads(worker_count(settings))
        policy = load_trainable(begin.run / START)
        policy.exploration, policy.mean_temperature = settings.exploration, settings.mean_temperature
        self._settings, self._learner, self._cancel = settings, _learner(Learner, policy, settings), Cancel()
        # Hidden like every file under construction; the next run removes what a killed one leaves.
        self._acting = begin.run / f".tmp-acting-{sharding.rank()}"

    def obey(self) -> None:
        """Does what it is told until it is over."""
        settings, policy = self._settings, self._learner.policy
        with ExitStack() as stack:
            stack.callback(shutil.rmtree, self._acting, ignore_errors=True)
            shared = None if policy.merges else stack.enter_context(SharedPolicy(policy, settings.group_size))
            pool = stack.enter_context(WorkerPool(worker_count(settings), worker_settings(settings)))
            while (order := _next_order()) is not None:
                if isinstance(order, Load):
                    self._learner.load_state(order.folder)
                elif isinstance(order, Learn):
                    self._learner.update(order.groups, order.rate)
                else:
                    self._learner.gather()
                    folder = acting(self._acting / order.version, self._learner, shared)
                    here = _play(pool, share_of(order.work), folder, self._cancel, order.number)
                    with sharding.together():
                        distributed.gather_object(here)


def worker_settings(settings: TrainSettings) -> WorkerSettings:
    """What the workers of a run have in common."""
    return WorkerSettings(mode=settings.mode, scene=(settings.suite, resolve_task(settings.suite, settings.task)))


def share_of(items: Sequence[T]) -> list[T]:
    """The part of some items that is this process's; neighbours stay together, as units of one group are."""
    bounds = np.linspace(0, len(items), sharding.world() + 1).round().astype(int)
    return list(items[bounds[sharding.rank()] : bounds[sharding.rank() + 1]])


class Cancel:
    """Lets any process end the rollouts of all of them early, through the store that torchrun keeps."""

    def __init__(self) -> None:
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        self._store = distributed.TCPStore(address, port, is_master=False)

    def set(self, number: int) -> None:
        """Ends the batch of this number."""
        with contextlib.suppress(RuntimeError):  # the store is gone, and the others with it
            self._store.set(f"tgrpo/cancel/{number}", "1")

    def asked(self, number: int) -> bool:
        """Whether some process has."""
        return bool(self._store.check([f"tgrpo/cancel/{number}"]))


def _play(
    pool: Pool,
    work: Sequence[Unit | Part],
    policy: Path,
    cancel: Cancel,
    number: int,
    progress: Progress = lambda result: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Played:
    """Plays one process's share; an error is a result, so that all processes still meet."""
    results: list[UnitResult] = []
    error: TgrpoError | None = None
    try:
        results = pool.play(work, policy, progress, lambda: cancelled() or cancel.asked(number))
    except TgrpoError as caught:
        cancel.set(number)
        error = caught
    return Played(results, error, pool.spent(), pool.lost, list(pool.quarantined))


def _learner(kind: type[Any], policy: Trainable, settings: TrainSettings) -> Any:
    return kind(policy, settings.learner, temperature=settings.temperature, seed=settings.seed)


def _order(order: Begin | Load | Play | Learn | None) -> None:
    with sharding.together():
        distributed.broadcast_object_list([order], src=0)


def _next_order() -> Any:
    order: list[Any] = [None]
    with sharding.together():
        distributed.broadcast_object_list(order, src=0)
    return order[0]
