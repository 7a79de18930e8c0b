"""When a client sent a request, on the server's clock, without synchronised clocks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

DRIFT = 2e-4
"""How fast the clocks of two machines may run apart [s/s]; real ones stay well below."""
SESSIONS = 4096


class Clocks:
    """Offsets between the clients' clocks and ours.

    Of all messages of a session, the one with the smallest difference between arrival and sending travelled fastest;
    whatever another one takes beyond that, it spent on its way. A request that lay in a buffer while the server was
    stopped is thus as old as it is.
    """

    def __init__(self) -> None:
        self._offsets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def sent(self, session: Hashable, clock: float, now: float) -> float:
        """When a message was sent, on the server's clock [s]; not later than ``now``.

        Args:
            session: Messages with one clock.
            clock: The client's clock when it sent the message [s].
            now: The server's clock when it arrived [s].
        """
        offset = now - clock
        if session in self._offsets:
            least, noted = self._offsets.pop(session)
            offset = min(offset, least + DRIFT * (now - noted))
        self._offsets[session] = (offset, now)
        while len(self._offsets) > SESSIONS:
            self._offsets.popitem(last=False)
        return min(clock + offset, now)
