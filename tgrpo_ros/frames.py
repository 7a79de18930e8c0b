"""Pictures between processes of one machine, over ZeroMQ: raw, without a copy on the way, always the newest.

Default Fast DDS loses more than half of the raw 640x480 pictures of two cameras; see ``docs/robot.md``. Each camera
is a publisher with two topics: ``frame`` carries the picture, ``mark`` the same without it, for the safety layer, which
only has to know that the camera works. Whoever subscribes late is sent the newest one at once.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import zmq

from tgrpo import private_folder
from tgrpo.errors import SettingsError
from tgrpo.types import Image
from tgrpo_ros.drivers.base import Domain, Frame
from tgrpo_ros.safety.cameras import digest

FRAME, MARK = b"frame", b"mark"
LIMIT = 64 * 2**20
"""Longest message that is received [bytes]."""
WAITING = 8
"""Pictures that wait for a reader; the reader takes the newest and counts the others."""


class Header(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is known about a picture without looking at it."""

    camera: str
    sender: str
    """Names one start of the camera; its sequence begins anew with it."""
    sequence: int
    captured: float
    """On the steady clock of the arm or machine [s]."""
    digest: int
    height: int
    width: int
    domain: Domain


@dataclass(frozen=True, eq=False)
class Sighting:
    """A picture that arrived."""

    header: Header
    image: Image | None
    """Upright RGB ``(H, W, 3)``, read-only; None for a mark."""


_decoder = msgspec.msgpack.Decoder(Header)


def address_of(camera: str, namespace: str = "") -> str:
    """Where a camera's pictures are, the same for every node of a ROS domain and namespace on this machine."""
    domain = os.environ.get("ROS_DOMAIN_ID", "0") or "0"
    parts = ["frames", domain, *namespace.strip("/").split("/"), camera]
    return f"ipc://{private_folder.path() / '-'.join(part for part in parts if part)}"


def check_address(address: str) -> None:
    """Refuses addresses that other machines reach.

    Raises:
        SettingsError: It is not on this machine.
    """
    if not address.startswith(("ipc://", "tcp://127.0.0.1:")):
        raise SettingsError(
            f"frames address {address!r} is not of this machine; use ipc://PATH or tcp://127.0.0.1:PORT."
        )


class FrameSender:
    """Publishes the pictures of one camera, from one thread."""

    def __init__(self, address: str, camera: str) -> None:
        """Listens.

        Args:
            address: Where; of this machine.
            camera: The view's name.

        Raises:
            SettingsError: The address cannot be used.
        """
        check_address(address)
        if address.startswith(f"ipc://{private_folder.path()}"):
            private_folder.ensure(private_folder.path())
        self._camera, self._sender = camera, secrets.token_hex(4)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.XPUB)
        self._socket.linger, self._socket.sndhwm = 0, WAITING
        self._socket.setsockopt(zmq.XPUB_VERBOSE, 1)
        self._newest: dict[bytes, list[Any]] = {}
        try:
            self._socket.bind(address)
        except zmq.ZMQError as error:
            self.close()
            raise SettingsError(f"cannot send frames at {address}: {error.strerror}.") from error

    def send(self, frame: Frame) -> Header:
        """Publishes a picture to whoever listens, without waiting for anybody."""
        image = np.ascontiguousarray(frame.image)
        header = Header(
            camera=self._camera,
            sender=self._sender,
            sequence=frame.sequence,
            captured=frame.captured,
            digest=digest(image),
            height=image.shape[0],
            width=image.shape[1],
            domain=frame.domain,
        )
        words = msgspec.msgpack.encode(header)
        self._newest = {FRAME: [FRAME, words, image.data], MARK: [MARK, words]}
        self.greet()
        for message in self._newest.values():
            self._socket.send_multipart(message, copy=False)
        return header

    def greet(self) -> None:
        """Sends the newest picture to those who have subscribed since the last call."""
        with contextlib.suppress(zmq.Again):
            while True:
                event = self._socket.recv(zmq.DONTWAIT)
                message = self._newest.get(event[1:])
                if event[:1] == b"\x01" and message is not None:
                    self._socket.send_multipart(message, copy=False)

    def close(self) -> None:
        """Frees the address. May be called more than once."""
        self._socket.close()
        self._context.term()


class FrameReceiver:
    """Takes the newest pictures of some cameras, in one thread.

    Attributes:
        received: New pictures of each camera that arrived.
        lost: Pictures of each camera that never arrived, by the gaps in their numbers.
        skipped: Pictures of each camera that arrived together with a newer one and were not looked at.
    """

    def __init__(self, addresses: Mapping[str, str], *, images: bool) -> None:
        """Connects; the cameras need not be there yet.

        Args:
            addresses: Camera name to its address.
            images: Whether to receive pictures, or marks only.
        """
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._poller = zmq.Poller()
        self._sockets: dict[str, zmq.Socket[bytes]] = {}
        self._last: dict[str, Header] = {}
        self.received, self.lost, self.skipped = (dict.fromkeys(addresses, 0) for _ in range(3))
        for camera, address in addresses.items():
            check_address(address)
            socket = self._context.socket(zmq.SUB)
            socket.linger, socket.maxmsgsize, socket.rcvhwm = 0, LIMIT, WAITING
            socket.setsockopt(zmq.SUBSCRIBE, FRAME if images else MARK)
            socket.connect(address)
            self._sockets[camera] = socket
            self._poller.register(socket, zmq.POLLIN)

    def receive(self, timeout: float) -> dict[str, Sighting]:
        """The newest new picture of each camera that has one.

        Args:
            timeout: How long to wait for the first one [s].
        """
        found: dict[str, Sighting] = {}
        for sighting in self.arrivals(timeout):
            camera = sighting.header.camera
            self.skipped[camera] += camera in found
            found[camera] = sighting
        return found

    def arrivals(self, timeout: float) -> list[Sighting]:
        """Every new picture of every camera, for whoever records them.

        Args:
            timeout: How long to wait for the first one [s].
        """
        ready = dict(self._poller.poll(int(timeout * 1000.0)))
        return [
            sighting
            for camera, socket in self._sockets.items()
            if socket in ready
            for sighting in self._arrived(camera, socket)
        ]

    def close(self) -> None:
        """Disconnects. May be called more than once."""
        for socket in self._sockets.values():
            socket.close()
        self._context.term()

    def _arrived(self, camera: str, socket: zmq.Socket[bytes]) -> Iterable[Sighting]:
        with contextlib.suppress(zmq.Again):
            while True:
                parts = socket.recv_multipart(zmq.DONTWAIT, copy=False)
                sighting = _decoded([part.buffer for part in parts])
                if sighting is not None and sighting.header.camera == camera and self._is_new(sighting.header):
                    yield sighting

    def _is_new(self, header: Header) -> bool:
        """Whether a picture was not seen before; counts those that are missing before it."""
        last = self._last.get(header.camera)
        if last is not None and last.sender == header.sender:
            if header.sequence <= last.sequence:
                return False
            self.lost[header.camera] += header.sequence - last.sequence - 1
        self._last[header.camera] = header
        self.received[header.camera] += 1
        return True


def _decoded(parts: list[memoryview]) -> Sighting | None:
    """What a message says; None if it is damaged."""
    try:
        header = _decoder.decode(parts[1])
        if len(parts) == 2:
            return Sighting(header, None)
        return Sighting(header, np.frombuffer(parts[2], np.uint8).reshape(header.height, header.width, 3))
    except (IndexError, ValueError, msgspec.MsgspecError):
        return None
