"""Sparse reward: 1 for a rollout that completed the task, paid at its last decision, and nothing else.

Source: the outcome reward that peers train VLAs with (SimpleVLA-RL, arXiv 2509.09674); here it is what dense stage
rewards are compared with. With ``baseline: grpo`` it is GRPO on success alone. Groups that all succeed or all fail
have nothing to say.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from tgrpo.algo.advantages import trajectory_advantages
from tgrpo.algo.signals import Options, Signals


def outcome(success: Tensor, mask: Tensor) -> Tensor:
    """Rewards ``(N, T)``: 1 at the last decision of each success.

    Args:
        success: Whether each rollout completed the task ``(N,)``.
        mask: True for decisions that were taken, which come first ``(N, T)``.
    """
    last = mask & (torch.arange(mask.shape[1]) == mask.sum(dim=1, keepdim=True) - 1)
    return (last & success[:, None]).double()


def scalarise(groups: list[Signals], options: Options) -> list[Signals]:
    """Replaces all rewards by the outcome, then compares returns."""
    result = []
    for group in groups:
        rewards = outcome(group.success, group.mask)
        result.append(replace(group, rewards=rewards, trajectory=trajectory_advantages(rewards, group.mask)))
    return result
