"""The clipped surrogate objective of TGRPO.

Shapes: ``B`` decisions of a batch, ``K`` actions of a chunk, ``A`` tokens of an action.

Averages are taken in three stages, so that neither long rollouts nor long chunks count more: over the executed actions
of a decision (and their tokens), then over the decisions of a rollout, then over the rollouts. The last two are carried
by one weight for each decision, which is what makes micro-batches add up to the full batch exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

RatioLevel: TypeAlias = Literal["action", "token"]
"""``action``: one probability ratio for all ``A`` tokens of an action, as in the paper. ``token``: one for each."""

MAX_LOG_RATIO = 20.0
"""Bound that keeps ``exp`` finite [nat]; any ratio this far out is outside every clip range."""


@dataclass(frozen=True, eq=False)
class Objective:
    """The loss to minimise, and how far the policy has moved; all of them scalars on the device of the inputs."""

    loss: Tensor
    """Negative surrogate objective, differentiable."""
    clip_fraction: Tensor
    """Share of the ratios whose gradient the clip removed, 0 to 1."""
    ratio_max: Tensor
    """Largest probability ratio of an executed action or token."""
    approx_kl: Tensor
    """Estimate of KL(old || new) for each action or token, following the ratio level [nat]."""


def clipped_objective(  # noqa: PLR0913  (one argument for each quantity of the equation)
    log_probs: Tensor,
    old_log_probs: Tensor,
    advantages: Tensor,
    *,
    level: RatioLevel = "action",
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
    importance: Tensor | None = None,
) -> Objective:
    """Computes ``-mean(min(rho * A, clip(rho, 1 - clip_low, 1 + clip_high) * A))``.

    Args:
        log_probs: Log-probability of each executed token under the current policy ``(B, K, A)`` [nat].
        old_log_probs: The same under the policy that acted, at the same temperature ``(B, K, A)`` [nat].
        advantages: Advantage of each decision ``(B,)``.
        level: What one ratio covers.
        clip_low: How far a ratio may fall below 1.
        clip_high: How far a ratio may rise above 1.
        mask: True for the actions of each chunk that were executed ``(B, K)``; all of them by default.
        weights: Share of each decision ``(B,)``, see :func:`trajectory_weights`; ``1 / B`` by default.
        importance: Factor of each ratio's surrogate, from :func:`truncated_importance`; 1 by default.

    Raises:
        ValueError: A shape does not fit.
    """
    _check_shapes(log_probs, old_log_probs, advantages)
    log_ratio = log_probs.float() - old_log_probs.float()
    if level == "action":
        log_ratio = log_ratio.sum(dim=-1, keepdim=True)
    executed = torch.ones_like(log_ratio, dtype=torch.bool) if mask is None else mask[..., None].expand_as(log_ratio)
    log_ratio = torch.where(executed, log_ratio, 0.0).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    ratio = log_ratio.exp()
    gain = advantages.float()[:, None, None]
    free, clipped = ratio * gain, ratio.clamp(1.0 - clip_low, 1.0 + clip_high) * gain
    surrogate = torch.minimum(free, clipped)
    if importance is not None:
        surrogate = surrogate * importance
    surrogate = surrogate.mean(dim=-1)
    with torch.no_grad():
        count = executed.sum().clamp(min=1)
        clip_fraction = ((clipped < free) & executed).sum() / count
        approx_kl = (ratio - 1.0 - log_ratio).sum() / count
        ratio_max = torch.where(executed, ratio, 0.0).max()
    loss = -trajectory_mean(surrogate, mask, weights)
    return Objective(loss, clip_fraction, ratio_max, approx_kl)


def truncated_importance(log_probs: Tensor, acted: Tensor, *, level: RatioLevel, cap: float) -> Tensor:
    """Weights that make up for rollouts whose probabilities were computed in another way than the update's.

    What acted is not exactly what is updated where rollouts round differently. The ratio of both, cut off at a cap so
    that its variance stays bounded (truncated importance sampling), times the surrogate, is the surrogate of what is
    updated.

    Args:
        log_probs: Of each executed token as the update computes it, before its first step ``(B, K, A)`` [nat].
        acted: As the rollout computed it ``(B, K, A)`` [nat].
        level: What one ratio covers.
        cap: Largest weight.

    Returns:
        ``(B, K, A)``, or ``(B, K, 1)`` for whole actions, without gradients.
    """
    log_ratio = (log_probs - acted).detach().float()
    if level == "action":
        log_ratio = log_ratio.sum(dim=-1, keepdim=True)
    return log_ratio.clamp(max=MAX_LOG_RATIO).exp().clamp(max=cap)


def trajectory_mean(values: Tensor, mask: Tensor | None = None, weights: Tensor | None = None) -> Tensor:
    """Averages values of actions so that every rollout counts the same; the KL penalty is averaged by it, too.

    Args:
        values: One value for each action of each decision ``(B, K)``.
        mask: True for executed actions ``(B, K)``; all of them by default.
        weights: Share of each decision ``(B,)``; ``1 / B`` by default.

    Returns:
        Scalar ``sum_b weights[b] * mean_k values[b, k]``.
    """
    if mask is None:
        decisions = values.mean(dim=1)
    else:
        decisions = torch.where(mask, values, 0.0).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
    return decisions.mean() if weights is None else (decisions * weights).sum()


def trajectory_weights(lengths: Tensor) -> Tensor:
    """Gives each decision its share ``1 / (N * D_i)`` of an update on ``N`` rollouts.

    Args:
        lengths: Number of decisions ``D_i`` of each rollout ``(N,)``.

    Returns:
        ``(sum(lengths),)`` in the order of the rollouts; adds up to 1. Micro-batches take slices of it and sum their
        losses.
    """
    return (1.0 / (len(lengths) * lengths)).repeat_interleave(lengths)


def _check_shapes(log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor) -> None:
    """Refuses shapes that would broadcast silently."""
    shapes = [tuple(tensor.shape) for tensor in (log_probs, old_log_probs, advantages)]
    if log_probs.ndim != 3 or shapes[0] != shapes[1] or shapes[2] != shapes[0][:1]:
        raise ValueError(
            f"log_probs {shapes[0]}, old_log_probs {shapes[1]}, advantages {shapes[2]}; "
            "expected (B, K, A) twice and (B,)."
        )
