"""Decides whose command moves the arm: human before safety before reset before policy, one session for each.

A source acquires a lease under a session name. Commands of another session, of an expired lease, and commands that
are not newer than the last one are refused: a node that was replaced, or started twice, moves nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tgrpo.errors import RobotFault
from tgrpo_ros.motion import Command, Source
from tgrpo_ros.safety.ladder import Level, Reason
from tgrpo_ros.safety.settings import Handover, Watchdogs


@dataclass
class _Lease:
    session: str
    seen: float
    """Last sign of life [s]."""
    sequence: int = -1
    commanded: float = float("-inf")
    """When the last action of the newest command begins [s]."""
    engaged: bool = False
    let_go: float = float("-inf")
    """When the source let go on purpose [s]."""


class Arbiter:
    """Leases of all sources and whose turn it is.

    Attributes:
        active: Source that moves the arm now; None if nobody does.
        since: Steady time at which it took over [s].
        refused: Number of refused commands by reason.
    """

    def __init__(self, watchdogs: Watchdogs, handover: Handover, max_age: float, now: float) -> None:
        """Nobody holds a lease.

        Args:
            watchdogs: How long a source may be silent.
            handover: How a person lets go.
            max_age: How old the observation behind a command may be [s].
            now: Steady time [s].
        """
        self._dogs, self._handover, self._max_age = watchdogs, handover, max_age
        self._leases: dict[Source, _Lease] = {}
        self.active: Source | None = None
        self.since = now
        self.refused: dict[str, int] = {}

    def acquire(self, source: Source, session: str, now: float) -> None:
        """Gives a source's lease to a session; the same session keeps it.

        Raises:
            RobotFault: Another session holds it and is alive, or nobody can hold it.
        """
        if source is Source.SAFETY or not session:
            raise RobotFault(f"no lease for {source.name} under session {session!r}: only human, reset and policy move")
        held = self._leases.get(source)
        if held is not None and held.session == session:
            held.seen = now
            return
        if held is not None and now - held.seen <= self._dogs.command_stop:
            raise RobotFault(
                f"{source.name.lower()} is already controlled by session {held.session!r}; this is {session!r}. "
                "Stop the other node, or wait until its lease has expired."
            )
        self._leases[source] = _Lease(session, now)

    def keep(self, source: Source, session: str, now: float) -> bool:
        """A sign of life without a command; tells whether the lease is still held."""
        held = self._leases.get(source)
        if held is None or held.session != session:
            return False
        held.seen = now
        return True

    def release(self, source: Source, session: str) -> None:
        """Gives a lease back; other sessions' leases stay."""
        held = self._leases.get(source)
        if held is not None and held.session == session:
            del self._leases[source]

    def revoke(self) -> None:
        """Takes all leases: after a stop every source has to ask anew."""
        self._leases.clear()

    def settle(self, now: float) -> None:
        """Nobody has the arm: what was said before it was armed moves nothing, and keeps nobody else from moving it."""
        for lease in self._leases.values():
            lease.engaged, lease.let_go = False, float("-inf")
        self.active, self.since = None, now

    def holder(self, source: Source) -> str | None:
        """Session that holds a source's lease."""
        held = self._leases.get(source)
        return None if held is None else held.session

    def refusal(self, command: Command, now: float) -> str:
        """Why a command is not taken; empty if its sender may send it. Counts refusals."""
        why = self._refusal(command, now)
        if why:
            name = why.partition(":")[0]
            self.refused[name] = self.refused.get(name, 0) + 1
        return why

    def note(self, command: Command, now: float, lasts: float) -> None:
        """Takes note of a command that was taken.

        Args:
            command: Its sender holds the lease.
            now: Steady time [s].
            lasts: How long its actions last beyond the first one: until then its sender need not say more [s].
        """
        lease = self._leases[command.source]
        lease.sequence, lease.seen, lease.commanded = command.sequence, now, now + lasts
        if lease.engaged and not command.engaged:
            lease.let_go = now
        lease.engaged = command.engaged

    def choose(self, now: float) -> Source | None:
        """Whose turn it is: the highest source that is engaged, or has let go only just now."""
        wanting = (source for source, lease in self._leases.items() if self._wants(source, lease, now))
        chosen = max(wanting, default=None)
        if chosen is not self.active:
            self.active, self.since = chosen, now
        return chosen

    def reasons(self, now: float) -> list[Reason]:
        """Why the active source must not go on: it is silent."""
        lease = None if self.active is None else self._leases.get(self.active)
        if self.active is None or lease is None or not lease.engaged:
            return []
        age = now - max(self.since, lease.commanded)
        hold = self._dogs.human_hold if self.active is Source.HUMAN else self._dogs.command_hold
        who = f"{self.active.name.lower()} (session {lease.session!r})"
        if age > self._dogs.command_stop:
            return [Reason(Level.DECELERATE, "lease_lost", f"{who} has been silent for {age:.2f} s")]
        if age > hold:
            return [Reason(Level.HOLD, "stale_command", f"{who} has been silent for {age:.2f} s")]
        return []

    def _refusal(self, command: Command, now: float) -> str:
        lease = self._leases.get(command.source)
        if lease is None:
            return f"no lease: {command.source.name.lower()} has to acquire one first"
        if command.session != lease.session:
            return f"other session: {command.session!r} sent it, {lease.session!r} holds the lease"
        if command.sequence <= lease.sequence:
            return f"old sequence: {command.sequence} after {lease.sequence}"
        age = now - command.observed
        if not math.isfinite(age) or age < -self._dogs.future:
            return f"from the future: observed {-age:.3f} s ahead of the clock"
        if age > self._max_age:
            return f"expired: observed {age:.3f} s ago, limit {self._max_age} s"
        if command.source is not Source.HUMAN and self._is_before(command):
            return "before hand-over: decided on an observation from before this source took over"
        return ""

    def _is_before(self, command: Command) -> bool:
        return self.active in (None, command.source) and command.observed < self.since

    def _wants(self, source: Source, lease: _Lease, now: float) -> bool:
        if lease.engaged:
            return True
        return source is Source.HUMAN and now - lease.let_go <= self._handover.human_holdover
