"""The network of the tiny VLA: keypoint vision, a small Llama, one query token for each action of a chunk.

Shapes: ``B`` batch, ``C`` cameras, ``P`` prompt tokens, ``E`` width, ``K`` chunk, ``A`` action dims, ``V`` bins.
"""

from __future__ import annotations

from typing import Annotated, cast

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.models.llama.configuration_llama import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaModel

from tgrpo.policies import blocks
from tgrpo.policies.prompt import VOCABULARY
from tgrpo.settings import Strict
from tgrpo.spec import ObservationSpec, PolicySpec

Size = Annotated[int, msgspec.Meta(ge=1)]

TINY_SPEC = PolicySpec(
    observation=ObservationSpec(cameras=("agentview", "robot0_eye_in_hand"), size=96, proprio=True), chunk=8
)


LORA_TARGETS = r"trunk\..*_proj|head|proprio"
"""Linear layers that get a low-rank adapter; the vision towers stay as they are."""


class TinyConfig(Strict, frozen=True):
    """Sizes of the tiny VLA; the defaults have 1.6 M parameters."""

    spec: PolicySpec = TINY_SPEC
    width: Size = 128
    layers: Size = 3
    heads: Size = 4
    feed_forward: Size = 352
    channels: Size = 64
    """Channels of the convolutions behind the keypoints."""
    keypoints: Size = 32
    """Spatial-softmax keypoints for each camera."""
    tokens: Size = 8
    """Vision tokens for each camera that the keypoints are projected to."""
    vocabulary: tuple[str, ...] = VOCABULARY
    body_mean: tuple[float, ...] = (0.0,) * 11
    """Mean of the demonstrations' :func:`body_features`, subtracted before the projection."""
    body_std: tuple[float, ...] = (1.0,) * 11
    """Standard deviation of the demonstrations' :func:`body_features`."""


def body_features(proprio: Tensor) -> Tensor:
    """Proprioception ``(B, 8)`` with a continuous rotation: ``(B, 11)``.

    An arm that points down turns by about 180 degrees, where an axis-angle vector jumps to its opposite. Two columns
    of the rotation matrix do not jump (Zhou et al. 2019, arXiv 1812.07035).
    """
    position, rotation, fingers = proprio.split((3, 3, 2), -1)
    angle = rotation.norm(dim=-1, keepdim=True).clamp(min=1e-8)
    axis = rotation / angle
    columns = []
    for unit in torch.eye(3, dtype=proprio.dtype, device=proprio.device)[:2].expand(len(proprio), 2, 3).unbind(1):
        along = axis * (axis * unit).sum(-1, keepdim=True)
        across = torch.linalg.cross(axis, unit)
        columns.append(along + (unit - along) * angle.cos() + across * angle.sin())
    return torch.cat([position, *columns, fingers], -1)


class KeypointEncoder(nn.Module):
    """One camera: convolutions modulated by the instruction, then a spatial softmax.

    A spatial softmax gives coordinates instead of patches: with few demonstrations, plain patch tokens of
    this size do not learn where things are (spatial autoencoders, arXiv 1509.06113; FiLM, arXiv 1709.07871).
    """

    xs: Tensor
    ys: Tensor

    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        c = config.channels
        self.stem = nn.Sequential(nn.Conv2d(3, 32, 5, 2, 2), nn.GroupNorm(8, 32), nn.SiLU())
        self.down = nn.Sequential(nn.Conv2d(32, c, 3, 2, 1), nn.GroupNorm(8, c))
        self.film = nn.Linear(config.width, 2 * c)
        self.body = nn.Sequential(nn.Conv2d(c, c, 3, 1, 1), nn.GroupNorm(8, c), nn.SiLU())
        self.heat = nn.Conv2d(c, config.keypoints, 1)
        self.sharpness = nn.Parameter(torch.tensor(1.0))
        self.project = nn.Linear(3 * config.keypoints, config.tokens * config.width)
        self.tokens = config.tokens
        side = (config.spec.observation.size + 3) // 4
        ys, xs = torch.meshgrid(torch.linspace(-1, 1, side), torch.linspace(-1, 1, side), indexing="ij")
        self.register_buffer("xs", xs.reshape(-1), persistent=False)
        self.register_buffer("ys", ys.reshape(-1), persistent=False)

    def forward(self, pictures: Tensor, language: Tensor) -> Tensor:
        """Pictures ``(B, 3, H, W)`` in ``[-1, 1]`` and language ``(B, E)`` to vision tokens ``(B, tokens, E)``."""
        scale, shift = blocks.linear(self.film, language)[..., None, None].chunk(2, 1)
        x = functional.silu(self.down(self.stem(pictures)) * (1 + scale) + shift)
        heat = (self.heat(self.body(x)) * self.sharpness).flatten(2).softmax(-1)
        peak = heat.amax(-1).sqrt()
        points = torch.cat([(heat * self.xs).sum(-1), (heat * self.ys).sum(-1), peak], -1)
        return cast(Tensor, blocks.linear(self.project, points).unflatten(1, (self.tokens, -1)))


class TinyModel(nn.Module):
    """Pictures, proprioception and a prompt in, logits over the bins of a whole chunk out."""

    body_mean: Tensor
    body_std: Tensor

    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        spec, width = config.spec, config.width
        self.config = config
        self.words = nn.Embedding(len(config.vocabulary), width, padding_idx=0)
        self.cameras = nn.ModuleList(KeypointEncoder(config) for _ in spec.observation.cameras)
        self.proprio = nn.Linear(11, width)
        self.queries = nn.Parameter(torch.randn(spec.chunk, width) * 0.5)
        self.places = nn.Parameter(torch.randn(config.tokens * len(spec.observation.cameras), width) * 0.02)
        llama = LlamaConfig(
            vocab_size=1,
            bos_token_id=None,
            eos_token_id=None,
            hidden_size=width,
            intermediate_size=config.feed_forward,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.heads,
            max_position_embeddings=256,
        )
        llama._attn_implementation = "sdpa"
        self.trunk = LlamaModel(llama)
        del self.trunk.embed_tokens
        self.head = nn.Linear(width, spec.action.dims * spec.bins)
        self.register_buffer("body_mean", torch.tensor(config.body_mean))
        self.register_buffer("body_std", torch.tensor(config.body_std))

    def see(self, pictures: Tensor, prompt: Tensor) -> Tensor:
        """Pictures ``(B, C, H, W, 3)`` uint8 and prompt ids ``(B, P)`` to vision tokens ``(B, C * tokens, E)``."""
        language = self.words(prompt).sum(1) / (prompt > 0).sum(1, keepdim=True)
        x = pictures.movedim(-1, -3).float() / 127.5 - 1.0
        return torch.cat([camera(x[:, i], language) for i, camera in enumerate(self.cameras)], 1)

    def decide(self, vision: Tensor, prompt: Tensor, proprio: Tensor) -> Tensor:
        """Vision tokens, prompt ids ``(B, P)`` and proprioception ``(B, 8)`` to logits ``(B, K, A, V)``."""
        spec = self.config.spec
        body = blocks.linear(self.proprio, (body_features(proprio) - self.body_mean) / self.body_std)[:, None]
        queries = self.queries.expand(len(prompt), -1, -1)
        sequence = torch.cat([self.words(prompt), vision + self.places, body, queries], 1)
        seen = functional.pad(prompt > 0, (0, sequence.shape[1] - prompt.shape[1]), value=True)
        mask = seen[:, None, None, :].expand(-1, 1, sequence.shape[1], -1)
        # Padding takes no place: what a prompt means must not depend on the longest one of its batch.
        places = (seen.cumsum(1) - 1).clamp(min=0)
        hidden = self.trunk(
            inputs_embeds=sequence, attention_mask=mask, position_ids=places, use_cache=False
        ).last_hidden_state
        logits = self.head(hidden[:, -spec.chunk :])
        return cast(Tensor, logits.unflatten(-1, (spec.action.dims, spec.bins)))

    def forward(self, pictures: Tensor, prompt: Tensor, proprio: Tensor, vision: Tensor | None = None) -> Tensor:
        """Logits ``(B, K, A, V)``; arguments as in :meth:`see` and :meth:`decide`.

        Args:
            pictures: Not looked at if ``vision`` is given.
            prompt: Token ids.
            proprio: Proprioception.
            vision: What :meth:`see` gave for these pictures earlier.
        """
        return self.decide(self.see(pictures, prompt) if vision is None else vision, prompt, proprio)
