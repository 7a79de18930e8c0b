"""Commands and proprioception as standard ROS messages, and back. What arrives is checked, whoever sent it.

Both are ``std_msgs/Float64MultiArray``, whose layout names what is in them:

* command: ``dim[0]`` has the label ``SOURCE/SESSION`` and as its size the number of actions K, ``dim[1]`` is ``action``
  with the size A. The first three numbers, which ``data_offset`` skips, are the sequence number, the steady time of the
  observation [s] and 1 if the sender is engaged. Without actions it asks for the lease, keeps it, or gives it back.
* proprioception: ``dim[0]`` is ``proprio``; the number that ``data_offset`` skips is the steady time [s].

A ``header.stamp`` would be the wall clock, which may be set while a robot moves.
"""

from __future__ import annotations

import array
import re

import numpy as np
from geometry_msgs.msg import PoseStamped
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Float64MultiArray, MultiArrayDimension

from tgrpo.errors import WireError
from tgrpo_ros.drivers.base import Intrinsics
from tgrpo_ros.motion import Command, Pose, Source

HEAD = 3
_LABEL = re.compile(r"(policy|reset|human)/([A-Za-z0-9_-]{1,64})")


def command_message(command: Command) -> Float64MultiArray:
    """A command, or with ``(0, A)`` actions a word about a lease: engaged keeps it, not engaged gives it back."""
    count, dims = command.actions.shape
    message = Float64MultiArray()
    message.layout.data_offset = HEAD
    message.layout.dim = [
        MultiArrayDimension(label=f"{command.source.name.lower()}/{command.session}", size=count, stride=count * dims),
        MultiArrayDimension(label="action", size=dims, stride=dims),
    ]
    head = (float(command.sequence), command.observed, float(command.engaged))
    message.data = array.array("d", (*head, *command.actions.astype(np.float64).ravel().tolist()))
    return message


def lease_message(source: Source, session: str, dims: int, *, keep: bool = True) -> Float64MultiArray:
    """Asks for a lease and keeps it alive, or gives it back."""
    return command_message(Command(source, session, 0, 0.0, np.zeros((0, dims), np.float32), engaged=keep))


def camera_info_message(intrinsics: Intrinsics) -> CameraInfo:
    """The projection of a camera whose pictures are as it takes them, neither rectified nor cut."""
    (fx, fy), (cx, cy) = intrinsics.focal, intrinsics.centre
    return CameraInfo(
        height=intrinsics.height,
        width=intrinsics.width,
        distortion_model=intrinsics.distortion,
        d=list(intrinsics.coefficients),
        k=[fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0],
        r=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        p=[fx, 0.0, cx, 0.0, 0.0, fy, cy, 0.0, 0.0, 0.0, 1.0, 0.0],
    )


def command_of(message: Float64MultiArray) -> Command:
    """What :func:`command_message` wrote.

    Raises:
        WireError: It does not follow the layout.
    """
    dim, data = message.layout.dim, message.data
    if len(dim) != 2 or message.layout.data_offset != HEAD or len(data) != HEAD + dim[0].size * dim[1].size:
        raise WireError(f"not a command: {len(dim)} dimensions and {len(data)} numbers do not fit together.")
    named = _LABEL.fullmatch(dim[0].label)
    if named is None:
        raise WireError(
            f"not a command: label {dim[0].label[:80]!r} is not SOURCE/SESSION with policy, reset or human."
        )
    numbers = np.asarray(data, np.float64)
    sequence, observed, engaged = numbers[:HEAD].tolist()
    if not (np.isfinite(sequence) and sequence == int(sequence) >= 0):
        raise WireError(f"not a command: sequence number {sequence} is not a whole number from 0.")
    with np.errstate(over="ignore"):  # what is too big for a float becomes infinite, which the safety layer refuses
        actions = numbers[HEAD:].astype(np.float32).reshape(dim[0].size, dim[1].size)
    return Command(Source[named[1].upper()], named[2], int(sequence), observed, actions, engaged=engaged != 0.0)


def proprio_message(now: float, values: NDArray[np.float32]) -> Float64MultiArray:
    """Proprioception ``(8,)`` at a steady time [s]."""
    message = Float64MultiArray()
    message.layout.data_offset = 1
    message.layout.dim = [MultiArrayDimension(label="proprio", size=len(values), stride=len(values))]
    message.data = array.array("d", (now, *values.astype(np.float64).tolist()))
    return message


def proprio_of(message: Float64MultiArray) -> tuple[float, NDArray[np.float32]]:
    """Steady time [s] and proprioception ``(8,)`` that :func:`proprio_message` wrote.

    Raises:
        WireError: It does not follow the layout.
    """
    if message.layout.data_offset != 1 or len(message.data) != 9:
        raise WireError(f"not proprioception: {len(message.data)} numbers instead of a time and 8.")
    return float(message.data[0]), np.asarray(message.data[1:], np.float32)


def pose_message(pose: Pose, frame: str) -> PoseStamped:
    """A pose in a frame; whoever publishes it sets the stamp."""
    message = PoseStamped()
    message.header.frame_id = frame
    x, y, z = pose.position.tolist()
    message.pose.position.x, message.pose.position.y, message.pose.position.z = x, y, z
    turn = message.pose.orientation
    turn.x, turn.y, turn.z, turn.w = pose.quaternion.tolist()
    return message


def pose_of(message: PoseStamped) -> Pose:
    """The pose of a message, in whatever frame that names."""
    place, turn = message.pose.position, message.pose.orientation
    return Pose(np.array([place.x, place.y, place.z]), np.array([turn.x, turn.y, turn.z, turn.w]))
