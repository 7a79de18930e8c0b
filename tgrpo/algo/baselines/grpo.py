"""Whole rollouts only: every decision of a rollout has the rollout's advantage.

Source: GRPO (arXiv 2402.03300), outcome supervision; a reimplementation. The paper's ablation "without step level".
"""

from __future__ import annotations

import torch
from torch import Tensor

from tgrpo.algo.signals import Options, Signals


def advantages(group: Signals, options: Options) -> Tensor:
    """Spreads the comparison of returns over the decisions ``(N, T)``."""
    return torch.where(group.mask, group.whole()[:, None], 0.0)
