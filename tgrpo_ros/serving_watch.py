"""Which weights a policy server serves, and how a session replaces them, between two episodes and never in one."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from tgrpo.client import PolicyClient
from tgrpo.errors import PolicyError, RobotFault, SettingsError
from tgrpo.keys import ClientKeys
from tgrpo.record.session import closed_episodes
from tgrpo.session import versions

GREETING_MS = 1000.0
"""How long one attempt to reach a server may take [ms]."""
SWAP_S = 600.0
"""How long loading another checkpoint may take [s]."""


class Served:
    """The servers of a session.

    Attributes:
        number: Version of the session's policy that is served; None while it has none.
    """

    def __init__(self, session: Path, keys: ClientKeys | None = None) -> None:
        """Asks nothing yet.

        Args:
            session: Its folder, with versions where something is learned.
            keys: For servers that want them.
        """
        self._session, self._keys = session, keys
        self.number: int | None = None
        self._known = ""

    def version(self, address: str, patience: float, check: Callable[[], None]) -> str:
        """Version of the weights behind an address; waits for a server that is not there yet.

        Args:
            address: Of the server.
            patience: How long to wait [s].
            check: Called between two attempts.

        Raises:
            RobotFault: It does not answer.
        """
        until = time.monotonic() + patience
        while time.monotonic() < until:
            try:
                with PolicyClient(address, self._keys) as client:
                    return client.hello(GREETING_MS).version
            except PolicyError:
                check()
        raise RobotFault(f"the policy server at {address} has not answered for {patience:g} s; see `tgrpo serve`.")

    def wait_for_lesson(self, patience: float, check: Callable[[], None]) -> None:
        """Waits until the learner has studied the last episode: a rehearsal has no pauses in which it would anyway.

        Args:
            patience: How long at most [s].
            check: Called again and again while waiting.
        """
        last = max((int(folder.name) for folder in closed_episodes(self._session)), default=-1)
        until = time.monotonic() + patience
        while versions.studied(self._session) < last and time.monotonic() < until:
            check()

    def update(self, address: str, now: str) -> str:
        """Has the session's current version served, if it is not.

        Args:
            address: Of the server.
            now: What it serves.

        Returns:
            What changed, for people; empty if nothing did.

        Raises:
            SettingsError: The server cannot be told: it is on another machine.
            CheckpointError: It keeps its policy.
        """
        try:
            wanted = versions.current(self._session).version
        except SettingsError:  # nothing is learned in this session
            return ""
        if wanted == self.number and now == self._known:
            return ""
        from tgrpo.serving import control  # it loads policies, which a session that learns nothing need not

        port = address.rpartition(":")[2]
        if not address.startswith("tcp://127.0.0.1:") or not port.isdecimal():
            raise SettingsError(
                f"version {wanted} cannot be loaded: the server at {address} is on another machine. Copy the folder "
                f"{versions.folder_of(self._session, wanted)} there, use 'tgrpo swap', and resume."
            )
        before, self.number = self.number, wanted
        folder = versions.folder_of(self._session, wanted)
        self._known = control.swap(folder, control.default_path(int(port)), SWAP_S)
        return f"version {'of the start' if before is None else before} -> {wanted} ({self._known})"
