"""One machine of a cluster: a pool of its own workers, which play what :mod:`sim.cluster.pool` sends."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sim.cluster.versions import Cache, Version
from sim.ledger import Quarantined
from sim.rollout import Part, Spent, UnitResult
from sim.vector import WorkerPool, WorkerSettings
from tgrpo import __version__
from tgrpo.errors import TgrpoError


@dataclass(frozen=True)
class Hello:
    """What a machine says of itself."""

    pid: int
    version: str
    """Of this package."""


@dataclass(frozen=True)
class Account:
    """What the workers of a machine have done so far."""

    spent: Spent
    lost: int


@dataclass(frozen=True)
class Delivery:
    """What came of some rollouts."""

    version: str
    """Name of the weights that decided."""
    results: list[UnitResult]
    error: TgrpoError | None
    quarantined: list[Quarantined]
    account: Account


class Node:
    """Plays; its methods are called from several threads, so that it gives signs of life meanwhile."""

    def __init__(self, workers: int, settings: WorkerSettings, get: Callable[[Any], bytes]) -> None:
        """Starts the workers.

        Args:
            workers: How many.
            settings: What each of them does.
            get: Fetches bytes from the object store.
        """
        self._pool = WorkerPool(workers, settings)
        self._folder = tempfile.TemporaryDirectory(prefix="tgrpo-node-")
        self._cache = Cache(Path(self._folder.name), get)
        self._cancelled = threading.Event()

    def hello(self) -> Hello:
        """Says who it is."""
        return Hello(os.getpid(), __version__)

    def account(self) -> Account:
        """What was done so far; the answer is a sign of life, too."""
        return Account(self._pool.spent(), self._pool.lost)

    def play(self, version: Version, parts: Sequence[Part]) -> Delivery:
        """Plays rollouts with one version of the weights; an error is a result."""
        known = len(self._pool.quarantined)
        results: list[UnitResult] = []
        error: TgrpoError | None = None
        self._cancelled.clear()
        try:
            results = self._pool.play(parts, self._cache.folder(version), cancelled=self._cancelled.is_set)
        except TgrpoError as caught:
            error = caught
        return Delivery(version.name, results, error, self._pool.quarantined[known:], self.account())

    def cancel(self) -> None:
        """Ends the rollouts early."""
        self._cancelled.set()
