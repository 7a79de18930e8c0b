"""A latent variable held for a whole rollout, so that the rollouts of a group differ in plan and not in noise only.

Source: Reparameterized Policy Gradient (arXiv 2307.10710); idea of: its learned dynamics and values are left out. What
remains: ``z`` is drawn once a rollout and conditions the policy, and a small reward pays for behaviour from which ``z``
can be told, which forces the modes apart. The policies here do not read ``z``. With ``--exploration episode`` it is the
quantile towards which the action tokens of a rollout lean (:mod:`tgrpo.policies.streams`); nothing is paid for it yet.

Shapes: ``N`` rollouts, ``Z`` latent dimensions.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

SPREAD = 0.38
"""Standard deviation of the inferred latent, as published."""
BETA = 0.005
"""Weight of the bonus, as published."""


def draw(count: int, dims: int, generator: torch.Generator) -> Tensor:
    """Latents of ``count`` rollouts ``(N, Z)``, standard normal."""
    return torch.randn(count, dims, generator=generator)


def log_likelihood(latent: Tensor, inferred: Tensor, spread: float = SPREAD) -> Tensor:
    """Log-density of the latents under a normal around what was inferred from behaviour.

    Args:
        latent: What was drawn ``(N, Z)``.
        inferred: What a model reads off the rollout ``(N, Z)``.
        spread: Standard deviation in each dimension.

    Returns:
        ``(N,)`` [nat].
    """
    squares = ((latent - inferred) / spread).square().sum(dim=-1)
    return -0.5 * squares - latent.shape[-1] * (math.log(spread) + 0.5 * math.log(2 * math.pi))


def bonus(latent: Tensor, inferred: Tensor, beta: float = BETA, spread: float = SPREAD) -> Tensor:
    """Reward term of each rollout ``(N,)``: ``beta * log p(z | behaviour)``; 0 for ``beta`` 0."""
    return beta * log_likelihood(latent, inferred, spread)


def diversity(outcomes: Tensor, groups: Tensor) -> tuple[float, float]:
    """Variance of an outcome between latents and within them; the first should be larger.

    Args:
        outcomes: For example the final hand position of each rollout ``(N, F)``.
        groups: Number of the latent that each rollout had ``(N,)``.
    """
    values = outcomes.double()
    labels = groups.unique()
    means = torch.stack([values[groups == label].mean(dim=0) for label in labels])
    within = torch.stack([values[groups == label].var(dim=0, correction=0).sum() for label in labels]).mean()
    return float(means.var(dim=0, correction=0).sum()), float(within)
