"""The language model for decisions: the layers' own weights, packed, with keys and values in memory of a fixed size.

Nothing in here depends on values, only on shapes, so that a graphics card can record it. Training computes the same
with transformers' layers; that both agree is checked when a checkpoint is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.models.llama.modeling_llama import LlamaModel

from tgrpo.policies import sharding
from tgrpo.policies.vla.packed import Packed, has_adapter


class Trunk:
    """A Llama without gradients.

    Attributes:
        moves: How often memory that a recorded computation uses has moved.
    """

    def __init__(self, llama: LlamaModel) -> None:
        """Packs the weights of the layers, in place; sharded ones are copied, which takes all processes."""
        self._llama = llama
        self._layers = [_Layer(layer) for layer in llama.layers]
        self._seen: tuple[Any, ...] = ()
        self.moves = 0

    def refresh(self) -> int:
        """Takes over adapters that were added, changed or switched since the last call; returns :attr:`moves`."""
        state = self._state()
        if state != self._seen:
            self._seen = state
            kept = [layer.take() for layer in self._layers]  # each must take its own, also behind one that moved
            self.moves += not all(kept)
        return self.moves

    def cache(self, rows: int, length: int) -> Tensor:
        """Memory for the keys and values of so many tokens ``(layers, 2, B, key heads, S, D)``."""
        layer = self._layers[0]
        weight = self._llama.embed_tokens.weight
        return weight.new_empty(len(self._layers), 2, rows, layer.key_heads, length, layer.dim)

    def __call__(
        self,
        x: Tensor,
        places: Tensor,
        mask: Tensor | None,
        cache: Tensor | None = None,
        start: int = 0,
    ) -> Tensor:
        """Last hidden states ``(B, S, E)``.

        Args:
            x: Embeddings ``(B, S, E)``.
            places: Position of each token ``(B, S)``.
            mask: Added to the scores of what is looked at ``(B, 1, 1 or S, any)``; with None each token sees itself and
                those before it.
            cache: From :meth:`cache`; new keys and values go in at ``start``, and those before are looked at, too.
            start: Tokens that are in the cache already.
        """
        turn = tuple(part[:, :, None] for part in self._llama.rotary_emb(x, places))
        for number, layer in enumerate(self._layers):
            x = layer(x, turn, mask, None if cache is None else cache[number], start)
        return cast(Tensor, self._llama.norm(x))

    def _state(self) -> tuple[Any, ...]:
        """What changes when adapters are added, trained or switched: cheap, as it is looked at for each decision."""
        adapters = [layer for part in self._layers for layer in part.linears() if has_adapter(layer)]
        weights = [value for layer in adapters for value in (*layer.lora_A.values(), *layer.lora_B.values())]
        return tuple(map(id, adapters)), sum(value.weight._version for value in weights)


class _Layer:
    """One layer of the Llama."""

    def __init__(self, layer: nn.Module) -> None:
        self._layer = layer
        self._groups = [Packed(linears) for linears in self._shared()]
        self._norms = [_norm(norm) for norm in (layer.input_layernorm, layer.post_attention_layernorm)]
        attention: Any = layer.self_attn
        self.dim = int(attention.head_dim)
        self.key_heads = attention.k_proj.weight.shape[0] // self.dim
        self._grouped = attention.num_key_value_groups > 1

    def linears(self) -> list[Any]:
        """All linear layers."""
        return [linear for linears in self._shared() for linear in linears]

    def take(self) -> bool:
        """See :meth:`Packed.take`."""
        kept = [packed.take(linears) for packed, linears in zip(self._groups, self._shared(), strict=True)]
        return all(kept)

    def __call__(
        self, x: Tensor, turn: tuple[Tensor, ...], mask: Tensor | None, cache: Tensor | None, start: int
    ) -> Tensor:
        norm_attention, norm_mlp = self._norms
        in_attention, out_attention, in_mlp, out_mlp = self._groups
        heads = in_attention(norm_attention(x)).unflatten(-1, (-1, self.dim))
        turned, values = heads[:, :, : -self.key_heads], heads[:, :, -self.key_heads :]
        turned = turned * turn[0] + _quarter_turn(turned) * turn[1]
        query, keys = turned[:, :, : -self.key_heads], turned[:, :, -self.key_heads :]
        query, keys, values = query.transpose(1, 2), keys.transpose(1, 2), values.transpose(1, 2)
        if cache is not None:
            end = start + x.shape[1]
            cache[0, :, :, start:end], cache[1, :, :, start:end] = keys, values
            keys, values = cache[0, :, :, :end], cache[1, :, :, :end]
        mixed = functional.scaled_dot_product_attention(
            query, keys, values, attn_mask=mask, is_causal=mask is None, enable_gqa=self._grouped
        )
        x = x + out_attention(mixed.transpose(1, 2).flatten(2))
        gate, up = in_mlp(norm_mlp(x)).chunk(2, -1)
        return x + out_mlp(functional.silu(gate) * up)

    def _shared(self) -> tuple[tuple[nn.Module, ...], ...]:
        """Linear layers by what they look at."""
        attention, mlp = cast(Any, self._layer.self_attn), cast(Any, self._layer.mlp)
        return (
            (attention.q_proj, attention.k_proj, attention.v_proj),
            (attention.o_proj,),
            (mlp.gate_proj, mlp.up_proj),
            (mlp.down_proj,),
        )


def _norm(norm: Any) -> Callable[[Tensor], Tensor]:
    """A norm itself, or one of whole weights if its own are sharded."""
    if not sharding.is_sharded(norm.weight):
        return cast(nn.Module, norm)
    whole = sharding.gathered(norm.weight)
    return partial(functional.rms_norm, normalized_shape=norm.normalized_shape, weight=whole, eps=norm.eps)


def _quarter_turn(heads: Tensor) -> Tensor:
    """Rotates each pair of dimensions by 90 degrees; Llama pairs the first half of a head with the second."""
    first, second = heads.chunk(2, -1)
    return torch.cat([-second, first], -1)


def additive(seen: Tensor, dtype: torch.dtype) -> Tensor:
    """Mask of what is not padding ``(B, S)`` as what is added to scores ``(B, 1, 1, S)``: 0 or minus infinity.

    Its rows, and those of its slices, begin at multiples of 8, or attention kernels would copy it in every layer.
    """
    width = seen.shape[1]
    mask = torch.zeros(len(seen), width + -width % 8, dtype=dtype, device=seen.device)
    mask[:, :width].masked_fill_(~seen, float("-inf"))
    return mask[:, None, None, :width]
