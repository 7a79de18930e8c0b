"""Imitation of demonstrations: soft bin labels and the augmentation that goes with few demonstrations.

Shapes: ``B`` batch, ``C`` cameras, ``K`` chunk, ``A`` action dims, ``V`` bins.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


def soft_labels(bins: int, sigma: float) -> Tensor:
    """Target distribution for each bin ``(V, V)``: a Gaussian over the neighbouring bins.

    A neighbouring bin is almost right; hard labels hide that from a small network, which then needs far more
    demonstrations. The width also is what the policy explores with later, when it samples.

    Args:
        bins: Number of bins ``V``.
        sigma: Standard deviation of the Gaussian [bins]; 0 gives hard labels.
    """
    if sigma == 0:
        return torch.eye(bins)
    places = torch.arange(bins, dtype=torch.float32)
    return (-0.5 * ((places[:, None] - places) / sigma) ** 2).softmax(-1)


def loss(logits: Tensor, targets: Tensor, labels: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean cross-entropy per token [nat].

    Args:
        logits: ``(B, K, A, V)``.
        targets: Bins of the demonstrated actions ``(B, K, A)``.
        labels: From :func:`soft_labels`, ``(V, V)``.
        mask: True for the actions that were demonstrated ``(B, K)``; all of them by default.
    """
    if mask is not None:
        logits, targets = logits[mask], targets[mask]
    return functional.cross_entropy(logits.flatten(0, -2), labels[targets.flatten()])


def shifted(pictures: Tensor, pixels: int, rng: np.random.Generator) -> Tensor:
    """Moves each picture by up to ``pixels`` in both directions, edges repeated (DrQ, arXiv 2004.13649).

    Args:
        pictures: ``(B, C, H, W, 3)`` uint8.
        pixels: Largest shift [px].
        rng: Draws the shifts.
    """
    batch, cameras, height, width, _ = pictures.shape
    flat = pictures.flatten(0, 1).permute(0, 3, 1, 2).float()
    padded = functional.pad(flat, (pixels,) * 4, mode="replicate").to(torch.uint8).permute(0, 2, 3, 1)
    offsets = rng.integers(0, 2 * pixels + 1, (batch * cameras, 2))
    moved = [p[i : i + height, j : j + width] for p, (i, j) in zip(padded, offsets.tolist(), strict=True)]
    return torch.stack(moved).view_as(pictures)
