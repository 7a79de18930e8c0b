"""Clients that mean no good, for tests and for `serving.py`: they flood, do not read, or send what is no message."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import zmq

from benchmarks.mutations import mutated


def attackers(port: int, request: list[Any], rate: float, stop: threading.Event) -> list[Callable[[], None]]:
    """Five of them, each to be run in a thread until the event is set.

    Args:
        port: Of the server on this machine.
        request: Frames of a valid request.
        rate: Messages that each one sends in a second [1/s].
        stop: Ends them.
    """
    junk = (frames for frames in mutated(10**9, seed=3) if frames)
    return [
        lambda: _send(port, _always(request), rate, stop),
        lambda: _send(port, _always(request), rate, stop),
        lambda: _send(port, _always(request), rate / 2, stop, RCVHWM=1, RCVBUF=4096, read=False),
        lambda: _send(port, junk, rate, stop),
        lambda: _raw(port, stop),
    ]


def _always(frames: list[Any]) -> Iterator[list[Any]]:
    while True:
        yield frames


def _send(port: int, messages: Iterator[list[Any]], rate: float, stop: threading.Event, **options: int) -> None:
    read = options.pop("read", True)
    with zmq.Context() as context, context.socket(zmq.DEALER) as made:
        made.setsockopt(zmq.LINGER, 0)
        for name, value in options.items():
            made.setsockopt(getattr(zmq, name), value)
        made.connect(f"tcp://127.0.0.1:{port}")
        while not stop.wait(1 / rate):
            with contextlib.suppress(zmq.Again):
                made.send_multipart(next(messages), zmq.DONTWAIT)
            with contextlib.suppress(zmq.Again):
                while read:
                    made.recv_multipart(zmq.DONTWAIT)


def _raw(port: int, stop: threading.Event) -> None:
    rng = random.Random(4)
    while not stop.is_set():
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as made:
            made.sendall(rng.choice([b"GET / HTTP/1.1\r\n\r\n", rng.randbytes(500), b"\xff" + b"\x00" * 8 + b"\x7f"]))
            stop.wait(0.02)
