"""The network of OpenVLA: two vision towers, a projector and a Llama, with ragged prompts and both kinds of attention.

A sequence is ``<s>``, the patches (and proprioception), the rest of the prompt, then what stands for the actions.
Prompts of a batch are padded at their right end, so the padding lies before the actions; it is masked and takes no
place, which makes every row the same as alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers.models.llama.configuration_llama import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaForCausalLM, LlamaRotaryEmbedding

from tgrpo.errors import SettingsError
from tgrpo.policies import sharding
from tgrpo.policies.vla.prompts import ACTION_IDS
from tgrpo.policies.vla.trunk import Trunk
from tgrpo.policies.vla.vision import Projector, VisionBackbone, VitSizes


@dataclass(frozen=True, eq=False)
class Context:
    """Everything in front of the actions, embedded."""

    embeddings: Tensor
    """``(B, S, E)``."""
    seen: Tensor
    """``(B, S)`` False for padding."""

    @property
    def lengths(self) -> Tensor:
        """``(B,)`` tokens of each row without padding."""
        return self.seen.sum(1)

    @property
    def places(self) -> Tensor:
        """``(B, S)`` position of each token; padding takes none."""
        return (self.seen.cumsum(1) - 1).clamp(min=0)

    def last(self, hidden: Tensor) -> Tensor:
        """What ``hidden`` ``(B, >= S, E)`` holds at the last token of each row: ``(B, 1, E)``."""
        place = self.seen.shape[1] - 1 - self.seen.flip(1).int().argmax(1)
        return hidden[torch.arange(len(hidden), device=hidden.device), place][:, None]

    def followed_by(self, tail: Tensor) -> Context:
        """This context and embeddings ``(B, T, E)`` behind it."""
        embeddings = torch.cat([self.embeddings, tail], 1)
        return Context(embeddings, functional.pad(self.seen, (0, tail.shape[1]), value=True))


class Network(nn.Module):
    """All weights of OpenVLA under their official names."""

    def __init__(self, llama: LlamaConfig, towers: tuple[VitSizes, VitSizes], *, film: bool = False) -> None:
        """Builds the network; its weights come from :mod:`tgrpo.policies.vla.weights`.

        Args:
            llama: Sizes of the language model.
            towers: Sizes of DINOv2 and SigLIP.
            film: Whether the instruction modulates the towers.
        """
        super().__init__()
        self.has_film = film
        self._saves_memory = False
        self.vision_backbone = VisionBackbone(towers, llama.hidden_size if film else None)
        self.projector = Projector(towers[0].width + towers[1].width, llama.hidden_size)
        self.language_model = LlamaForCausalLM(llama)
        _fuse_norms(self.language_model.model, llama)

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.projector.fc1.weight.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.projector.fc1.weight.device

    @cached_property
    def trunk(self) -> Trunk:
        """The language model for decisions, from the same weights; made when it is first needed.

        Raises:
            SettingsError: The weights are sharded over several processes; see :meth:`gather`.
        """
        if any(map(sharding.is_sharded, self.language_model.model.parameters())):
            raise SettingsError("weights that are sharded over processes cannot decide; gather them first.")
        return Trunk(self.language_model.model)

    def gather(self) -> None:
        """Copies sharded weights to decide with, for as long as :attr:`trunk` is kept; it takes all processes."""
        if "trunk" not in self.__dict__:
            self.__dict__["trunk"] = Trunk(self.language_model.model)

    def restore_frequencies(self) -> None:
        """Computes the rotary frequencies, which are in no file; a network built on the meta device has none.

        They stay float32 whatever the weights are: in bfloat16, positions beyond 256 would fall together.
        """
        with torch.device("cpu"):
            fresh = LlamaRotaryEmbedding(self.language_model.config)
        self.language_model.model.rotary_emb = fresh.to(self.device)

    def save_memory(self) -> None:
        """From now on, passes with gradients keep one activation for each layer and compute the others again."""
        self._saves_memory = True
        for layer in self.language_model.model.layers:
            layer.gradient_checkpointing = True
            layer._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)

    def see(self, pixel_values: Tensor, language: Tensor | None = None) -> Tensor:
        """Vision features ``(B, I * 256, F)``; arguments as for :class:`VisionBackbone`."""
        return cast(Tensor, self.vision_backbone(pixel_values.to(self.device, self.dtype), language))

    def project(self, features: Tensor) -> Tensor:
        """Vision features as tokens of the language model ``(B, I * 256, E)``."""
        return cast(Tensor, self.projector(features.to(self.device, self.dtype)))

    def embed(self, ids: Tensor) -> Tensor:
        """Token ids ``(B, P)`` to embeddings ``(B, P, E)``."""
        return cast(Tensor, self.language_model.model.embed_tokens(ids.to(self.device)))

    def context(self, prompt: Tensor, seen: Tensor, patches: Sequence[Tensor]) -> Context:
        """What the actions follow.

        Args:
            prompt: Token ids ``(B, P)``, padded at the right end.
            seen: ``(B, P)`` False for padding.
            patches: Tokens ``(B, any, E)`` that go in behind ``<s>``: pictures, then proprioception.
        """
        words = self.embed(prompt)
        embeddings = torch.cat([words[:, :1], *patches, words[:, 1:]], 1)
        inserted = embeddings.shape[1] - prompt.shape[1]
        return Context(embeddings, functional.pad(seen.to(self.device), (inserted, 0), value=True))

    def think(self, context: Context, *, bidirectional: bool = False) -> Tensor:
        """Last hidden states ``(B, S, E)`` of a whole sequence, with gradients.

        Args:
            context: The sequence.
            bidirectional: Every token sees every other one (OpenVLA-OFT), not only those before it.
        """
        length = context.seen.shape[1]
        mask = context.seen[:, None, None, :].expand(-1, 1, length, -1)
        if not bidirectional:
            mask = mask & torch.ones(length, length, dtype=torch.bool, device=mask.device).tril()
        # transformers checkpoints layers "in training"; nothing else depends on it here, there is no dropout.
        for layer in self.language_model.model.layers:
            layer.training = self._saves_memory and torch.is_grad_enabled()
        output = self.language_model.model(
            inputs_embeds=context.embeddings, attention_mask=mask, position_ids=context.places, use_cache=False
        )
        return cast(Tensor, output.last_hidden_state)

    def action_scores(self, hidden: Tensor) -> Tensor:
        """Logits of the 256 action ids alone ``(..., V)``, in the order of their ids."""
        rows = self.language_model.lm_head.weight[ACTION_IDS.start : ACTION_IDS.stop]
        return functional.linear(hidden, rows)


def _fuse_norms(llama: Any, config: LlamaConfig) -> None:
    """Puts torch's norm, which is one kernel, in the place of transformers', under the same names."""

    def fused() -> nn.RMSNorm:
        return nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)

    for layer in llama.layers:
        layer.input_layernorm, layer.post_attention_layernorm = fused(), fused()
    llama.norm = fused()
