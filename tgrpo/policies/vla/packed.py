"""Linear layers that share their input, as one matrix product with their adapters.

Deciding for one robot is bound by how fast weights are read and by how many small kernels run between; three products
and their adapters become one product and two thin ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tgrpo.policies import sharding
from tgrpo.policies.adapters import NAME


class Packed:
    """Some linear layers without biases, side by side.

    The weights of the layers become views of one matrix, so there still is one copy of them, and whoever changes them
    in place changes what is computed here. Sharded weights are copied. Adapters are copied by :meth:`take`, in the
    precision of the weights.
    """

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        """Joins the weights.

        Args:
            layers: Linear layers of one input width, with or without adapters.
        """
        bases = [_base(layer) for layer in layers]
        weights = [sharding.gathered(base.weight) for base in bases]
        self._weight = weights[0] if len(bases) == 1 else torch.cat(weights)
        self._widths = [len(base.weight) for base in bases]
        for base, rows in zip(bases, self._weight.split(self._widths), strict=True):
            if not sharding.is_sharded(base.weight):
                base.weight.data = rows
        self._adapter: tuple[Tensor, Tensor] | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """``(..., E)`` to the outputs of all layers, side by side."""
        out = functional.linear(x, self._weight)
        if self._adapter is None:
            return out
        down, up = self._adapter
        return out + functional.linear(functional.linear(x, down), up)

    @torch.no_grad()
    def take(self, layers: Sequence[nn.Module]) -> bool:
        """Copies the adapters of the layers as they are now.

        Returns:
            Whether they are in the memory where they were before, so that a recorded computation sees them.
        """
        before, self._adapter = (
            self._adapter,
            self._room(sum(len(_down(layer)) for layer in layers if has_adapter(layer))),
        )
        if self._adapter is None:
            return before is None
        down, up = self._adapter
        up.zero_()  # what one layer's adapter would add to another one's output
        row = column = 0
        for layer, width in zip(layers, self._widths, strict=True):
            if has_adapter(layer):
                rank = len(_down(layer))
                down[column : column + rank] = _down(layer)
                up[row : row + width, column : column + rank] = _up(layer)
                column += rank
            row += width
        return before is not None and before[0] is down

    def _room(self, rank: int) -> tuple[Tensor, Tensor] | None:
        """Memory for adapters of so many ranks in all: what there is, if it fits."""
        if not rank:
            return None
        if self._adapter is not None and len(self._adapter[0]) == rank:
            return self._adapter
        return self._weight.new_zeros(rank, self._weight.shape[1]), self._weight.new_zeros(len(self._weight), rank)


def has_adapter(layer: Any) -> bool:
    """Whether an adapter is in a layer, and on."""
    # The type first: a module takes long to say that it lacks an attribute.
    return type(layer) is not nn.Linear and hasattr(layer, "lora_A") and not layer.disable_adapters


def _down(layer: Any) -> Tensor:
    weight: Tensor = layer.lora_A[NAME].weight
    return weight


def _up(layer: Any) -> Tensor:
    weight: Tensor = layer.lora_B[NAME].weight * layer.scaling[NAME]
    return weight


def _base(layer: Any) -> nn.Linear:
    base: nn.Linear = getattr(layer, "base_layer", layer)
    return base
