"""Asks the folder of allowed clients about every encrypted connection (ZAP, ZeroMQ RFC 27)."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from pathlib import Path

import zmq
from zmq.utils import z85

from tgrpo import keys
from tgrpo.errors import SettingsError

log = logging.getLogger(__name__)
DOMAIN = b"tgrpo"
"""Named, because libzmq asks nobody about a socket without a domain."""
RELOAD_S = 1.0


class AllowList:
    """Public keys in a folder, read again every second, so that deleting a file locks its robot out."""

    def __init__(self, folder: Path) -> None:
        """Reads the folder.

        Raises:
            SettingsError: The folder or one of its files is missing or not safe.
        """
        self._folder = folder
        self._keys = keys.allowed(folder)
        self._read_at = time.monotonic()

    def name(self, key: bytes) -> str | None:
        """Whose key it is; nothing if it is not allowed."""
        if time.monotonic() - self._read_at > RELOAD_S:
            try:
                self._keys = keys.allowed(self._folder)
            except SettingsError as error:
                # Whatever went wrong, nobody may get in who would not have before.
                log.error("nobody is admitted: %s", error)
                self._keys = {}
            self._read_at = time.monotonic()
        return self._keys.get(key)


class Gatekeeper:
    """Answers libzmq's questions about new connections in a thread of its own."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], allowed: AllowList) -> None:
        self._allowed = allowed
        self._socket = context.socket(zmq.REP)
        self._socket.bind("inproc://zeromq.zap.01")
        self._thread = threading.Thread(target=self._run, name="keys", daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Waits for the thread, which ends with the context."""
        self._thread.join(timeout=5.0)

    def _run(self) -> None:
        with contextlib.suppress(zmq.ContextTerminated), self._socket as socket:
            socket.setsockopt(zmq.LINGER, 0)
            while True:
                parts = socket.recv_multipart()
                socket.send_multipart(self._verdict(parts))

    def _verdict(self, parts: list[bytes]) -> list[bytes]:
        version, request, domain, _, _, mechanism, *credentials = parts
        if domain == DOMAIN and mechanism == b"CURVE" and len(credentials) == 1:
            key = z85.encode(credentials[0])
            name = self._allowed.name(key)
            if name is not None:
                return [version, request, b"200", b"OK", key, b""]
            log.warning("refused the unknown key %s", key.decode())
        return [version, request, b"400", b"unknown key", b"", b""]
