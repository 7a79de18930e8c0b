"""Safety first: whoever broke a limit ranks below everyone who did not, whatever else they earned.

Source: ours; the safety terms are those of multi-objective GRPO (arXiv 2503.21819), whose weighted sum is no
constraint. A rollout broke a limit if its term ``violation`` was ever negative: a stage file pays that while a
condition in ``forbidden`` holds. On a robot this changes what is learned and nothing else: limits are held by the
safety layer.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from tgrpo.algo.advantages import trajectory_advantages
from tgrpo.algo.signals import Options, Signals

TERM = "violation"
"""Reward term that is negative while a limit is broken."""
MARGIN = 1.0
"""How far the best violator is put below the worst of the others, in units of reward."""


def gate(values: Tensor, violated: Tensor, alive: Tensor) -> Tensor:
    """Moves violators below the others, in their own order.

    Args:
        values: Numbers to compare, over the first dimension ``(N, ...)``.
        violated: True for the violators ``(N,)``.
        alive: True for the entries that take part ``(N, ...)``.

    Returns:
        ``(N, ...)``; unchanged where there are no violators or nobody else.
    """
    bad = violated.view(-1, *[1] * (values.ndim - 1)).expand_as(values) & alive
    good = ~bad & alive
    worst = torch.where(good, values, float("inf")).amin(dim=0)
    best = torch.where(bad, values, float("-inf")).amax(dim=0)
    down = torch.where(good.any(dim=0) & bad.any(dim=0), (best - worst + MARGIN).clamp(min=0.0), 0.0)
    return torch.where(bad, values - down, values)


def scalarise(groups: list[Signals], options: Options) -> list[Signals]:
    """Gates the rewards of each step and the returns."""
    result = []
    for group in groups:
        term = group.terms.get(TERM)
        violated = torch.zeros(len(group.mask), dtype=torch.bool) if term is None else (term < 0).any(dim=1)
        returns = torch.where(group.mask, group.rewards, 0.0).sum(dim=1)
        whole = gate(returns, violated, group.mask.any(dim=1))
        rewards = gate(group.rewards, violated, group.mask)
        trajectory = trajectory_advantages(whole[:, None])
        result.append(replace(group, rewards=rewards, trajectory=trajectory))
    return result
