"""What ``policy.json`` says about a checkpoint of OpenVLA or OpenVLA-OFT."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from tgrpo.policies.base import MeanTemperature
from tgrpo.policies.vla.folder import HEADS
from tgrpo.settings import Strict

Size = Annotated[int, msgspec.Meta(ge=1)]
DESCRIPTION, ADAPTER = "policy.json", "adapter.safetensors"


class AdapterSettings(Strict, frozen=True):
    """Low-rank adapters beside the base."""

    rank: Size
    alpha: Size
    """Their output is scaled by ``alpha / rank``."""
    targets: str
    """Regular expression of the names of the layers that have one."""


class VlaSettings(Strict, frozen=True):
    """How a checkpoint was trained and is used; the official files do not tell."""

    kind: Literal["openvla", "openvla_oft"]
    """One token after another, or chunks of 8 actions in parallel."""
    base: str = "."
    """The official folder, absolute or relative to this file."""
    key: str | None = None
    """Data set whose statistics un-normalise the actions; only needed if there are several."""
    crop: bool = True
    """Show the middle 90 % of the pictures, for checkpoints that were trained with random crops."""
    vit_heads: tuple[Size, Size] = HEADS
    """Attention heads of both vision towers."""
    dtype: Literal["stored", "float32", "bfloat16"] = "stored"
    """Of the weights in memory."""
    mean_temperature: MeanTemperature = 0.0
    """At which the mean of all bins is what it does without sampling; 0 takes the most likely bins, as officially."""
    adapter: AdapterSettings | None = None
    """Adapters in ``adapter.safetensors``."""
    components: str | None = None
    """Folder of the converted components, absolute or relative to this file; the official one by default (OFT)."""
    head: Literal["discrete", "l1"] = "discrete"
    """Whether actions are classified, as RL needs it, or regressed (OFT)."""
    num_images: Literal[1, 2] = 1
    """Third person, or also the wrist (OFT)."""
    proprio: bool = False
    """Whether proprioception is an input (OFT)."""
    film: bool = False
    """Whether the instruction modulates the towers (OFT+)."""
    append_stop_token: bool = True
    """Whether ``</s>`` follows the actions: official and SimpleVLA-RL yes, RLinf no (OFT)."""
