"""Returns-to-go: what a rollout earned from a decision on."""

from __future__ import annotations

import torch
from torch import Tensor

from tgrpo.algo.advantages import standardised


def to_go(rewards: Tensor, mask: Tensor, gamma: float) -> Tensor:
    """Discounted sums from each decision to the end.

    Args:
        rewards: Reward of each decision ``(N, T)``.
        mask: True for decisions that were taken ``(N, T)``.
        gamma: Discount for each decision, 0 to 1.

    Returns:
        ``sum_{k >= t} gamma^(k - t) r[i, k]`` ``(N, T)``, 0 where masked.
    """
    values = torch.where(mask, rewards.double(), 0.0)
    result = torch.zeros_like(values)
    ahead = torch.zeros_like(values[:, 0])
    for step in reversed(range(values.shape[1])):
        ahead = values[:, step] + gamma * ahead
        result[:, step] = ahead
    return torch.where(mask, result, 0.0)


def pooled(values: Tensor, mask: Tensor) -> Tensor:
    """Compares every entry of a group with all others, whatever its rollout or step ``(N, T)``."""
    return standardised(values.flatten(), mask.flatten()).view_as(values)
