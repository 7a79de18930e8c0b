"""What passes between safety layer and arm drivers: poses, the state of an arm, references and commands.

Frames: everything is in the base frame of the arm. Clocks: ``now`` and ``received`` are a steady clock of this machine,
``ArmState.time`` is the clock of the robot; neither is the wall clock, which may be set while a robot moves.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tgrpo import rotation
from tgrpo.types import FloatArray

ArmMode = Literal["ready", "moving", "reflex", "stopped", "disconnected"]
"""``reflex``: the robot stopped itself and wants a recovery. ``stopped``: the enabling device or an operator did."""


@dataclass(frozen=True, eq=False)
class Pose:
    """Where the tool is."""

    position: FloatArray
    """``(3,)`` [m]."""
    quaternion: FloatArray
    """Unit quaternion ``(4,)``, x y z w."""

    def moved(self, translation: FloatArray, turn: FloatArray) -> Pose:
        """This pose after a translation ``(3,)`` [m] and a rotation vector ``(3,)`` [rad], both in the base frame."""
        return Pose(self.position + translation, rotation.turned(self.quaternion, turn))


@dataclass(frozen=True, eq=False)
class Reference:
    """What an arm is told to follow at one instant."""

    pose: Pose
    linear: FloatArray = field(default_factory=lambda: np.zeros(3))
    """Velocity feed-forward ``(3,)`` [m/s]."""
    angular: FloatArray = field(default_factory=lambda: np.zeros(3))
    """Angular velocity feed-forward ``(3,)`` [rad/s]."""


@dataclass(frozen=True, eq=False)
class ArmState:
    """What an arm reports of one instant."""

    time: float
    """Clock of the robot [s]; it may start anywhere and must not run backwards."""
    received: float
    """Steady clock of this machine when the report arrived [s]."""
    pose: Pose
    """Measured pose of the tool."""
    joints: FloatArray
    """``(7,)`` [rad]."""
    joint_velocities: FloatArray
    """``(7,)`` [rad/s]."""
    fingers: FloatArray
    """Finger positions ``(2,)`` [m], as policies see them."""
    proprio: NDArray[np.float32]
    """Position ``(3,)`` [m], axis-angle ``(3,)`` [rad] and fingers ``(2,)`` [m], as in an observation."""
    mode: ArmMode = "ready"
    """Whether the robot would follow a reference."""
    error: str = ""
    """What the robot says is wrong; empty if nothing."""


class Source(IntEnum):
    """Who may move the arm; the greater one wins."""

    POLICY = 1
    RESET = 2
    SAFETY = 3
    """Moves nothing: what it holds, it holds against the sources below it."""
    HUMAN = 4


@dataclass(frozen=True, eq=False)
class Command:
    """Actions of one source, on their way to the safety layer."""

    source: Source
    session: str
    """Names the sender's lease; a second sender has another one."""
    sequence: int
    """Grows with each command of a session."""
    observed: float
    """Steady time of the observation these actions were decided on [s]; for a human, of the reading."""
    actions: NDArray[np.float32]
    """``(K, A)`` in the robot's :class:`~tgrpo.spec.ActionSpec`, one for each period of its rate."""
    engaged: bool = True
    """False says: I let go, on purpose; the next source may continue."""
