"""The streams of an episode: what each message holds, its topic, and its schema for Foxglove.

A message is JSON with a JSON schema, so that every tool can read it. Numbers that are not finite are written as null
and read back as NaN: what a failing policy said has to be on record.
"""

from __future__ import annotations

import time
from typing import Any, Literal, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from tgrpo.errors import RecordingError
from tgrpo.types import FloatArray

Number: TypeAlias = float | None
"""A number; None stands for NaN and infinities."""
Source: TypeAlias = Literal["human", "safety", "reset", "policy"]
"""Who decided an action, in falling order of priority."""
EventKind: TypeAlias = Literal["hold", "resume", "fault", "takeover", "handback", "note", "swap", "stop"]
Encoding: TypeAlias = Literal["jpeg", "png"]
"""How pictures are stored; ``png`` loses nothing."""

CAMERAS = "/camera/"
"""Topics of cameras begin with this; the camera's name follows."""
_NANOSECONDS = 1_000_000_000


class Stamp(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When something happened, on two clocks [ns]."""

    observed: int
    """Steady time at which what the message is about was measured: exposure, reading, start of a decision."""
    steady: int
    """Steady time at which the message was made; intervals and orders are computed from this."""
    wall: int
    """Time of day; it may jump, so nothing is computed from it."""


class Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all messages."""

    at: Stamp


class Time(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Time of day as Foxglove wants it."""

    sec: int
    nsec: int


class Frame(Message, frozen=True, kw_only=True):
    """One compressed picture; has the fields of Foxglove's ``CompressedImage`` and the stamps."""

    timestamp: Time
    frame_id: str
    """The camera's name."""
    format: Encoding
    data: bytes
    """The picture, compressed."""


class RobotState(Message, frozen=True, kw_only=True):
    """What the arm measured, and what it was commanded at that moment. What a driver does not know is empty."""

    position: list[Number]
    """End effector ``(3,)`` [m] in the base frame."""
    axis_angle: list[Number]
    """Its orientation ``(3,)`` [rad]."""
    fingers: list[Number] = []
    """Finger positions ``(2,)`` [m]."""
    joints: list[Number] = []
    """Joint positions ``(7,)`` [rad]."""
    joint_velocities: list[Number] = []
    """``(7,)`` [rad/s]."""
    wrench: list[Number] = []
    """Estimated external force and torque ``(6,)`` [N, Nm]."""
    commanded_position: list[Number] = []
    """Reference of the end effector ``(3,)`` [m]."""
    commanded_axis_angle: list[Number] = []
    """``(3,)`` [rad]."""


class PolicyRequest(Message, frozen=True, kw_only=True):
    """A policy was asked; ``at.observed`` is the age of what it was shown."""

    request: int
    """Number of the request in this episode."""
    step: int
    """Control step at which it was asked."""
    instruction: str


class PolicyReply(Message, frozen=True, kw_only=True):
    """What a policy answered."""

    request: int
    """The request that this answers."""
    policy: str
    """Name of the policy."""
    version: str
    """Version of its weights."""
    latency: float
    """From request to reply [s]."""
    actions: list[list[Number]] = []
    """``(K, A)``; empty when the policy failed."""
    tokens: list[list[int]] = []
    """``(K, A)``; empty for policies without tokens."""
    log_probs: list[list[Number]] = []
    """``(K, A)`` [nat]; empty for policies without tokens."""
    error: str = ""
    """Why there are no actions."""


class Action(Message, frozen=True, kw_only=True):
    """One control step: what the policy wanted and what was executed."""

    step: int
    """Number of the control step in this episode."""
    source: Source
    executed: list[Number]
    """``(A,)`` in the session's action conventions."""
    policy: list[Number] = []
    """``(A,)`` of the policy at this step; empty if it had none."""
    intervention: bool = False
    """A human is in control, or has just been."""
    request: int = -1
    """Request that the policy's action answers; -1 if it had none."""
    index: int = -1
    """Place of the action in its chunk."""


class Stage(Message, frozen=True, kw_only=True):
    """The number of completed stages changed."""

    stage: int
    """Stages that are complete."""
    name: str = ""
    """The stage that has just been completed."""


class Event(Message, frozen=True, kw_only=True):
    """Something that a reader of the episode must know; flushed to disk at once."""

    kind: EventKind
    reason: str = ""
    """A short name that events are counted by, for example ``stale_frame``."""
    text: str = ""
    """One line for people."""


class Label(Message, frozen=True, kw_only=True):
    """How the episode was judged."""

    outcome: str
    source: str
    """``operator``, ``detector`` or ``recorder``."""
    reason: str = ""


TOPICS: dict[str, type[Message]] = {
    "/robot/state": RobotState,
    "/policy/request": PolicyRequest,
    "/policy/reply": PolicyReply,
    "/action": Action,
    "/stage": Stage,
    "/event": Event,
    "/label": Label,
}
"""Topic to message, for all streams but the cameras."""
_NAMES = {kind: topic for topic, kind in TOPICS.items()}


def now(observed: int | None = None) -> Stamp:
    """The stamp of a message that is made now.

    Args:
        observed: Steady time of the measurement [ns]; now by default.
    """
    steady = time.monotonic_ns()
    return Stamp(observed=steady if observed is None else observed, steady=steady, wall=time.time_ns())


def seconds(nanoseconds: int) -> float:
    """Nanoseconds as seconds."""
    return nanoseconds / _NANOSECONDS


def topic_of(message: Message) -> str:
    """Topic of a message.

    Raises:
        KeyError: The message is none of :data:`TOPICS` and no frame.
    """
    return CAMERAS + message.frame_id if isinstance(message, Frame) else _NAMES[type(message)]


def kind_of(topic: str) -> type[Message]:
    """Message type of a topic.

    Raises:
        RecordingError: There is no such topic.
    """
    if topic.startswith(CAMERAS):
        return Frame
    if topic not in TOPICS:
        raise RecordingError(f"unknown topic {topic!r} in a recording; known: {', '.join(TOPICS)}, {CAMERAS}NAME.")
    return TOPICS[topic]


def encode(message: Message) -> bytes:
    """One message as JSON; numbers of numpy are numbers."""
    return _ENCODER.encode(message)


def decode(topic: str, data: bytes) -> Message:
    """Reads one message.

    Raises:
        RecordingError: The bytes do not fit the topic.
    """
    try:
        return msgspec.json.decode(data, type=kind_of(topic))
    except msgspec.MsgspecError as error:
        raise RecordingError(f"a message of {topic} cannot be read: {error}.") from error


def frame(camera: str, data: bytes, encoding: Encoding, at: Stamp) -> Frame:
    """A picture as a message."""
    wall = Time(sec=at.wall // _NANOSECONDS, nsec=at.wall % _NANOSECONDS)
    return Frame(at=at, timestamp=wall, frame_id=camera, format=encoding, data=data)


def numbers(values: NDArray[Any] | None) -> list[Number]:
    """A vector ``(n,)`` for a message; None gives an empty list."""
    return [] if values is None else [float(value) for value in np.asarray(values).reshape(-1)]


def vector(values: list[Number]) -> FloatArray:
    """A vector ``(n,)`` of a message, with NaN for what was not finite."""
    return np.array(values, np.float64)


def schema_name(topic: str) -> str:
    """Name of a topic's schema; Foxglove shows pictures by it."""
    return "foxglove.CompressedImage" if topic.startswith(CAMERAS) else f"tgrpo.{kind_of(topic).__name__}"


def schema(topic: str) -> bytes:
    """JSON schema of a topic, without references, which Foxglove does not follow."""
    return msgspec.json.encode(_schema(msgspec.inspect.type_info(kind_of(topic))))


def _plain(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    raise NotImplementedError(f"a message cannot hold {type(value).__name__}")


_ENCODER = msgspec.json.Encoder(enc_hook=_plain)


def _schema(kind: msgspec.inspect.Type) -> dict[str, Any]:
    if isinstance(kind, msgspec.inspect.StructType):
        properties = {field.name: _schema(field.type) for field in kind.fields}
        return {"type": "object", "properties": properties}
    if isinstance(kind, msgspec.inspect.ListType):
        return {"type": "array", "items": _schema(kind.item_type)}
    if isinstance(kind, msgspec.inspect.BytesType):
        return {"type": "string", "contentEncoding": "base64"}
    if isinstance(kind, msgspec.inspect.BoolType):
        return {"type": "boolean"}
    if isinstance(kind, msgspec.inspect.IntType):
        return {"type": "integer"}
    # A number that may be null is drawn as a number.
    number = isinstance(kind, (msgspec.inspect.FloatType, msgspec.inspect.UnionType))
    return {"type": "number" if number else "string"}
