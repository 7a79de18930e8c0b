"""A driver that runs in a process of its own: started, fed with messages, killed without mercy.

Hardware libraries hang, crash and hold Python's lock; in a child they do that alone. Messages are msgpack, each after
its length, over a socket pair that nobody else can open.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import msgspec

from tgrpo.errors import RobotFault

LIMIT = 64 * 2**20
"""Longest message [bytes]: a picture of 4096 by 4096."""
_LENGTH = struct.Struct("!I")
_CHUNK = 1 << 20
M = TypeVar("M")


class Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag=True):
    """Base of all messages between a driver and its process."""


class Failed(Message, frozen=True):
    """The process cannot do what it is for, and ends."""

    reason: str


class Channel(Generic[M]):
    """One end of a socket pair. Reading never blocks longer than asked; writing waits until there is room."""

    def __init__(self, end: socket.socket, kinds: Any) -> None:
        """Takes over a socket.

        Args:
            end: Of the pair.
            kinds: Union of the messages that may arrive.
        """
        self._socket = end
        self._socket.setblocking(False)
        self._decoder: msgspec.msgpack.Decoder[M] = msgspec.msgpack.Decoder(kinds)
        self._buffer = bytearray()
        self._selector = selectors.DefaultSelector()
        self._selector.register(end, selectors.EVENT_READ)

    def send(self, message: Message, patience: float = 1.0) -> None:
        """Sends a message.

        Raises:
            EOFError: The other end is closed or has not read for too long [s].
        """
        data = msgspec.msgpack.encode(message)
        self._socket.settimeout(patience)
        try:
            self._socket.sendall(_LENGTH.pack(len(data)) + data)
        except OSError as error:
            raise EOFError(f"the other process does not listen: {error}") from error
        finally:
            self._socket.setblocking(False)

    def receive(self, timeout: float) -> list[M]:
        """All messages that have arrived, oldest first.

        Args:
            timeout: How long to wait if there is none [s].

        Raises:
            EOFError: The other end is closed, or sent what is no message.
        """
        messages = self._complete()
        if not messages and self._selector.select(timeout):
            self._fill()
            messages = self._complete()
        return messages

    def close(self) -> None:
        """Closes this end."""
        self._selector.close()
        self._socket.close()

    def _fill(self) -> None:
        while True:
            try:
                data = self._socket.recv(_CHUNK)
            except BlockingIOError:
                return
            except OSError as error:
                raise EOFError(str(error)) from error
            if not data:
                if self._buffer:
                    return
                raise EOFError("the other process is gone")
            self._buffer += data
            if len(data) < _CHUNK:
                return

    def _complete(self) -> list[M]:
        messages: list[M] = []
        while len(self._buffer) >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(self._buffer)
            if size > LIMIT:
                raise EOFError(f"the other process announces a message of {size} bytes")
            end = _LENGTH.size + size
            if len(self._buffer) < end:
                break
            try:
                messages.append(self._decoder.decode(memoryview(self._buffer)[_LENGTH.size : end]))
            except msgspec.MsgspecError as error:
                raise EOFError(f"the other process sent what is no message: {error}") from error
            del self._buffer[:end]
        return messages


class ChildProcess(Generic[M]):
    """A driver's process. It ends when this one does, as its socket then closes.

    Attributes:
        channel: To talk to it.
    """

    def __init__(self, module: str, kinds: Any, environment: Sequence[tuple[str, str]] = ()) -> None:
        """Starts ``python -m module``, which calls :func:`serve`.

        Args:
            module: To run.
            kinds: Union of the messages that it sends.
            environment: Variables to add.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                env={**os.environ, **dict(environment)},
                start_new_session=True,
            )
        self.channel: Channel[M] = Channel(ours, kinds)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def close(self, patience: float = 2.0) -> None:
        """Ends it: by closing its socket, and by force where that is not enough [s]."""
        self.channel.close()
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """Ends it at once."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()
        self.channel.close()


def serve(kinds: Any) -> Channel[Any]:
    """The child's end of the channel.

    Args:
        kinds: Union of the messages that may arrive.
    """
    return Channel(socket.socket(fileno=int(sys.argv[1])), kinds)


def failed(messages: Sequence[object]) -> None:
    """Raises what a process said about its failure.

    Raises:
        RobotFault: One of the messages is a :class:`Failed`.
    """
    for message in messages:
        if isinstance(message, Failed):
            raise RobotFault(message.reason)
