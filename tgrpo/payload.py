"""Observations and chunks of actions as the tensors of :mod:`tgrpo.wire`, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tgrpo import jpeg, wire
from tgrpo.errors import PolicyError, WireError
from tgrpo.spec import PolicySpec
from tgrpo.types import ActionChunk, Image, Observation
from tgrpo.wire import Act, Buffer, Chunk, Tensor

IMAGE = "image/"
Codec = Literal["raw", "jpeg"]
PROPRIO = (8,)
Shape: TypeAlias = tuple[str, tuple[int, ...]]
"""Type and shape of a tensor."""


def pack_observation(observation: Observation, codec: Codec = "raw") -> tuple[tuple[Tensor, ...], list[Buffer]]:
    """Tensors of an observation.

    Args:
        observation: The pictures are sent as they are or as JPEG; they must not change before the reply is there.
        codec: How pictures are sent.

    Raises:
        WireError: A picture is not ``(H, W, 3)`` of bytes.
    """
    tensors: list[Tensor] = []
    buffers: list[Buffer] = []
    for camera, image in observation.images.items():
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise WireError(f"camera {camera!r}: a picture is (H, W, 3) uint8, got {image.shape} {image.dtype}.")
        tensors.append(Tensor(name=IMAGE + camera, dtype="uint8", shape=image.shape, codec=codec))
        buffers.append(jpeg.encode(image) if codec == "jpeg" else wire.bytes_of(image))
    if observation.proprio is not None:
        proprio = np.asarray(observation.proprio, np.float32)
        tensors.append(wire.tensor("proprio", proprio))
        buffers.append(wire.bytes_of(proprio))
    return tuple(tensors), buffers


def check_observation(act: Act, spec: PolicySpec) -> None:
    """Compares what a request announces with what the policy must be shown, before anything is decoded.

    Raises:
        WireError: A camera is missing or superfluous, or something has another shape or type.
    """
    _check_given({one.name: (one.dtype, one.shape) for one in act.tensors}, spec)


def check_shown(observation: Observation, spec: PolicySpec) -> None:
    """Compares an observation with what the policy must be shown; see :func:`check_observation`.

    Raises:
        WireError: A camera is missing or superfluous, something has another shape or type, or is not finite.
    """
    parts: dict[str, NDArray[Any]] = {IMAGE + name: image for name, image in observation.images.items()}
    if observation.proprio is not None:
        parts["proprio"] = observation.proprio
        _check_finite(observation.proprio)
    _check_given({name: (part.dtype.name, part.shape) for name, part in parts.items()}, spec)


def unpack_observation(act: Act, buffers: Sequence[memoryview]) -> Observation:
    """The observation of a request whose tensors were checked; pictures are views of the buffers.

    Raises:
        WireError: A JPEG picture is damaged or a number is not finite.
    """
    raw = wire.arrays(act.tensors, buffers)
    images: dict[str, Image] = {}
    for one, buffer in zip(act.tensors, buffers, strict=True):
        if one.name.startswith(IMAGE):
            picture = raw[one.name] if one.codec == "raw" else jpeg.decode(buffer, one.shape)
            images[one.name.removeprefix(IMAGE)] = picture
    proprio = raw.get("proprio")
    if proprio is not None:
        _check_finite(proprio)
    return Observation(images, act.instruction, proprio)


def pack_chunk(chunk: ActionChunk) -> tuple[tuple[Tensor, ...], list[Buffer]]:
    """Tensors of a chunk of actions."""
    parts: dict[str, NDArray[Any] | None] = {
        "actions": np.asarray(chunk.actions, np.float32),
        "tokens": None if chunk.tokens is None else np.asarray(chunk.tokens, np.int64),
        "log_probs": None if chunk.log_probs is None else np.asarray(chunk.log_probs, np.float32),
    }
    given = {name: part for name, part in parts.items() if part is not None}
    return tuple(wire.tensor(name, part) for name, part in given.items()), [*map(wire.bytes_of, given.values())]


def unpack_chunk(reply: Chunk, buffers: Sequence[memoryview], spec: PolicySpec) -> ActionChunk:
    """The chunk in a reply.

    Raises:
        WireError: It does not follow the policy's conventions.
    """
    given = wire.arrays(reply.tensors, buffers)
    if len(given) != len(reply.tensors) or given.keys() - {"actions", "tokens", "log_probs"} or "actions" not in given:
        raise WireError(f"a chunk has actions, tokens and log_probs, got {sorted(one.name for one in reply.tensors)}.")
    chunk = ActionChunk(given["actions"], given.get("tokens"), given.get("log_probs"))
    try:
        check_chunk(chunk, spec)
    except PolicyError as error:
        raise WireError(str(error)) from error
    return chunk


def check_chunk(chunk: ActionChunk, spec: PolicySpec) -> None:
    """Refuses actions that must not reach an arm.

    Raises:
        PolicyError: The shape is not ``(K, A)``, or a number is not finite.
    """
    shape = (spec.chunk, spec.action.dims)
    for name in ("actions", "tokens", "log_probs"):
        part = getattr(chunk, name)
        if part is None and name != "actions":
            continue
        found = getattr(part, "shape", None)
        if found != shape:
            raise PolicyError(f"the policy's {name} have the shape {found} instead of {shape}.")
        if not np.isfinite(part).all():
            raise PolicyError(f"the policy's {name} are not finite.")


def _check_given(given: Mapping[str, Shape], spec: PolicySpec) -> None:
    size = spec.observation.size
    needed: dict[str, Shape] = {IMAGE + camera: ("uint8", (size, size, 3)) for camera in spec.observation.cameras}
    if spec.observation.proprio:
        needed["proprio"] = ("float32", PROPRIO)
    if given != needed:
        raise WireError(f"the policy needs {_described(needed)}; the request has {_described(given)}.")


def _check_finite(proprio: NDArray[np.float32]) -> None:
    if not np.isfinite(proprio).all():
        raise WireError(f"proprioception is not finite: {proprio.tolist()}.")


def _described(tensors: Mapping[str, Shape]) -> str:
    parts = [f"{name} {dtype} {shape}" for name, (dtype, shape) in sorted(tensors.items())]
    return ", ".join(parts) or "nothing"
