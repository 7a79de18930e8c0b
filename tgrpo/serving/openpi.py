"""Gateway for clients of openpi: a websocket with msgpack, arrays as openpi's ``msgpack_numpy`` writes them.

The server speaks first and says what it serves. Then each message is an observation with ``observation/image``,
``observation/wrist_image``, ``observation/state`` and ``prompt``, or with ``observation/CAMERA`` by the policy's own
names, and the reply has ``actions`` ``(K, A)``. An error is a text message, which openpi's client raises.
"""

from __future__ import annotations

import contextlib
import threading
from http import HTTPStatus
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

from tgrpo import wire
from tgrpo.errors import SettingsError, WireError
from tgrpo.serving import gateway
from tgrpo.serving.core import Core
from tgrpo.serving.owner import owner_of_port
from tgrpo.serving.request import Refused
from tgrpo.serving.server import check_host
from tgrpo.types import Image, Observation

CONNECTIONS = 32
MAX_ITEMS = 512
"""Most numbers, texts and containers in one message; arrays count as one each."""
PREFIX = "observation/"
_DECODER = msgspec.msgpack.Decoder(dict[str, Any])
_SIZES = {
    0xC0: 0, 0xC2: 0, 0xC3: 0, 0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8,
}  # fmt: skip
_LENGTHS = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
_COUNTS = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}


class OpenPiGateway:
    """A websocket server in threads, for this machine only."""

    def __init__(self, core: Core, deadline_ms: float, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listens and starts.

        Args:
            core: Decides.
            deadline_ms: Time that a request may take [ms]; openpi's protocol has none of its own.
            host: An address of this machine.
            port: 0 takes a free one.

        Raises:
            SettingsError: The host is not this machine, or the port is taken.
        """
        check_host(host, encrypted=False)
        self._core = core
        self._deadline_ms = deadline_ms
        self._free = threading.Semaphore(CONNECTIONS)
        try:
            self._server = serve(
                self._serve,
                host,
                port,
                origins=[None],  # no web page; browsers always say where they come from
                compression=None,
                max_size=wire.MAX_BYTES,
                max_queue=2,
                process_request=_health,
                server_header="tgrpo",
            )
        except OSError as error:
            raise SettingsError(
                f"cannot listen on {host}:{port}: {error.strerror}{owner_of_port(port)}. Choose another --openpi-port."
            ) from error
        self.address = f"ws://{host}:{self._server.socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="openpi", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stops listening."""
        self._server.shutdown()
        self._thread.join(timeout=5.0)

    def _serve(self, connection: ServerConnection) -> None:
        if not self._free.acquire(blocking=False):
            connection.close(1013, "too many connections")
            return
        try:
            with contextlib.suppress(ConnectionClosed):
                connection.send(self._metadata())
                for message in connection:
                    connection.send(self._answer(connection, message))
        finally:
            self._free.release()

    def _metadata(self) -> bytes:
        model = self._core.model
        about = {"model": model.name, "version": model.version, "normalisation": model.normalisation}
        return msgspec.msgpack.encode({**about, "spec": msgspec.to_builtins(model.policy.spec)})

    def _answer(self, connection: ServerConnection, message: str | bytes) -> str | bytes:
        try:
            observation = self._observation(message)
        except WireError as error:
            self._core.counters.add("damaged")
            return f"invalid: {error}"
        outcome = gateway.ask(self._core, connection.id, observation, self._deadline_ms)
        if isinstance(outcome, Refused):
            return f"{outcome.code}: {outcome.message}"
        timing = {"infer_ms": outcome.infer_ms, "queue_ms": outcome.queue_ms}
        reply = {"actions": _written(outcome.chunk.actions), "server_timing": timing, "version": outcome.version}
        return msgspec.msgpack.encode(reply)

    def _observation(self, message: str | bytes) -> Observation:
        given = read(message)
        cameras = self._core.model.policy.spec.observation.cameras
        names = dict(zip(("image", "wrist_image"), cameras, strict=False))
        prompt = given.pop("prompt", "")
        state = given.pop(PREFIX + "state", None)
        if not isinstance(prompt, str) or isinstance(state, str):
            raise WireError("prompt is a text and observation/state an array.")
        images: dict[str, Image] = {}
        for key, picture in given.items():
            camera = names.get(key.removeprefix(PREFIX), key.removeprefix(PREFIX))
            if not key.startswith(PREFIX) or isinstance(picture, str) or camera in images:
                raise WireError(f"unexpected {key[:64]!r}. Valid: prompt, {PREFIX}state, {PREFIX}image and so on.")
            images[camera] = picture
        return Observation(images, prompt, gateway.proprio(state))


def read(message: str | bytes) -> dict[str, str | NDArray[Any]]:
    """Texts and arrays of a message.

    Raises:
        WireError: It is malformed, or has anything else in it.
    """
    if isinstance(message, str):
        raise WireError("send msgpack in a binary message.")
    _check_items(message)
    try:
        return {key: _read(value) for key, value in _DECODER.decode(message).items()}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"malformed message: {error}.") from error


def _read(value: Any) -> str | NDArray[Any]:
    if isinstance(value, str):
        return value
    if not isinstance(value, dict) or value.keys() != {b"__ndarray__", b"data", b"dtype", b"shape"}:
        raise WireError("a value is a text or an array with __ndarray__, data, dtype and shape.")
    data, dtype, shape = value[b"data"], value[b"dtype"], value[b"shape"]
    whole = isinstance(shape, list) and all(type(size) is int for size in shape)
    if not (isinstance(data, bytes) and isinstance(dtype, str) and whole):
        raise WireError("an array has bytes as data, a text as dtype and whole numbers as shape.")
    return gateway.array(data, dtype, shape)


def _written(array: NDArray[np.float32]) -> dict[bytes, Any]:
    return {b"__ndarray__": True, b"data": array.tobytes(), b"dtype": array.dtype.str, b"shape": list(array.shape)}


def _check_items(data: bytes) -> None:
    """Counts what a message holds without building it: a few bytes could stand for a great many objects.

    Raises:
        WireError: There is too much, or it is cut off.
    """
    place, left, seen = 0, 1, 0
    while left:
        left, seen = left - 1, seen + 1
        if seen > MAX_ITEMS or place >= len(data):
            raise WireError(f"a message has at most {MAX_ITEMS} items and ends with the last one.")
        mark = data[place]
        place += 1
        if 0x80 <= mark <= 0x9F:
            left += (mark & 0x0F) * (2 if mark < 0x90 else 1)
        elif 0xA0 <= mark <= 0xBF:
            place += mark & 0x1F
        elif mark in _LENGTHS:
            width = _LENGTHS[mark]
            place += width + int.from_bytes(data[place : place + width], "big")
        elif mark in _COUNTS:
            width, each = _COUNTS[mark]
            left += int.from_bytes(data[place : place + width], "big") * each
            place += width
        elif mark in _SIZES:
            place += _SIZES[mark]
        elif 0x7F < mark < 0xE0:
            raise WireError(f"unexpected type 0x{mark:02x} in a message.")


def _health(connection: ServerConnection, request: Request) -> Response | None:
    return connection.respond(HTTPStatus.OK, "OK\n") if request.path == "/healthz" else None
