"""Ranks of whole rollouts by a fixed order: success, then stages reached, then speed, then the return.

Source: ArenaRL (arXiv 2601.06487), round robin, with a comparator in the place of its language model. Immune to the
scale of rewards, and to mistakes in them that keep the order. Replayed rollouts take part like all others.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tgrpo.algo import ranks
from tgrpo.algo.signals import Options, Signals


def keys(group: Signals) -> list[tuple[float, ...]]:
    """What is compared for each rollout, the most important first."""
    lengths = group.mask.sum(dim=1)
    returns = torch.where(group.mask, group.rewards, 0.0).sum(dim=1)
    return [
        (float(success), float(reached), -float(length) if success else 0.0, float(total))
        for success, reached, length, total in zip(group.success, group.reached, lengths, returns, strict=True)
    ]


def advantages(group: Signals, options: Options) -> Tensor:
    """Spreads rank advantages over the decisions ``(N, T)``."""
    wins = ranks.round_robin(ranks.lexicographic(keys(group)), len(group.mask))
    whole = ranks.advantages(ranks.ranks_of_wins(wins))
    return torch.where(group.mask, whole[:, None], 0.0)
