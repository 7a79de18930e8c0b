"""Asks a policy server for actions. Needs numpy, msgspec, pyzmq and xxhash: no torch, no ROS.

Example::

    with PolicyClient("tcp://127.0.0.1:5757", embodiment=robot) as client:
        client.hello()                                      # refuses a policy that means something else
        chunk = client.act(observation, deadline_ms=200)    # answers, or raises within 200 ms

A client never blocks past its deadline. libzmq is not trusted to reconnect, because after some failures it never does:
after three misses in a row the socket is replaced and a new session begins.
"""

from __future__ import annotations

import math
import time
import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

import zmq
from zmq.utils.monitor import recv_monitor_message

from tgrpo import payload, wire
from tgrpo.errors import BusyError, DeadlineError, HandshakeError, PolicyError, SpecError, WireError
from tgrpo.keys import ClientKeys, secure
from tgrpo.payload import Codec
from tgrpo.spec import Embodiment, check_compatible, check_sees
from tgrpo.types import ActionChunk, Observation
from tgrpo.wire import Act, Card, Chunk, GetStats, Hello, Ping, Pong, Refusal, Stats

MISSES = 3
"""Unanswered requests in a row after which the socket is replaced."""
_FAILED = zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
_ERRORS: dict[str, type[PolicyError]] = {"busy": BusyError, "expired": DeadlineError}
R = TypeVar("R", bound=wire.Message)


@dataclass(frozen=True, eq=False)
class ServedChunk(ActionChunk):
    """A chunk of actions, and which weights decided it."""

    version: str = ""
    queue_ms: float = 0.0
    """Time that the request waited for the model [ms]."""
    infer_ms: float = 0.0
    """Time that the model took for the whole batch [ms]."""


class PolicyClient:
    """A connection to one policy server, for one thread."""

    def __init__(
        self,
        address: str,
        keys: ClientKeys | None = None,
        *,
        embodiment: Embodiment | None = None,
        codec: Codec = "raw",
        seed: int = 0,
    ) -> None:
        """Prepares a connection; nothing is sent before the first request.

        Args:
            address: For example ``tcp://127.0.0.1:5757``.
            keys: Key files; needed where the server has keys.
            embodiment: Conventions of the robot that will execute the actions, compared with the policy's.
            codec: How pictures are sent; ``jpeg`` for slow or encrypted links.
            seed: Seed of the first request; each one after it takes the next number.
        """
        self._address = address
        self._keys = keys
        self._embodiment = embodiment
        self._codec = codec
        self._next_seed = seed
        self._seq = 0
        self._misses = 0
        self._session = ""
        self._socket: zmq.Socket[bytes] | None = None
        self._monitor: zmq.Socket[bytes] | None = None
        self._poller = zmq.Poller()
        self._card: Card | None = None

    def __enter__(self) -> PolicyClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Ends the session; the next request would begin a new one."""
        self._card = None
        self._misses = 0
        if self._socket is not None:
            self._socket.disable_monitor()
            self._socket.close(linger=0)
        self._socket = self._monitor = None

    def hello(self, deadline_ms: float = 2000.0) -> Card:
        """The model card of the server.

        Raises:
            SpecError: The policy and the robot have different conventions; both sides are named.
            HandshakeError: Keys do not fit.
            DeadlineError: No answer in time.
        """
        return self._greet(_until(deadline_ms))

    def act(
        self, observation: Observation, deadline_ms: float, *, temperature: float = 0.0, seed: int | None = None
    ) -> ServedChunk:
        """Asks for one chunk of actions.

        Args:
            observation: What the robot sees.
            deadline_ms: Time until this returns or raises [ms]; the server does not compute what would come too late.
            temperature: 0 takes the most likely bins, anything above samples at that temperature.
            seed: Decides what is sampled; counts up by default.

        Raises:
            DeadlineError: No answer in time.
            BusyError: Too many requests wait at the server.
            PolicyError: The policy failed on this observation.
            SpecError: The server serves a policy with other conventions than the robot's.
            HandshakeError: Keys do not fit.
        """
        until = _until(deadline_ms)
        tensors, buffers = payload.pack_observation(observation, self._codec)
        chosen, self._next_seed = (self._next_seed, self._next_seed + 1) if seed is None else (seed, self._next_seed)
        for _ in range(2):
            card = self._card or self._greet(until)
            request = self._act(card, observation, until, chosen, temperature, tensors)
            reply, parts = self._ask(request, buffers, until)
            if isinstance(reply, Refusal) and reply.code == "contract":
                self._card = None  # another policy is served now: compare its card before asking again
                continue
            return _served(_expect(reply, Chunk), parts, card)
        raise PolicyError(f"{self._address} changed its policy twice during one request.")

    def act_all(
        self, observations: Sequence[Observation], deadline_ms: float, *, temperature: float, seeds: Sequence[int]
    ) -> list[ServedChunk]:
        """Asks for a chunk for each of some observations at once, for example of simulators side by side.

        Args:
            observations: At most the server's quota.
            deadline_ms: Time until all are there or this raises [ms].
            temperature: As for :meth:`act`.
            seeds: One for each observation.

        Raises:
            PolicyError: As :meth:`act`; one that is refused spoils the others.
        """
        until = _until(deadline_ms)
        card = self._card or self._greet(until)
        asked = []
        for observation, seed in zip(observations, seeds, strict=True):
            tensors, buffers = payload.pack_observation(observation, self._codec)
            request = self._act(card, observation, until, seed, temperature, tensors)
            asked.append((request, buffers))
        return [_served(_expect(reply, Chunk), parts, card) for reply, parts in self._ask_all(asked, until)]

    def ping(self, deadline_ms: float = 1000.0) -> Pong:
        """Health of the server; answered also while its model is busy."""
        return _expect(self._ask(Ping(**self._head()), [], _until(deadline_ms))[0], Pong)

    def stats(self, deadline_ms: float = 1000.0) -> dict[str, float]:
        """Counters of the server."""
        return dict(_expect(self._ask(GetStats(**self._head()), [], _until(deadline_ms))[0], Stats).values)

    def _act(
        self,
        card: Card,
        observation: Observation,
        until: float,
        seed: int,
        temperature: float,
        tensors: tuple[wire.Tensor, ...],
    ) -> Act:
        return Act(
            **self._head(),
            contract=card.contract,
            deadline_ms=max((until - time.monotonic()) * 1000.0, 0.001),
            instruction=observation.instruction,
            seed=seed,
            temperature=temperature,
            tensors=tensors,
        )

    def _greet(self, until: float) -> Card:
        card = _expect(self._ask(Hello(**self._head()), [], until)[0], Card)
        if card.contract != wire.contract_of(card.spec, card.normalisation):
            raise SpecError(f"{self._address}: the model card contradicts itself. Update the older side.")
        if self._embodiment is not None:
            _check_card(card, self._embodiment, self._address)
        self._card = card
        return card

    def _head(self) -> dict[str, Any]:
        """Fields that every request has; begins a session if there is none."""
        if self._socket is None:
            self._connect()
        self._seq += 1
        return {"session": self._session, "seq": self._seq, "clock_ms": time.monotonic() * 1000.0}

    def _connect(self) -> None:
        socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        try:
            socket.setsockopt(zmq.LINGER, 0)
            socket.setsockopt(zmq.IMMEDIATE, 1)  # nothing waits for a server that may come back later
            socket.setsockopt(zmq.RECONNECT_IVL, 50)
            socket.setsockopt(zmq.RECONNECT_IVL_MAX, 500)
            socket.setsockopt(zmq.MAXMSGSIZE, wire.MAX_BYTES)
            socket.setsockopt(zmq.HANDSHAKE_IVL, 1500)
            if self._keys is not None:
                secure(socket, self._keys)
            self._monitor = socket.get_monitor_socket(_FAILED)
            self._poller = zmq.Poller()
            self._poller.register(self._monitor, zmq.POLLIN)
            socket.connect(self._address)
        except BaseException:
            socket.close(linger=0)
            raise
        self._socket, self._session = socket, uuid.uuid4().hex

    def _ask(
        self, request: wire.Message, buffers: list[wire.Buffer], until: float
    ) -> tuple[wire.Reply, list[memoryview]]:
        """Sends a request and waits for its own reply."""
        return self._ask_all([(request, buffers)], until)[0]

    def _ask_all(
        self, requests: Sequence[tuple[wire.Message, list[wire.Buffer]]], until: float
    ) -> list[tuple[wire.Reply, list[memoryview]]]:
        """Sends some requests and waits for their replies; replies to anything else are dropped."""
        checked = self._keys is None
        waiting = deque(wire.encode(request, buffers, checked=checked) for request, buffers in requests)
        replies: dict[int, tuple[wire.Reply, list[memoryview]]] = {}
        numbers = [request.seq for request, _ in requests]
        try:
            while len(replies) < len(numbers):
                self._send_what_fits(waiting)
                if not self._wait(zmq.POLLIN | (zmq.POLLOUT if waiting else 0), until) & zmq.POLLIN:
                    continue
                parts = [frame.buffer for frame in self._open.recv_multipart(zmq.DONTWAIT, copy=False)]
                try:
                    reply, tensors = wire.decode_reply(parts, checked=checked)
                except WireError:
                    continue  # damaged on its way: as good as lost
                if reply.session == self._session and reply.seq in numbers:
                    self._misses = 0
                    replies[reply.seq] = reply, tensors
        except DeadlineError:
            self._misses += 1
            if self._misses >= MISSES:
                self.close()
            raise
        except HandshakeError:
            self.close()
            raise
        return [replies[number] for number in numbers]

    def _send_what_fits(self, waiting: deque[list[wire.Buffer]]) -> None:
        """Sends messages until one would have to wait; where the connection stands, as it nearly always does, all."""
        while waiting:
            try:
                self._open.send_multipart(waiting[0], zmq.DONTWAIT)
            except zmq.Again:
                return
            waiting.popleft()

    def _wait(self, event: int, until: float) -> int:
        """Waits until the socket can send or receive; returns which.

        Raises:
            DeadlineError: Not in time.
            HandshakeError: The server and this client do not accept each other.
        """
        self._poller.register(self._open, event)
        while True:
            left = until - time.monotonic()
            ready = dict(self._poller.poll(math.ceil(max(left, 0.0) * 1000.0)))
            if self._monitor is not None and self._monitor in ready:
                failed = int(recv_monitor_message(self._monitor)["event"])
                raise HandshakeError(f"{self._address}: {_reason(failed, with_keys=self._keys is not None)}")
            if self._open in ready:
                return int(ready[self._open])
            if left <= 0:
                doing = "no connection to" if event & zmq.POLLOUT else "no answer from"
                raise DeadlineError(f"{doing} {self._address} before the deadline. Is 'tgrpo serve' running there?")

    @property
    def _open(self) -> zmq.Socket[bytes]:
        if self._socket is None:
            raise DeadlineError(f"the connection to {self._address} was closed.")
        return self._socket


def _served(chunk: Chunk, parts: list[memoryview], card: Card) -> ServedChunk:
    decided = payload.unpack_chunk(chunk, parts, card.spec)
    times = {"queue_ms": chunk.queue_ms, "infer_ms": chunk.infer_ms}
    return ServedChunk(decided.actions, decided.tokens, decided.log_probs, version=chunk.version, **times)


def _until(deadline_ms: float) -> float:
    return time.monotonic() + deadline_ms / 1000.0


def _reason(event: int, *, with_keys: bool) -> str:
    """Why a handshake failed; libzmq tells an unknown client, but no other cause from the rest."""
    if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
        return "the server does not know this client's key. Copy the client's .pub file into its folder of clients."
    if with_keys:
        return (
            "the server's public key is not the one given here, or the server has no keys, or is no policy server. "
            "Copy the server's .pub file anew."
        )
    return "the server wants keys, or is no policy server. Give keys=ClientKeys(...), made by 'tgrpo keys'."


def _expect(reply: wire.Reply, kind: type[R]) -> R:
    """The reply if it is of the kind that was asked for.

    Raises:
        PolicyError: The server refused, or answered something else.
    """
    if isinstance(reply, kind):
        return reply
    if isinstance(reply, Refusal):
        if reply.code == "revoked":
            raise HandshakeError(reply.message)
        raise _ERRORS.get(reply.code, PolicyError)(f"{reply.message} (request {reply.session[:8]}/{reply.seq})")
    raise PolicyError(f"the server answered {type(reply).__name__} instead of {kind.__name__}.")


def _check_card(card: Card, embodiment: Embodiment, address: str) -> None:
    where = f"{card.model} at {address}"
    try:
        check_compatible(card.spec.action, embodiment.action)
        check_sees(card.spec.observation, embodiment.observation)
    except SpecError as error:
        raise SpecError(f"{where}: {error}") from error
    if embodiment.normalisation is not None and card.normalisation != embodiment.normalisation:
        raise SpecError(
            f"{where}: normalisation: policy {card.normalisation!r}, embodiment {embodiment.normalisation!r}. "
            "Serve a checkpoint with this robot's statistics."
        )
