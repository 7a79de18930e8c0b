"""The messages between a policy server and its clients: one schema, one version, and nothing that runs code.

A message is one frame with a prefix and a msgpack header, and one raw frame for each tensor that the header lists::

    [magic, version, checked, checksum | header]  [buffer 0]  ...  [buffer n]

Everything is checked before it is used: the number of frames and bytes, the checksum, every field of the header, and
that each buffer has exactly the bytes that its shape and type ask for. Whatever a peer sends, :func:`decode` either
returns a message or raises :class:`~tgrpo.errors.WireError`; arrays are views of the frames, so nothing is allocated
because a peer said so.

The checksum (XXH3, 64 bits) covers header and buffers. It is for plain connections, which deliver damaged bytes
silently; encrypted ones authenticate every byte themselves.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, get_args

import msgspec
import numpy as np
import xxhash
from msgspec import Meta
from numpy.typing import NDArray

from tgrpo.errors import WireError
from tgrpo.settings import Strict
from tgrpo.spec import PolicySpec

VERSION = 3
MAGIC = b"TGRP"
MAX_FRAMES = 16
MAX_BYTES = 16 * 2**20
"""Most bytes of one message in all."""
MAX_HEADER = 64 * 2**10
PREFIX = struct.Struct("<4sBBHQ")
"""Magic, version, whether the checksum was computed, zero, checksum."""

Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=64)]
Text: TypeAlias = Annotated[str, Meta(max_length=4096)]
Natural: TypeAlias = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Milliseconds: TypeAlias = Annotated[float, Meta(ge=0, le=1e15)]
Dim: TypeAlias = Annotated[int, Meta(ge=0, le=2**24)]
DType: TypeAlias = Literal["uint8", "int64", "float32"]
_DTYPES: dict[np.dtype[Any], DType] = {np.dtype(name): name for name in get_args(DType)}
"""The names of types, which numpy takes microseconds to work out."""
Buffer: TypeAlias = bytes | memoryview
"""Bytes in one dimension."""
Code: TypeAlias = Literal["busy", "expired", "invalid", "contract", "policy", "revoked", "stopping"]
"""Why a request was refused; ``contract`` asks the client to say hello again."""


class Tensor(Strict, frozen=True):
    """What the bytes of one buffer mean."""

    name: Name
    dtype: DType
    shape: Annotated[tuple[Dim, ...], Meta(max_length=5)]
    codec: Literal["raw", "jpeg"] = "raw"
    """``jpeg`` is for pictures ``(H, W, 3)`` only."""


class Message(Strict, frozen=True):
    """What every message says."""

    session: Name
    """Drawn by the client for each connection; replies of another session are dropped."""
    seq: Natural
    """Counts a client's requests; a reply repeats the number of its request."""


class _Request(Message, frozen=True):
    clock_ms: Milliseconds
    """The client's monotonic clock when it sent the request [ms]; only differences within a session mean anything."""


class Hello(_Request, frozen=True, tag="hello"):
    """Asks for the model card."""


class Ping(_Request, frozen=True, tag="ping"):
    """Asks whether the server is alive; answered also while the model is busy."""


class GetStats(_Request, frozen=True, tag="stats"):
    """Asks for the counters."""


class Act(_Request, frozen=True, tag="act"):
    """Asks for a chunk of actions; the tensors are ``image/CAMERA`` and ``proprio``."""

    contract: Name
    """The :attr:`Card.contract` that the client has agreed to."""
    deadline_ms: Annotated[float, Meta(gt=0, le=600_000)]
    """Time from sending until the reply is of no use any more [ms]."""
    instruction: Text
    seed: Natural
    """Decides what is sampled, whatever else is in the batch."""
    temperature: Annotated[float, Meta(ge=0, le=100)]
    tensors: Annotated[tuple[Tensor, ...], Meta(max_length=MAX_FRAMES - 1)]


class Card(Message, frozen=True, tag="card"):
    """What is served, and under which conventions."""

    model: Name
    version: Name
    """Weights that answer at the moment; the contract outlives them."""
    spec: PolicySpec
    normalisation: Name
    """Statistics that actions and proprioception are scaled with."""
    contract: Name
    """Digest of everything that must not change while a client is connected."""
    codecs: tuple[str, ...]
    max_batch: Natural
    quota: Natural
    """Requests of one client that may wait or be computed at a time."""


class Chunk(Message, frozen=True, tag="chunk"):
    """A chunk of actions; the tensors are ``actions`` and, for token policies, ``tokens`` and ``log_probs``."""

    version: Name
    queue_ms: Milliseconds
    """Time that the request waited for the model [ms]."""
    infer_ms: Milliseconds
    """Time that the model took for the whole batch [ms]."""
    batch: Natural
    tensors: Annotated[tuple[Tensor, ...], Meta(min_length=1, max_length=3)]


class Refusal(Message, frozen=True, tag="refusal"):
    """The request was not carried out."""

    code: Code
    message: Text


class Pong(Message, frozen=True, tag="pong"):
    """Health of the server."""

    version: Name
    waiting: Natural
    """Requests that wait for the model."""
    busy_ms: Milliseconds
    """How long the model has been at its present batch [ms]; 0 while it is idle."""


class Stats(Message, frozen=True, tag="statistics"):
    """Counters since the start; ``_ms`` are medians and 95th percentiles of the last requests."""

    values: Annotated[dict[Name, float], Meta(max_length=64)]


Request: TypeAlias = Hello | Ping | GetStats | Act
Reply: TypeAlias = Card | Chunk | Refusal | Pong | Stats
M = TypeVar("M")
_ENCODER = msgspec.msgpack.Encoder()
_REQUESTS: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_REPLIES: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)


def contract_of(spec: PolicySpec, normalisation: str) -> str:
    """Digest of everything that client and server have to agree on."""
    return hashlib.sha256(_ENCODER.encode([VERSION, spec, normalisation])).hexdigest()[:16]


def encode(message: Message, buffers: Sequence[Buffer] = (), *, checked: bool = True) -> list[Buffer]:
    """Frames of a message.

    Args:
        message: Header of the message.
        buffers: Bytes of its tensors, in their order.
        checked: Computes the checksum; needed unless the connection is encrypted.

    Raises:
        WireError: The message is larger than a receiver would accept.
    """
    header = _ENCODER.encode(message)
    _check_size([len(header) + PREFIX.size, *map(len, buffers)])
    checksum = _checksum(header, buffers) if checked else 0
    return [PREFIX.pack(MAGIC, VERSION, checked, 0, checksum) + header, *buffers]


def decode_request(frames: Sequence[Buffer], *, checked: bool = True) -> tuple[Request, list[memoryview]]:
    """The request in some frames, and the bytes of its tensors; see :func:`decode`."""
    return decode(frames, _REQUESTS, checked=checked)


def decode_reply(frames: Sequence[Buffer], *, checked: bool = True) -> tuple[Reply, list[memoryview]]:
    """The reply in some frames, and the bytes of its tensors; see :func:`decode`."""
    return decode(frames, _REPLIES, checked=checked)


def decode(
    frames: Sequence[Buffer], decoder: msgspec.msgpack.Decoder[M], *, checked: bool
) -> tuple[M, list[memoryview]]:
    """Checks and reads a message.

    Args:
        frames: What arrived.
        decoder: For the messages that are expected.
        checked: Insists on a checksum.

    Returns:
        The header, and the bytes of its tensors, which have the right length.

    Raises:
        WireError: The frames are not a valid message of this version.
    """
    views = [memoryview(frame) for frame in frames]
    _check_size([len(view) for view in views])
    head, buffers = views[0], views[1:]
    magic, version, has_checksum, zero, checksum = PREFIX.unpack_from(head)
    if magic != MAGIC:
        raise WireError(f"not a message of this protocol: it starts with {bytes(magic)!r} instead of {MAGIC!r}.")
    if version != VERSION:
        raise WireError(f"protocol version {version} instead of {VERSION}: update the older of client and server.")
    header = head[PREFIX.size :]
    if has_checksum not in (0, 1) or zero or (checked and not has_checksum):
        raise WireError("a message on a plain connection needs a checksum.")
    if checked and checksum != _checksum(header, buffers):
        raise WireError("wrong checksum: the message was damaged on its way.")
    try:
        message = decoder.decode(header)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"malformed header: {error}.") from error
    _check_tensors(getattr(message, "tensors", ()), buffers)
    return message, buffers


def tensor(name: str, array: NDArray[Any]) -> Tensor:
    """Describes an array that is sent as it is."""
    return Tensor(name=name, dtype=_DTYPES[array.dtype], shape=array.shape)


def bytes_of(array: NDArray[Any]) -> Buffer:
    """The bytes of an array; a view of them if it is contiguous."""
    return np.ascontiguousarray(array).data.cast("B") if array.size else b""


def arrays(tensors: Sequence[Tensor], buffers: Sequence[memoryview]) -> Mapping[str, NDArray[Any]]:
    """Raw tensors by name, as read-only views of their buffers."""
    found = {}
    for one, buffer in zip(tensors, buffers, strict=True):
        if one.codec == "raw":
            found[one.name] = np.frombuffer(buffer.toreadonly(), one.dtype).reshape(one.shape)
    return found


def _checksum(header: bytes | memoryview, buffers: Sequence[Buffer]) -> int:
    digest = xxhash.xxh3_64(header)
    for buffer in buffers:
        digest.update(buffer)
    return digest.intdigest()


def _check_size(sizes: Sequence[int]) -> None:
    if not 1 <= len(sizes) <= MAX_FRAMES:
        raise WireError(f"{len(sizes)} frames; a message has 1 to {MAX_FRAMES}.")
    if not PREFIX.size <= sizes[0] <= MAX_HEADER:
        raise WireError(f"a header of {sizes[0]} bytes; it has {PREFIX.size} to {MAX_HEADER}.")
    if sum(sizes) > MAX_BYTES:
        raise WireError(f"{sum(sizes)} bytes; a message has at most {MAX_BYTES}. Send smaller pictures or JPEG.")


def _check_tensors(tensors: Sequence[Tensor], buffers: Sequence[memoryview]) -> None:
    if len(tensors) != len(buffers) or len({one.name for one in tensors}) != len(tensors):
        raise WireError(f"{len(buffers)} buffers for the tensors {[one.name for one in tensors]}.")
    for one, buffer in zip(tensors, buffers, strict=True):
        size = math.prod(one.shape) * np.dtype(one.dtype).itemsize
        if one.codec == "jpeg":
            if one.dtype != "uint8" or len(one.shape) != 3 or one.shape[2] != 3 or not 0 < len(buffer) <= size + 1024:
                raise WireError(f"{one.name!r}: {len(buffer)} bytes of JPEG for {one.dtype} {one.shape}.")
        elif size != len(buffer):
            raise WireError(f"{one.name!r}: {len(buffer)} bytes for {one.dtype} {one.shape}, which has {size}.")
