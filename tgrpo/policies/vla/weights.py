"""Loads weights by their official names, shard by shard, and refuses a set of names that is not OpenVLA's."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from tgrpo.errors import CheckpointError
from tgrpo.policies.vla.config import LlamaSizes
from tgrpo.policies.vla.network import Network
from tgrpo.policies.vla.vision import sizes_from

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Stored:
    """Where one tensor is."""

    file: Path
    shape: Shape
    name: str
    """Under which it is there."""


def stored(folder: Path) -> dict[str, Stored]:
    """All tensors of a checkpoint by name; nothing is read but the headers.

    Raises:
        CheckpointError: There are no weights as safetensors, a shard is missing or damaged, or the index lies.
    """
    index = folder / INDEX
    if not index.exists():
        if not (folder / SINGLE).exists():
            raise CheckpointError(f"{folder}: no weights: neither {SINGLE} nor {INDEX}; other formats are not read.")
        return headers(folder / SINGLE)
    try:
        listed: dict[str, str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        names = sorted(set(listed.values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index}: damaged: {error!r}.") from error
    if any(Path(name).name != name for name in names):
        raise CheckpointError(f"{index}: shards must lie beside the index, got {names}.")
    found = {name: tensor for shard in names for name, tensor in headers(folder / shard).items()}
    odd = {name for name, shard in listed.items() if name not in found or found[name].file.name != shard}
    if odd or set(found) != set(listed):
        raise CheckpointError(
            f"{index}: does not match its shards, for example {_some(odd or set(found) ^ set(listed))}."
        )
    return found


def headers(file: Path) -> dict[str, Stored]:
    """All tensors of one file by name.

    Raises:
        CheckpointError: The file is missing or damaged.
    """
    try:
        with safe_open(file, framework="pt") as content:
            return {n: Stored(file, tuple(content.get_slice(n).get_shape()), n) for n in content.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file}: missing or damaged: {error}") from error


def empty_network(shapes: Mapping[str, Shape], llama: LlamaSizes, heads: tuple[int, int], *, film: bool) -> Network:
    """A network without memory, sized as its weights are.

    Args:
        shapes: Shape of each weight by its official name.
        llama: Sizes of the language model.
        heads: Attention heads of DINOv2 and SigLIP, which are in no file.
        film: Whether the instruction modulates the towers.

    Raises:
        CheckpointError: Weights that tell the sizes are missing, or a tower's width is no multiple of its heads.
    """
    try:
        first, second = (sizes_from(dict(shapes), tower, n) for tower, n in zip(_TOWERS, heads, strict=True))
    except (KeyError, IndexError) as error:
        raise CheckpointError(f"the checkpoint is not an OpenVLA: {error} is missing.") from error
    for tower, sizes in zip(_TOWERS, (first, second), strict=True):
        if sizes.heads < 1 or sizes.width % sizes.heads:
            raise CheckpointError(
                f"{tower} is {sizes.width} wide, which {sizes.heads} heads cannot share; set vit_heads."
            )
    with torch.device("meta"):
        return Network(llama.llama_config(), (first, second), film=film)


def unused(network: Network) -> re.Pattern[str]:
    """Names of weights that official folders have and the network does not need: see :mod:`.vision`."""
    towers = network.vision_backbone
    depths = {"featurizer": len(towers.featurizer.blocks), "fused_featurizer": len(towers.fused_featurizer.blocks)}
    blocks = "|".join(rf"{tower}\.blocks\.{depth}\." for tower, depth in depths.items())
    return re.compile(rf"vision_backbone\.({blocks}|(fused_)?featurizer\.norm\.|fused_featurizer\.attn_pool\.)")


def with_towers(tensors: Mapping[str, Stored], file: Path) -> dict[str, Stored]:
    """A checkpoint whose vision towers are those of another file.

    The file is OpenVLA-OFT's component with FiLM; its names repeat the attribute that holds the towers.

    Raises:
        CheckpointError: The file is missing or damaged.
    """
    start = "vision_backbone."
    towers = {start + name.removeprefix(start).removeprefix(start): tensor for name, tensor in headers(file).items()}
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(start)} | towers


def check_names(module: nn.Module, shapes: Mapping[str, Shape], ignored: re.Pattern[str] | None, source: str) -> None:
    """Refuses a checkpoint that does not have exactly the weights of a module.

    Args:
        module: What is to be loaded; it may be on the meta device.
        shapes: Shape of each weight that is there.
        ignored: Names that may be there or not.
        source: Where the weights are; it leads the error message.

    Raises:
        CheckpointError: A weight is missing, unknown or has another shape; the message names some.
    """
    wanted = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    missing = wanted.keys() - shapes.keys()
    unknown = {name for name in shapes.keys() - wanted.keys() if ignored is None or not ignored.match(name)}
    wrong = {f"{n} {shapes[n]} for {wanted[n]}" for n in wanted.keys() & shapes.keys() if wanted[n] != tuple(shapes[n])}
    for what, names in (("are missing", missing), ("are unknown", unknown), ("have another shape", wrong)):
        if names:
            raise CheckpointError(f"{source}: {len(names)} weights {what}: {_some(names)}.")


def fill(module: nn.Module, tensors: Mapping[str, Stored], dtype: torch.dtype | None, device: str) -> None:
    """Reads the weights of a module, file by file.

    Args:
        module: On the meta device; its names have been checked.
        tensors: Where each weight is.
        dtype: Of the weights; None keeps the stored one.
        device: Where they go.

    Raises:
        CheckpointError: A file is damaged.
    """
    wanted = module.state_dict().keys()
    for file in sorted({tensors[name].file for name in wanted}):
        part: dict[str, Tensor] = {}
        try:
            with safe_open(file, framework="pt", device=device) as content:
                for name in wanted:
                    if tensors[name].file == file:
                        part[name] = content.get_tensor(tensors[name].name).to(dtype=dtype)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{file}: damaged: {error}") from error
        module.load_state_dict(part, strict=False, assign=True)


_TOWERS = ("featurizer", "fused_featurizer")


def _some(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)[:3])
