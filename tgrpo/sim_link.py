"""Messages between a simulated arm and whoever drives it, over a ZeroMQ socket of this machine; no pickle.

The simulator side is ``tgrpo sim-robot``, the robot side ``tgrpo_ros.drivers``; they never import each other. A client
sends one request and waits for one reply. Poses are those of the arm's controller, in the world of the scene.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import msgspec

from tgrpo.errors import SimulationError

VERSION = 2
LIMIT = 16 * 2**20
"""Longest message that is decoded [bytes]."""

Pace = Literal["real", "fast"]
"""``real``: the scene advances by itself, in real time. ``fast``: it advances by one control step with each Follow."""
Vector = tuple[float, float, float]
Quaternion = tuple[float, float, float, float]


class Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag=True):
    """Base of all messages."""


class Describe(Message, frozen=True):
    """Asks what the scene is. The answer is a :class:`Description`."""

    version: int = VERSION
    """A server of another version refuses."""


class Report(Message, frozen=True):
    """Asks for the present :class:`State`, without any effect."""


class Follow(Message, frozen=True):
    """Sets the arm's target. The answer is the :class:`State` after it."""

    position: Vector
    """[m]."""
    quaternion: Quaternion
    """x y z w."""


class Grip(Message, frozen=True):
    """Closes or opens the gripper from the next control step on. The answer is a :class:`State`."""

    close: bool


class Stay(Message, frozen=True):
    """Makes the present pose the target. The answer is a :class:`State`."""


class Reset(Message, frozen=True):
    """Starts an episode from a recorded initial state. The answer is a :class:`State`."""

    init_state: int
    seed: int = 0


class Advise(Message, frozen=True):
    """Asks what a scripted expert would do now, as a person would for whom this is a rehearsal: an :class:`Advice`."""

    afresh: bool = False
    """Plan anew from the present state, which takes seconds; otherwise the plan is continued where there is one."""


class Look(Message, frozen=True):
    """Asks for the pictures of the next step that is newer than one. The answer is :class:`Frames`."""

    after: int = -1
    """Step of the newest pictures that the client has."""
    patience: float = 0.5
    """How long the answer may take; then it is empty [s]."""


class Description(Message, frozen=True):
    """What the scene is."""

    suite: str
    task: int
    name: str
    instruction: str
    cameras: tuple[str, ...]
    size: int
    """Height and width of the pictures [px]."""
    pace: Pace
    rate: float
    """Control steps per second [1/s]."""
    max_steps: int
    """Step limit of the standard protocol."""
    init_states: int
    """Number of recorded initial states."""
    stages: tuple[str, ...] = ()
    """Names of the stages of the task, in order; empty where it has none."""
    fields_of_view: tuple[float, ...] = ()
    """Vertical one of each camera [rad]; of pinhole cameras without distortion."""


class State(Message, frozen=True):
    """The arm and the task after a control step."""

    step: int
    """Control steps since the start of the process; a reset counts as one."""
    time: float
    """Simulated time since the start of the process [s]."""
    stamp: float
    """Steady clock of the machine when the step was done [s]."""
    episode: int
    """Number of resets."""
    position: Vector
    """[m]."""
    quaternion: Quaternion
    """x y z w."""
    joints: tuple[float, ...]
    """Seven [rad]."""
    joint_velocities: tuple[float, ...]
    """Seven [rad/s]."""
    fingers: tuple[float, float]
    """[m]."""
    proprio: tuple[float, ...]
    """Eight numbers, as policies see them."""
    success: bool
    """The task is completed."""
    stage: int = 0
    """Stages that are complete."""


class Advice(Message, frozen=True):
    """What a scripted expert would do in the next control step."""

    action: tuple[float, ...] = ()
    """``(7,)`` in the scene's :class:`~tgrpo.spec.ActionSpec`; empty where it knows no way."""


class Frames(Message, frozen=True):
    """Pictures of all cameras after one control step; none if there was no newer step in time."""

    step: int
    time: float
    """Simulated time [s]."""
    stamp: float
    """Steady clock [s]."""
    size: int
    """Height and width [px]."""
    images: dict[str, bytes]
    """Camera name to upright RGB picture, ``size * size * 3`` bytes."""


class Refused(Message, frozen=True):
    """Why a request was not carried out."""

    reason: str


Request = Describe | Report | Follow | Grip | Stay | Reset | Look | Advise
Reply = Description | State | Frames | Advice | Refused
R = TypeVar("R")

_requests: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(Request)
_replies: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(Reply)


def encode(message: Message) -> bytes:
    """A message as bytes."""
    return msgspec.msgpack.encode(message)


def decode_request(data: bytes) -> Request:
    """The request that :func:`encode` wrote.

    Raises:
        SimulationError: The bytes are no request.
    """
    request: Request = _decode(data, _requests)
    return request


def decode_reply(data: bytes) -> Reply:
    """The reply that :func:`encode` wrote.

    Raises:
        SimulationError: The bytes are no reply.
    """
    reply: Reply = _decode(data, _replies)
    return reply


def _decode(data: bytes, decoder: msgspec.msgpack.Decoder[Any]) -> Any:
    if len(data) > LIMIT:
        raise SimulationError(f"a message of {len(data)} bytes is longer than {LIMIT}")
    try:
        return decoder.decode(data)
    except msgspec.MsgspecError as error:
        raise SimulationError(f"not a message of a simulated arm (version {VERSION}): {error}") from error
