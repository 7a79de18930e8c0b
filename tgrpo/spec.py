"""Conventions of actions and observations, declared and compared before anything moves."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from tgrpo.errors import SpecError
from tgrpo.settings import Strict

Positive = Annotated[int, msgspec.Meta(ge=1)]


class ActionSpec(Strict, frozen=True):
    """What one action vector means."""

    dims: Positive = 7
    """Length of the action vector ``A``."""
    control: Literal["delta_pose", "absolute_pose", "joint_position"] = "delta_pose"
    """What the arm part commands."""
    rotation: Literal["axis_angle", "euler_xyz", "quaternion_xyzw"] = "axis_angle"
    """Representation of the rotation part."""
    frame: Literal["world", "tool"] = "world"
    """Frame in which position and rotation are expressed."""
    gripper: Literal["close_positive", "open_positive"] = "close_positive"
    """Sign of the gripper dimension: LIBERO closes at +1 and opens at -1."""
    position_scale: float = 0.05
    """Translation commanded by an action of 1 [m]."""
    rotation_scale: float = 0.5
    """Rotation commanded by an action of 1 [rad]."""
    rate: float = 20.0
    """Control steps per second [1/s]."""


class ObservationSpec(Strict, frozen=True):
    """What a policy must be shown."""

    cameras: tuple[str, ...] = ("agentview",)
    """Names of the camera views, in the order of the policy's inputs."""
    size: Positive = 224
    """Height and width of each picture [px]."""
    flip: Literal["none", "left_right"] = "none"
    """``left_right``: the policy mirrors the upright picture it is shown, as OpenVLA's LIBERO checkpoints expect. It
    does so itself; whoever shows pictures always shows them upright."""
    proprio: bool = False
    """Whether proprioception ``(8,)`` is needed."""


class PolicySpec(Strict, frozen=True):
    """All conventions of one policy."""

    action: ActionSpec = ActionSpec()
    observation: ObservationSpec = ObservationSpec()
    chunk: Positive = 8
    """Actions decided in one forward pass ``K``."""
    bins: Positive = 256
    """Bins of each action dimension ``V``."""


def check_compatible(policy: ActionSpec, embodiment: ActionSpec) -> None:
    """Refuses a policy whose actions mean something else to the arm that would execute them.

    Raises:
        SpecError: Any convention differs; the message lists every difference.
    """
    differences = [
        f"{name}: policy {mine!r}, embodiment {theirs!r}"
        for name in ActionSpec.__struct_fields__
        if (mine := getattr(policy, name)) != (theirs := getattr(embodiment, name))
    ]
    if differences:
        raise SpecError(
            "policy and embodiment disagree on the meaning of an action: "
            + "; ".join(differences)
            + ". Convert the policy's actions or choose a matching robot configuration."
        )


class Embodiment(Strict, frozen=True):
    """What a robot declares before it accepts actions of a policy."""

    action: ActionSpec = ActionSpec()
    observation: ObservationSpec = ObservationSpec()
    """All cameras that the robot has, and what their pictures look like."""
    normalisation: str | None = None
    """Statistics that the policy must have been trained with; None accepts any."""


def check_sees(policy: ObservationSpec, embodiment: ObservationSpec) -> None:
    """Refuses a policy that must be shown what an embodiment does not have.

    ``flip`` is not compared: pictures are shown upright, and a policy that wants them mirrored does so itself.

    Raises:
        SpecError: A camera is missing, or pictures or proprioception differ; the message lists every difference.
    """
    differences = []
    if policy.cameras and policy.size != embodiment.size:
        differences.append(f"size: policy {policy.size!r}, embodiment {embodiment.size!r}")
    if not set(policy.cameras) <= set(embodiment.cameras):
        differences.append(f"cameras: policy {list(policy.cameras)}, embodiment {list(embodiment.cameras)}")
    if policy.proprio and not embodiment.proprio:
        differences.append("proprio: policy True, embodiment False")
    if differences:
        raise SpecError(
            "the policy needs to see what the embodiment does not show: "
            + "; ".join(differences)
            + ". Choose a matching robot configuration."
        )
