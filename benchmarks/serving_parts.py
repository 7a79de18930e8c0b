"""What `serving.py` measures with: an emulated model, servers in processes of their own, and clients in threads."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import multiprocessing.connection
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import zmq
from websockets.asyncio.server import ServerConnection, serve
from websockets.sync.client import connect

from benchmarks.hostile import attackers
from tgrpo import payload, wire
from tgrpo.client import PolicyClient
from tgrpo.errors import TgrpoError
from tgrpo.serving.core import Core
from tgrpo.serving.model import ServedModel
from tgrpo.serving.server import Server
from tgrpo.spec import ObservationSpec, PolicySpec
from tgrpo.types import ActionChunk, Observation


class Emulated:
    """A policy that takes a fixed time for a batch and a little more for each item of it."""

    def __init__(self, size: int, batch_ms: float, item_ms: float) -> None:
        self.spec = PolicySpec(observation=ObservationSpec(cameras=("agentview",), size=size))
        self._batch_s, self._item_s = batch_ms / 1000.0, item_ms / 1000.0
        self._chunk = ActionChunk(np.zeros((8, 7), np.float32))

    def reset(self, seeds: Sequence[int]) -> None:
        """Nothing is sampled."""

    def act(
        self, observations: Sequence[Observation], *, temperature: float = 0.0, rows: Sequence[int] | None = None
    ) -> list[ActionChunk]:
        """Rests for as long as a model would compute."""
        if self._batch_s:
            time.sleep(self._batch_s + self._item_s * len(observations))
        return [self._chunk] * len(observations)


def look(size: int) -> Observation:
    """One camera's picture of noise."""
    image = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    return Observation({"agentview": image}, "put the bowl on the plate")


def free_port() -> int:
    """A port that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _ours(port: int, model: tuple[int, float, float], ready: Any) -> None:
    served = ServedModel(Emulated(*model), "emulated", "emulated@1")
    server = Server(Core(served, max_batch=64, window=0.002, quota=2), port=port)
    ready.set()
    threading.Event().wait()
    server.close()


def _openpi_way(port: int, model: tuple[int, float, float], ready: Any) -> None:
    """A server as openpi has it: arrays inside msgpack, and the model computes in the loop that reads."""
    policy = Emulated(*model)

    async def answer(connection: ServerConnection) -> None:
        await connection.send(msgspec.msgpack.encode({}))
        async for message in connection:
            packed = msgspec.msgpack.decode(message)["observation/image"]
            image = np.ndarray(buffer=packed[b"data"], dtype=packed[b"dtype"], shape=packed[b"shape"])
            [chunk] = policy.act([Observation({"agentview": image}, "")])
            await connection.send(msgspec.msgpack.encode({"actions": packed_array(chunk.actions)}))

    async def run() -> None:
        async with serve(answer, "127.0.0.1", port, compression=None, max_size=None):
            ready.set()
            await asyncio.get_running_loop().create_future()

    asyncio.run(run())


def _echo(port: int, model: tuple[int, float, float], ready: Any) -> None:
    """What ZeroMQ itself takes: nothing is looked at, and as many bytes as a chunk has go back."""
    chunk = bytes(8 * 7 * 4)
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        socket.bind(f"tcp://127.0.0.1:{port}")
        ready.set()
        while True:
            identity, *_ = socket.recv_multipart(copy=False)
            socket.send_multipart([identity, b"", chunk])


SERVERS = {"ours": _ours, "openpi": _openpi_way, "echo": _echo}


def packed_array(array: np.ndarray[Any, Any]) -> dict[bytes, Any]:
    """An array as openpi's client writes it."""
    return {b"__ndarray__": True, b"data": array.tobytes(), b"dtype": array.dtype.str, b"shape": array.shape}


@contextlib.contextmanager
def serving(way: str, model: tuple[int, float, float], port: int | None = None) -> Iterator[tuple[int, Any]]:
    """A server process of :data:`SERVERS`, with an emulated model of (picture [px], batch [ms], item [ms]).

    Yields:
        Its port and its process.
    """
    spawn = multiprocessing.get_context("spawn")
    chosen, ready = port or free_port(), spawn.Event()
    process = spawn.Process(target=SERVERS[way], args=(chosen, model, ready), daemon=True)
    process.start()
    if not ready.wait(120):
        raise RuntimeError("the server did not start")
    try:
        yield chosen, process
    finally:
        process.kill()
        process.join()


Ask = Callable[[], object]


@contextlib.contextmanager
def asking(way: str, port: int, size: int, deadline_ms: float = 10_000.0) -> Iterator[Ask]:
    """One client of a server; call the result to ask once."""
    shown = look(size)
    if way == "ours":
        with PolicyClient(f"tcp://127.0.0.1:{port}") as client:
            client.hello(20_000)
            yield lambda: client.act(shown, deadline_ms)
        return
    if way == "echo":
        with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
            socket.connect(f"tcp://127.0.0.1:{port}")
            picture = shown.images["agentview"].data.cast("B")
            yield lambda: (socket.send_multipart([b"", picture]), socket.recv_multipart())
        return
    with connect(f"ws://127.0.0.1:{port}", compression=None, max_size=None) as connection:
        connection.recv()

        def ask() -> object:
            packed = packed_array(shown.images["agentview"])
            connection.send(msgspec.msgpack.encode({"observation/image": packed, "prompt": shown.instruction}))
            return msgspec.msgpack.decode(connection.recv())

        yield ask


@dataclass
class Honest:
    """What one honest client saw."""

    took_ms: list[float] = field(default_factory=list)
    failed: int = 0
    longest_ms: float = 0.0
    back_at: float | None = None


def honest(
    port: int, size: int, deadline_ms: float, period: float, until: threading.Event
) -> tuple[Honest, threading.Thread]:
    """A client in a thread that asks once in each period [s], until it is told to stop."""
    seen = Honest()

    def run() -> None:
        shown = look(size)
        time.sleep(random.random() * period)  # spreads the clients
        with PolicyClient(f"tcp://127.0.0.1:{port}") as client:
            while not until.is_set():
                started = time.monotonic()
                try:
                    client.act(shown, deadline_ms)
                    seen.took_ms.append((time.monotonic() - started) * 1000)
                    seen.back_at = time.monotonic()
                except TgrpoError:
                    seen.failed += 1
                seen.longest_ms = max(seen.longest_ms, (time.monotonic() - started) * 1000)
                until.wait(max(0.0, period - (time.monotonic() - started)))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return seen, thread


def crowd(port: int, size: int, clients: int, deadline_ms: float, period: float, pipe: Any) -> None:
    """A process of honest clients; ends when the other end of the pipe says so, and sends what they saw."""
    stop = threading.Event()
    group = [honest(port, size, deadline_ms, period, stop) for _ in range(clients)]
    pipe.recv()
    stop.set()
    for _, thread in group:
        thread.join()
    pipe.send([seen for seen, _ in group])


def hostile(port: int, size: int) -> None:
    """A process of five bad clients; see :mod:`benchmarks.hostile`."""
    contract = wire.contract_of(Emulated(size, 0, 0).spec, "none")
    tensors, buffers = payload.pack_observation(look(size))
    head: dict[str, Any] = {"session": "flood", "seq": 1, "clock_ms": 1.0, "contract": contract, "temperature": 0.0}
    act = wire.encode(wire.Act(**head, deadline_ms=500.0, instruction="", seed=0, tensors=tensors), buffers)
    for target in attackers(port, act, 1000, threading.Event()):
        threading.Thread(target=target, daemon=True).start()
    threading.Event().wait()
