"""An official folder as a whole: weights, statistics, tokenizer and normalisation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tgrpo.errors import CheckpointError, PolicyError
from tgrpo.policies.vla import weights
from tgrpo.policies.vla.config import choose_key, read_config
from tgrpo.policies.vla.network import Network
from tgrpo.policies.vla.pictures import SIZE, Normaliser
from tgrpo.policies.vla.prompts import PromptEncoder
from tgrpo.policies.vla.statistics import Statistics

ROUNDING = {torch.float32: 1e-3}
"""Largest difference that logits of two ways to compute them may have by rounding; 1 in half precision."""
HEADS = (16, 16)
"""Attention heads of DINOv2-L and SigLIP so400m, which no file of a checkpoint tells."""


@dataclass(frozen=True)
class Loading:
    """How to load weights."""

    heads: tuple[int, int] = HEADS
    """Attention heads of both towers."""
    dtype: torch.dtype | None = None
    """Of the weights; None keeps the stored one."""
    device: str = "cpu"
    """Where they go."""


@dataclass(frozen=True)
class Folder:
    """What was read from an official folder."""

    path: Path
    network: Network
    statistics: Mapping[str, Statistics]
    normaliser: Normaliser
    encoder: PromptEncoder | None
    """None for a folder without ``tokenizer.json``."""

    @classmethod
    def read(cls, path: Path, loading: Loading, towers: Path | None = None) -> Folder:
        """Reads a folder with ``config.json`` and safetensors.

        Args:
            path: The folder.
            loading: How to load the weights.
            towers: File with towers with FiLM, which take the place of the folder's own.

        Raises:
            CheckpointError: Something is missing, damaged or unknown; the message names it.
        """
        sizes, statistics = read_config(path)
        found = weights.stored(path)
        shapes = {name: tensor.shape for name, tensor in found.items()}
        network = weights.empty_network(shapes, sizes, loading.heads, film=towers is not None)
        if towers is not None:
            found = weights.with_towers(found, towers)
            shapes = {name: tensor.shape for name, tensor in found.items()}
        weights.check_names(network, shapes, weights.unused(network), str(path))
        weights.fill(network, found, loading.dtype, loading.device)
        network.restore_frequencies()
        file = path / "tokenizer.json"
        encoder = PromptEncoder(file) if file.exists() else None
        return cls(path, network.eval(), statistics, Normaliser.read(path), encoder)

    def encode(self, instruction: str) -> list[int]:
        """Token ids of the prompt for an instruction.

        Raises:
            CheckpointError: The folder has no tokenizer.
        """
        if self.encoder is None:
            raise CheckpointError(f"{self.path} has no tokenizer.json, which the policy needs to read instructions.")
        return self.encoder(instruction)

    def check_engine(self, fast: Tensor, plain: Tensor) -> None:
        """Compares what the engine computes with what training computes; both should be the same but for rounding.

        A wrong cache or mask changes actions while teacher forcing stays right, so nothing else would notice.

        Raises:
            CheckpointError: They differ by more than rounding.
        """
        error = float((fast - plain).abs().max())
        if not error <= ROUNDING.get(self.network.dtype, 1.0):
            raise CheckpointError(
                f"{self.path}: decisions of the engine (with a cache) and of single passes (without one) differ by "
                f"{error:.3g}: the installed versions of torch and transformers do not compute the same. Install those "
                "in requirements/."
            )

    def ranges(self, key: str | None) -> Statistics:
        """Statistics of a data set.

        Raises:
            UnknownNameError: There are none of that name, or several to choose from.
        """
        return self.statistics[choose_key(dict(self.statistics), key)]


def checked_pictures(pixel_values: Tensor, rows: int, pictures: int) -> Tensor:
    """The pictures of a batch, if there are as many as there should be.

    Raises:
        PolicyError: Their shape is not ``(B, 6 I, 224, 224)``.
    """
    shape = (rows, 6 * pictures, SIZE, SIZE)
    if tuple(pixel_values.shape) != shape:
        raise PolicyError(f"pixel_values have the shape {tuple(pixel_values.shape)}, the policy needs {shape}.")
    return pixel_values
