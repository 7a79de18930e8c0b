"""Who is next: one line for each client, taken in turn, within quotas, and nothing that is late already."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import TypeAlias

from tgrpo.serving.request import Request

ACTIVE_S = 1.0
"""A client that asked less than this long ago is expected to ask again soon [s]."""
Taken: TypeAlias = tuple[list[Request], list[Request]]


class FairQueue:
    """Requests that wait for the model.

    A batch is taken as soon as it is full or every active client has its request in it, so that a single robot never
    waits for company; otherwise when the oldest request has waited for the window, or when waiting any longer would
    make one late.
    """

    def __init__(self, quota: int, capacity: int, window: float, *, eager: bool = True) -> None:
        """Starts empty.

        Args:
            quota: Requests of one client that may wait or be computed at a time.
            capacity: Requests of all clients that may wait.
            window: Longest time that a request waits for company [s].
            eager: Whether a batch is taken as soon as every active client has one request in it; not where clients send
                several at a time.
        """
        self._eager = eager
        self._quota, self._capacity, self._window = quota, capacity, window
        self._lines: OrderedDict[Hashable, deque[Request]] = OrderedDict()
        self._held: dict[Hashable, int] = {}
        self._seen: dict[Hashable, float] = {}
        self._waiting = 0
        self._closed = False
        self._changed = threading.Condition()

    def __len__(self) -> int:
        """Requests that wait."""
        return self._waiting

    def put(self, request: Request) -> bool:
        """Adds a request, unless its client has used up its quota or the queue is full.

        Returns:
            Whether it was added.
        """
        with self._changed:
            self._seen[request.owner] = request.arrived
            held = self._held.get(request.owner, 0)
            if held >= self._quota or self._waiting >= self._capacity or self._closed:
                return False
            self._held[request.owner] = held + 1
            self._lines.setdefault(request.owner, deque()).append(request)
            self._waiting += 1
            self._changed.notify()
        return True

    def pass_through(self, request: Request) -> bool:
        """Takes a request past the queue, if nothing waits and no other client has asked lately.

        Returns:
            Whether it was taken; call :meth:`done` for it as for any other.
        """
        with self._changed:
            now = request.arrived
            alone = all(owner == request.owner or now - at >= ACTIVE_S for owner, at in self._seen.items())
            if not alone or self._waiting or self._held or self._closed or not self._eager:
                return False
            self._seen = {request.owner: now}
            self._held[request.owner] = 1
        return True

    def done(self, request: Request) -> None:
        """Gives a request's place in its client's quota back; call it once for each request that was taken."""
        with self._changed:
            left = self._held[request.owner] - 1
            if left:
                self._held[request.owner] = left
            else:
                del self._held[request.owner]

    def take(self, most: int, expected: float, least: float) -> Taken | None:
        """Waits for the next batch.

        Args:
            most: Largest batch.
            expected: Time that a batch usually takes [s]; waiting for company ends early enough for it.
            least: Time that even the fastest batch takes [s].

        Returns:
            A batch of one temperature, and requests that can not be answered in time; nothing once it is closed.
        """
        with self._changed:
            while not self._closed:
                now = time.monotonic()
                pause = self._pause(now, most, expected)
                if pause is not None and pause <= 0:
                    late = self._remove_late(now + least)
                    return self._remove_batch(most), late
                self._changed.wait(pause)
        return None

    def close(self) -> list[Request]:
        """Ends the queue.

        Returns:
            Requests that nobody will take any more.
        """
        with self._changed:
            self._closed = True
            left = [request for line in self._lines.values() for request in line]
            self._lines.clear()
            self._waiting = 0
            self._changed.notify_all()
        return left

    def _pause(self, now: float, most: int, expected: float) -> float | None:
        """Time to wait for company [s]; nothing if there is no request yet."""
        if not self._waiting:
            return None
        self._seen = {owner: at for owner, at in self._seen.items() if now - at < ACTIVE_S}
        if self._waiting >= most or (self._eager and self._seen.keys() <= self._lines.keys()):
            return 0.0
        heads = [line[0] for line in self._lines.values()]
        company = min(request.arrived for request in heads) + self._window
        urgent = min(request.deadline for request in heads) - expected
        return min(company, urgent) - now

    def _remove_late(self, answered: float) -> list[Request]:
        late = []
        for owner in list(self._lines):
            line = self._lines[owner]
            late += [request for request in line if request.deadline < answered]
            self._lines[owner] = deque(request for request in line if request.deadline >= answered)
            if not self._lines[owner]:
                del self._lines[owner]
        self._waiting -= len(late)
        return late

    def _remove_batch(self, most: int) -> list[Request]:
        batch: list[Request] = []
        before = -1
        while len(batch) < most and len(batch) > before:
            before = len(batch)
            for owner in list(self._lines):
                line = self._lines[owner]
                if len(batch) == most or (batch and line[0].temperature != batch[0].temperature):
                    continue
                batch.append(line.popleft())
                self._lines.move_to_end(owner)
                if not line:
                    del self._lines[owner]
        self._waiting -= len(batch)
        return batch
