"""The thread of the data socket: reads requests, answers what needs no model, and sends what the model decided."""

from __future__ import annotations

import errno
import ipaddress
import logging
import os
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zmq

from tgrpo import jpeg, keys, payload, wire
from tgrpo.errors import SettingsError, WireError
from tgrpo.serving.clocks import Clocks
from tgrpo.serving.core import Core
from tgrpo.serving.owner import owner_of_port
from tgrpo.serving.request import Outcome, Refused, Request
from tgrpo.serving.zap import DOMAIN, AllowList, Gatekeeper
from tgrpo.wire import Act, Card, Chunk, Hello, Message, Ping, Pong, Refusal, Stats

log = logging.getLogger(__name__)
OPTIONS = {
    zmq.LINGER: 0,
    zmq.MAXMSGSIZE: wire.MAX_BYTES,
    zmq.HANDSHAKE_IVL: 1000,
    zmq.RCVHWM: 8,
    zmq.SNDHWM: 16,
    zmq.ROUTER_MANDATORY: 1,  # so that an answer that cannot be delivered is counted
    zmq.HEARTBEAT_IVL: 2000,
    zmq.HEARTBEAT_TIMEOUT: 10_000,
}


@dataclass(frozen=True)
class ServerKeys:
    """What a server needs to admit clients by key."""

    secret: Path
    """The server's own ``NAME.key``."""
    clients: Path
    """Folder of the clients' ``.pub`` files."""


class Server:
    """A ZeroMQ ROUTER around a :class:`~tgrpo.serving.core.Core`.

    Attributes:
        address: Where it listens, with the port that was chosen.
    """

    def __init__(
        self, core: Core, *, host: str = "127.0.0.1", port: int = 0, quota: int = 2, keys: ServerKeys | None = None
    ) -> None:
        """Listens and starts the thread.

        Args:
            core: Decides.
            host: Address of the interface to listen on.
            port: 0 takes a free one.
            quota: Of the core, for the model card.
            keys: Needed beyond this machine.

        Raises:
            SettingsError: The host is not this machine and there are no keys, a key is not safe, or the port is taken.
        """
        self._core = core
        self._quota = quota
        check_host(host, encrypted=keys is not None)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._allowed = AllowList(keys.clients) if keys else None
        self._gatekeeper: Gatekeeper | None = None
        try:
            self._socket = self._listen(host, port, keys)
        except BaseException:
            self._context.term()
            raise
        self.address = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self._clocks = Clocks()
        self._outbox: deque[tuple[bytes, list[wire.Buffer]]] = deque()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK)
        self._waking = threading.Lock()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="socket", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Sends what is decided already and stops listening; the core goes on."""
        with self._waking:
            if self._closing:
                return
            self._closing = True
            os.eventfd_write(self._wake, 1)
        self._thread.join(timeout=5.0)
        self._context.term()
        os.close(self._wake)
        if self._gatekeeper is not None:
            self._gatekeeper.join()

    def _listen(self, host: str, port: int, keys_: ServerKeys | None) -> zmq.Socket[bytes]:
        socket = self._context.socket(zmq.ROUTER)
        try:
            for option, value in OPTIONS.items():
                socket.setsockopt(option, value)
            if keys_ is not None and self._allowed is not None:
                socket.curve_server = True
                socket.curve_secretkey = keys.secret_key(keys_.secret)
                socket.setsockopt(zmq.ZAP_DOMAIN, DOMAIN)
                self._gatekeeper = Gatekeeper(self._context, self._allowed)
            socket.bind(f"tcp://{host}:{port or '*'}")
        except zmq.ZMQError as error:
            socket.close()
            taken = error.errno == errno.EADDRINUSE
            why = f"in use{owner_of_port(port)}. Stop that, or choose another --port" if taken else f"{error.strerror}"
            raise SettingsError(f"cannot listen on {host}:{port}: {why}.") from error
        except BaseException:
            socket.close()
            raise
        return socket

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._wake, zmq.POLLIN)
        while not self._closing:
            ready = dict(poller.poll())
            if self._wake in ready:
                os.eventfd_read(self._wake)
            self._send_answers()
            if self._socket in ready:
                self._receive()
        self._send_answers()
        self._socket.close()

    def _receive(self) -> None:
        # One at a time: looking for a second one in vain would keep the model's thread from its first.
        try:
            identity, *frames = self._socket.recv_multipart(zmq.DONTWAIT, copy=False)
        except zmq.Again:
            return
        self._handle(identity.bytes, frames)
        self._send_answers()

    def _handle(self, identity: bytes, frames: list[zmq.Frame]) -> None:
        now = time.monotonic()
        encrypted = self._allowed is not None
        if not frames:
            self._core.counters.add("damaged")
            return
        revoked = self._allowed is not None and self._allowed.name(str(frames[-1].get("User-Id")).encode()) is None
        try:
            message, buffers = wire.decode_request([frame.buffer for frame in frames], checked=not encrypted)
        except WireError as error:
            # Nothing in a damaged message says reliably whom to tell.
            self._core.counters.add("damaged")
            log.debug("dropped a message: %s", error)
            return
        sent = self._clocks.sent((identity, message.session), message.clock_ms / 1000.0, now)
        if revoked:
            self._refuse(identity, message, Refused("revoked", "this client's key is no longer allowed."))
        elif isinstance(message, Act):
            self._act(identity, message, buffers, sent)
        else:
            self._post(identity, self._about(message))

    def _act(self, identity: bytes, act: Act, buffers: list[memoryview], sent: float) -> None:
        model = self._core.model
        if act.contract != model.contract:
            self._refuse(identity, act, Refused("contract", "say hello again: the policy here has other conventions."))
            return
        try:
            payload.check_observation(act, model.policy.spec)
        except WireError as error:
            self._refuse(identity, act, Refused("invalid", str(error)))
            return
        self._core.submit(
            Request(
                owner=identity,
                observe=lambda: payload.unpack_observation(act, buffers),
                answer=lambda outcome: self._answer(identity, act, outcome),
                deadline=sent + act.deadline_ms / 1000.0,
                seed=act.seed,
                temperature=act.temperature,
            )
        )

    def _about(self, message: Message) -> Message:
        """The answer to what needs no model."""
        model, core = self._core.model, self._core
        echo: dict[str, Any] = {"session": message.session, "seq": message.seq}
        if isinstance(message, Hello):
            return Card(
                **echo,
                model=model.name,
                version=model.version,
                spec=model.policy.spec,
                normalisation=model.normalisation,
                contract=model.contract,
                codecs=("raw", "jpeg") if jpeg.available() else ("raw",),
                max_batch=core.max_batch,
                quota=self._quota,
            )
        if isinstance(message, Ping):
            return Pong(**echo, version=model.version, waiting=core.waiting, busy_ms=core.busy_ms)
        return Stats(**echo, values={**core.counters.values(), "waiting": core.waiting, "max_batch": core.max_batch})

    def _answer(self, identity: bytes, act: Act, outcome: Outcome) -> None:
        """Called by the core, in any thread."""
        if isinstance(outcome, Refused):
            self._post(identity, _refusal(act, outcome))
            return
        tensors, buffers = payload.pack_chunk(outcome.chunk)
        message = Chunk(
            session=act.session,
            seq=act.seq,
            version=outcome.version,
            queue_ms=max(outcome.queue_ms, 0.0),
            infer_ms=outcome.infer_ms,
            batch=outcome.batch,
            tensors=tensors,
        )
        self._post(identity, message, buffers)

    def _refuse(self, identity: bytes, message: Message, refused: Refused) -> None:
        self._core.counters.add(refused.code)
        self._post(identity, _refusal(message, refused))

    def _post(self, identity: bytes, message: Message, buffers: list[wire.Buffer] | None = None) -> None:
        """Hands a reply to the thread of the socket."""
        frames = wire.encode(message, buffers or [], checked=self._allowed is None)
        self._outbox.append((identity, frames))
        if threading.current_thread() is not self._thread:
            with self._waking:
                if not self._closing:
                    os.eventfd_write(self._wake, 1)

    def _send_answers(self) -> None:
        while self._outbox:
            identity, frames = self._outbox.popleft()
            try:
                self._socket.send_multipart([identity, *frames], zmq.DONTWAIT)
            except zmq.ZMQError as error:
                # A client that went away or does not read gets nothing; nobody else may wait for it.
                self._core.counters.add("undelivered")
                log.debug("could not deliver an answer: %s", error)


def _refusal(message: Message, refused: Refused) -> Refusal:
    return Refusal(session=message.session, seq=message.seq, code=refused.code, message=refused.message[:4096])


def check_host(host: str, *, encrypted: bool) -> None:
    """Refuses to talk in the clear to other machines.

    Raises:
        SettingsError: The host is no address, or not this machine and there are no keys.
    """
    try:
        alone = ipaddress.ip_address(host).is_loopback
    except ValueError as error:
        raise SettingsError(f"host {host!r} is no address. Give one of an interface, such as 127.0.0.1.") from error
    if not alone and not encrypted:
        raise SettingsError(
            f"refusing to listen on {host} without keys: anyone there could steer the robot. "
            "Make keys with 'tgrpo keys', give them with --keys and --clients, or listen on 127.0.0.1."
        )
