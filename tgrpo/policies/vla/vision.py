"""The two vision towers of OpenVLA and what projects their features into the language model.

``featurizer`` is DINOv2-L with 4 registers (arXiv 2304.07193, 2309.16588), ``fused_featurizer`` is SigLIP so400m
(arXiv 2303.15343). Features are the patches behind the last block but one, without a final norm, so the last block,
the norms and SigLIP's pooling are in the files and never used: they are not built here.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from tgrpo.settings import Strict


class VitSizes(Strict, frozen=True):
    """Sizes of one tower, as its weights have them."""

    width: int
    feed_forward: int
    blocks: int
    """Blocks that are run: one less than the files have."""
    heads: int
    prefix: int
    """Class and register tokens in front of the patches."""
    scaled: bool
    """Whether each residual branch has a learned scale (LayerScale, arXiv 2103.17239)."""
    patches: int = 256
    patch: int = 14
    """Side of a patch [px]."""


class Attention(nn.Module):
    """Every patch looks at every patch."""

    def __init__(self, sizes: VitSizes) -> None:
        super().__init__()
        self.heads = sizes.heads
        self.qkv = nn.Linear(sizes.width, 3 * sizes.width)
        self.proj = nn.Linear(sizes.width, sizes.width)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, S, F)`` to ``(B, S, F)``."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v)
        return cast(Tensor, self.proj(mixed.transpose(1, 2).flatten(2)))


class Mlp(nn.Module):
    """Two linear layers with a GELU (the exact one) between them."""

    def __init__(self, sizes: VitSizes) -> None:
        super().__init__()
        self.fc1 = nn.Linear(sizes.width, sizes.feed_forward)
        self.fc2 = nn.Linear(sizes.feed_forward, sizes.width)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, S, F)`` to ``(B, S, F)``."""
        return cast(Tensor, self.fc2(functional.gelu(self.fc1(x))))


class LayerScale(nn.Module):
    """One learned factor for each feature; OpenVLA's files call it ``scale_factor``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale_factor = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, S, F)`` to ``(B, S, F)``."""
        return x * self.scale_factor


class Block(nn.Module):
    """One transformer block; between attention and MLP the instruction may modulate the features."""

    def __init__(self, sizes: VitSizes) -> None:
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(sizes.width, eps=1e-6) for _ in range(2))
        self.attn, self.mlp = Attention(sizes), Mlp(sizes)
        self.ls1, self.ls2 = (LayerScale(sizes.width) if sizes.scaled else nn.Identity() for _ in range(2))

    def forward(self, x: Tensor, film: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """``(B, S, F)`` to ``(B, S, F)``.

        Args:
            x: Features.
            film: Scale and shift ``(B, 1, F)``.
        """
        x = x + self.ls1(self.attn(self.norm1(x)))
        if film is not None:
            x = x * (1 + film[0]) + film[1]
        return cast(Tensor, x + self.ls2(self.mlp(self.norm2(x))))


class FilmBlock(nn.Module):
    """A block that the instruction modulates (FiLM, arXiv 1709.07871), as OpenVLA-OFT+ wraps it."""

    def __init__(self, sizes: VitSizes, language: int) -> None:
        super().__init__()
        self.block = Block(sizes)
        self.scale, self.shift = nn.Linear(language, sizes.width), nn.Linear(language, sizes.width)

    def forward(self, x: Tensor, language: Tensor) -> Tensor:
        """Features ``(B, S, F)`` and mean prompt embedding ``(B, E)`` to ``(B, S, F)``."""
        return cast(Tensor, self.block(x, (self.scale(language)[:, None], self.shift(language)[:, None])))


class PatchEmbed(nn.Module):
    """Cuts a picture into patches."""

    def __init__(self, sizes: VitSizes) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, sizes.width, sizes.patch, sizes.patch)

    def forward(self, pictures: Tensor) -> Tensor:
        """``(B, 3, H, W)`` to ``(B, 256, F)``."""
        return cast(Tensor, self.proj(pictures).flatten(2).transpose(1, 2))


class Vit(nn.Module):
    """One tower."""

    def __init__(self, sizes: VitSizes, language: int | None = None) -> None:
        """Builds a tower.

        Args:
            sizes: Its sizes.
            language: Width of the prompt embedding that modulates it; None for a tower without FiLM.
        """
        super().__init__()
        self.prefix = sizes.prefix
        self.patch_embed = PatchEmbed(sizes)
        self.pos_embed = nn.Parameter(torch.zeros(1, sizes.patches, sizes.width))
        if sizes.prefix:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, sizes.width))
            self.reg_token = nn.Parameter(torch.zeros(1, sizes.prefix - 1, sizes.width))
        blocks = [Block(sizes) if language is None else FilmBlock(sizes, language) for _ in range(sizes.blocks)]
        self.blocks = nn.ModuleList(blocks)

    def forward(self, pictures: Tensor, language: Tensor | None) -> Tensor:
        """Pictures ``(B, 3, 224, 224)`` and mean prompt embedding ``(B, E)`` to features ``(B, 256, F)``."""
        x = self.patch_embed(pictures) + self.pos_embed
        if self.prefix:
            front = torch.cat([self.cls_token, self.reg_token], 1).expand(len(x), -1, -1)
            x = torch.cat([front, x], 1)
        for block in self.blocks:
            x = block(x) if language is None else block(x, language)
        return cast(Tensor, x[:, self.prefix :])


class VisionBackbone(nn.Module):
    """Both towers, side by side."""

    def __init__(self, sizes: tuple[VitSizes, VitSizes], language: int | None = None) -> None:
        """Builds both towers; arguments as for :class:`Vit`."""
        super().__init__()
        self.featurizer = Vit(sizes[0], language)
        self.fused_featurizer = Vit(sizes[1], language)

    def forward(self, pixel_values: Tensor, language: Tensor | None = None) -> Tensor:
        """Features of all pictures ``(B, I * 256, F)``.

        Args:
            pixel_values: ``(B, 6 I, 224, 224)``: for each picture 3 channels for DINOv2, then 3 for SigLIP.
            language: Mean prompt embedding ``(B, E)`` for towers with FiLM.
        """
        features = []
        for picture in pixel_values.split(6, 1):
            first, second = picture.split(3, 1)
            features.append(torch.cat([self.featurizer(first, language), self.fused_featurizer(second, language)], -1))
        return torch.cat(features, 1)


class Projector(nn.Module):
    """Vision features to the width of the language model."""

    def __init__(self, width: int, language: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, language)
        self.fc3 = nn.Linear(language, language)

    def forward(self, features: Tensor) -> Tensor:
        """``(B, S, F)`` to ``(B, S, E)``."""
        return cast(Tensor, self.fc3(functional.gelu(self.fc2(functional.gelu(self.fc1(features))))))


def sizes_from(shapes: dict[str, Any], tower: str, heads: int) -> VitSizes:
    """Sizes of a tower from the shapes of its weights; the number of heads is in no file.

    Args:
        shapes: Shape of every weight by its official name.
        tower: ``featurizer`` or ``fused_featurizer``.
        heads: Attention heads.

    Raises:
        KeyError: A weight that tells a size is missing.
    """
    start = f"vision_backbone.{tower}."
    names = [name.removeprefix(start) for name in shapes if name.startswith(start)]
    depth = 1 + max((int(name.split(".")[1]) for name in names if name.startswith("blocks.")), default=0)
    width = shapes[f"{start}patch_embed.proj.weight"][0]
    registers = shapes[f"{start}reg_token"][1] if "reg_token" in names else 0
    return VitSizes(
        width=width,
        feed_forward=shapes[f"{start}blocks.0.mlp.fc1.weight"][0],
        blocks=depth - 1,
        heads=heads,
        prefix=registers + ("cls_token" in names),
        scaled="blocks.0.ls1.scale_factor" in names,
        patches=shapes[f"{start}pos_embed"][1],
        patch=shapes[f"{start}patch_embed.proj.weight"][2],
    )
