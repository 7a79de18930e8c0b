"""Damaged messages for the wire format, the same for each seed; used by the tests and by `serving.py`."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import msgspec
import numpy as np

from tgrpo import payload, wire
from tgrpo.types import Observation
from tgrpo.wire import PREFIX

Frames = list[bytes]


def samples() -> list[Frames]:
    """One intact message of each kind that carries something."""
    head = {"session": "a" * 32, "seq": 7, "clock_ms": 1234.5}
    picture = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)
    observation = Observation({"agentview": picture}, "open the drawer", np.ones(8, np.float32))
    tensors, buffers = payload.pack_observation(observation)
    act = wire.Act(
        **head,
        contract="c" * 16,
        deadline_ms=100.0,
        instruction="open the drawer",
        seed=3,
        temperature=0.5,
        tensors=tensors,
    )
    return [[bytes(f) for f in wire.encode(wire.Hello(**head))], [bytes(f) for f in wire.encode(act, buffers)]]


def mutated(count: int, seed: int = 0) -> Iterator[Frames]:
    """Damaged messages.

    Args:
        count: How many.
        seed: The same seed gives the same messages.
    """
    rng = random.Random(seed)
    intact = samples()
    for _ in range(count):
        frames = list(rng.choice(intact))
        for _ in range(rng.randint(1, 3)):
            rng.choice(MUTATIONS)(rng, frames)
        yield frames


def sealed(frames: Frames) -> Frames:
    """The same message with a checksum that fits, so that the header's own checks are reached."""
    return [bytes(part) for part in _sealed(frames)]


def _sealed(frames: Frames) -> Frames:
    if not frames or len(frames[0]) < PREFIX.size:
        return frames
    header = frames[0][PREFIX.size :]
    checksum = wire._checksum(header, frames[1:])
    return [frames[0][:8] + checksum.to_bytes(8, "little") + header, *frames[1:]]


def _flip(rng: random.Random, frames: Frames) -> None:
    place = rng.randrange(len(frames)) if frames else None
    if place is None or not frames[place]:
        return
    data = bytearray(frames[place])
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    frames[place] = bytes(data)


def _cut(rng: random.Random, frames: Frames) -> None:
    if frames:
        place = rng.randrange(len(frames))
        frames[place] = frames[place][: rng.randrange(len(frames[place]) + 1)]


def _grow(rng: random.Random, frames: Frames) -> None:
    if frames:
        frames[rng.randrange(len(frames))] += rng.randbytes(rng.randint(1, 200))


def _drop(rng: random.Random, frames: Frames) -> None:
    if frames:
        frames.pop(rng.randrange(len(frames)))


def _repeat(rng: random.Random, frames: Frames) -> None:
    if frames:
        frames.extend([rng.choice(frames)] * rng.choice((1, 2, 40)))


def _noise(rng: random.Random, frames: Frames) -> None:
    frames[:] = [rng.randbytes(rng.randint(0, 300)) for _ in range(rng.randint(1, 4))]


def _nest(rng: random.Random, frames: Frames) -> None:
    if frames:
        deep = rng.choice((b"\x91", b"\x81\xa1a", b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff")) * rng.randint(
            1, 9000
        )
        frames[0] = frames[0][: PREFIX.size] + deep


def _field(rng: random.Random, frames: Frames) -> None:
    """Another value in one field of the header, with a checksum that fits."""
    if not frames:
        return
    try:
        header = msgspec.msgpack.decode(frames[0][PREFIX.size :])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return
    if isinstance(header, dict) and header:
        key = rng.choice(sorted(header, key=str))
        header[key] = rng.choice(VALUES)
        if rng.random() < 0.3:
            header["extra"] = rng.choice(VALUES)
        frames[0] = frames[0][: PREFIX.size] + msgspec.msgpack.encode(header)
        frames[:] = sealed(frames)


def _shape(rng: random.Random, frames: Frames) -> None:
    """Another shape, type or codec of a tensor, with a checksum that fits."""
    if len(frames) < 2:
        return
    try:
        header = msgspec.msgpack.decode(frames[0][PREFIX.size :])
        tensor = rng.choice(header["tensors"])
        tensor[rng.choice(("shape", "dtype", "codec", "name"))] = rng.choice(VALUES)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, TypeError, KeyError, IndexError, AttributeError):
        return
    frames[0] = frames[0][: PREFIX.size] + msgspec.msgpack.encode(header)
    frames[:] = sealed(frames)


VALUES = (
    None, True, -1, 0, 2**63, 2**64 - 1, float("nan"), float("inf"), -1e300, "", "x" * 5000, b"\x00" * 100, [], {},
    [2**32, 2**32], [2**24] * 5, [-1, 3], [0] * 6, [16, 16, 3], "object", "float64", "uint8", "jpeg", "raw", "proprio",
    {"a": {"b": {"c": []}}}, [[[]]], "act", "hello", "card",
)  # fmt: skip
MUTATIONS: tuple[Callable[[random.Random, Frames], None], ...] = (
    _flip, _flip, _cut, _grow, _drop, _repeat, _noise, _nest, _field, _field, _shape, _shape,
)  # fmt: skip
