"""A weighted sum of the reward terms.

Source: multi-objective GRPO (arXiv 2503.21819); its reward model is not ours, the sum is. Scaling all weights changes
nothing. A weighted sum is no constraint: a fast unsafe success can outrank a safe failure, see
:mod:`tgrpo.algo.scalarisers.gated`.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from tgrpo.algo.advantages import trajectory_advantages
from tgrpo.algo.signals import Options, Signals, term_weights


def scalarise(groups: list[Signals], options: Options) -> list[Signals]:
    """Replaces each reward by the weighted sum of its terms, then compares returns."""
    result = []
    for group in groups:
        weights = term_weights(options.reward_weights, list(group.terms))
        rewards = torch.zeros_like(group.rewards)
        for name, values in group.terms.items():
            rewards = rewards + weights[name] * values
        result.append(replace(group, rewards=rewards, trajectory=trajectory_advantages(rewards, group.mask)))
    return result
