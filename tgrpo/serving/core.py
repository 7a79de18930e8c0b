"""The thread of the model: takes batches, decides them and hands the answers out; what is quick needs no thread."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from tgrpo.serving import batch
from tgrpo.serving.model import ServedModel, check_replacement
from tgrpo.serving.queue import FairQueue
from tgrpo.serving.request import Outcome, Refused, Request
from tgrpo.serving.stats import Counters

log = logging.getLogger(__name__)
AT_ONCE_S = 0.002
"""Batches that take less are decided in the thread that brings the request, if no other client is about [s]."""


class Core:
    """Answers requests of all transports with one policy.

    Attributes:
        counters: What happened since the start.
    """

    def __init__(
        self,
        model: ServedModel,
        *,
        max_batch: int,
        window: float,
        quota: int,
        capacity: int = 1024,
        eager: bool = True,
    ) -> None:
        """Starts the thread.

        Args:
            model: Answers until it is replaced.
            max_batch: Largest batch; halved when the policy runs out of memory.
            window: Longest time that a request waits for company [s].
            quota: Requests of one client that may wait or be computed at a time.
            capacity: Requests of all clients that may wait.
            eager: See :class:`FairQueue`.
        """
        self.counters = Counters()
        self._model = model
        self._swapping = threading.Lock()
        self._deciding = threading.Lock()
        self._max_batch = max_batch
        self._queue = FairQueue(quota, capacity, window, eager=eager)
        self._pace = _Pace()
        self._busy_since: float | None = None
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self._thread.start()

    @property
    def model(self) -> ServedModel:
        """The policy that answers at the moment."""
        return self._model

    @property
    def max_batch(self) -> int:
        """Largest batch."""
        return self._max_batch

    @property
    def waiting(self) -> int:
        """Requests that wait for the model."""
        return len(self._queue)

    @property
    def busy_ms(self) -> float:
        """How long the model has been at its present batch [ms]; 0 while it is idle."""
        since = self._busy_since
        return 0.0 if since is None else (time.monotonic() - since) * 1000.0

    def submit(self, request: Request) -> None:
        """Takes a request; it is answered exactly once, perhaps at once, from any thread."""
        self.counters.add("requests")
        if request.deadline < request.arrived:  # spent its time on the way, so it takes nobody's place
            self.counters.add("expired")
            request.answer(Refused("expired", "the deadline had passed when the request arrived."))
        elif self._decide_at_once(request):
            return
        elif not self._queue.put(request):
            self.counters.add("busy")
            request.answer(
                Refused("busy", "as many requests of this client, or in all, as the server takes are waiting.")
            )

    def swap(self, model: ServedModel, change: Callable[[], None] = lambda: None) -> None:
        """Replaces the policy between two batches.

        Args:
            model: Answers from then on.
            change: Done at that moment, when no batch is computed; if it fails, the old one stays.

        Raises:
            SpecError: The new one has other conventions; the old one stays.
        """
        with self._swapping:
            check_replacement(self._model, model)
            with self._deciding:
                change()
                self._model = model
            self.counters.add("swaps")
        log.info("now serving %s", model.version)

    def close(self) -> None:
        """Refuses what waits and ends the thread after the batch that it is at."""
        for request in self._queue.close():
            request.answer(Refused("stopping", "the server is being stopped."))
        self._thread.join(timeout=5.0)

    def _run(self) -> None:
        while (taken := self._queue.take(self._max_batch, self._pace.usual, self._pace.fastest)) is not None:
            requests, late = taken
            for request in late:
                self._pace.doubt()
                self._answer(request, Refused("expired", "the deadline can not be met; the request was not computed."))
            if requests:
                self._decide(requests)

    def _decide_at_once(self, request: Request) -> bool:
        """Decides for the only client of a fast policy, which takes less time than waking the model's thread.

        Nobody else waits meanwhile but for health, and that only as long as the slowest of the last batches took.
        """
        usual = self._pace.usual
        if not 0.0 < usual < AT_ONCE_S or request.deadline < request.arrived + usual:
            return False
        if not self._deciding.acquire(blocking=False):
            return False
        try:
            if not self._queue.pass_through(request):
                return False
            self._compute([request])
        finally:
            self._deciding.release()
        return True

    def _decide(self, requests: list[Request]) -> None:
        with self._deciding:
            self._compute(requests)

    def _compute(self, requests: list[Request]) -> None:
        """Decides and answers; the caller holds ``_deciding``."""
        started = self._busy_since = time.monotonic()
        outcomes, out_of_memory = batch.decide(self._model, requests)
        self._busy_since = None
        seconds = time.monotonic() - started
        self._pace.note(seconds)
        if out_of_memory and len(requests) > 1:
            self._max_batch = max(1, min(self._max_batch, len(requests)) // 2)
            log.warning("out of memory with a batch of %d: now at most %d", len(requests), self._max_batch)
        self.counters.add("batches")
        self.counters.time("infer_ms", seconds * 1000.0)
        for request, outcome in zip(requests, outcomes, strict=True):
            self.counters.time("queue_ms", (started - request.arrived) * 1000.0)
            self._answer(request, outcome)

    def _answer(self, request: Request, outcome: Outcome) -> None:
        self._queue.done(request)
        self.counters.add(outcome.code if isinstance(outcome, Refused) else "answered")
        request.answer(outcome)


class _Pace:
    """How long batches take, from the last few."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=16)
        self.usual = 0.0
        """Of a batch [s]."""
        self.fastest = 0.0
        """Of the fastest of the last batches [s]."""

    def note(self, seconds: float) -> None:
        """Learns from one batch."""
        self._recent.append(seconds)
        self.usual = max(self._recent)
        self.fastest = min(self._recent)

    def doubt(self) -> None:
        """Weakens the belief that led to a refusal, so that a few slow batches do not refuse everything for ever."""
        self.fastest *= 0.8
