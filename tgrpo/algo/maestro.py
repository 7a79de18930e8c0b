"""Experimental: a conductor that learns which reward term to emphasise; ``--learner.scalariser maestro``.

Source: MAESTRO (arXiv 2601.07208); idea of, from a third-party note, its code was not read.

Its meta-reward, the advantage of the rollouts that drew an emphasis, does not measure usefulness: it pays to emphasise
a term that is already saturated. So terms are standardised in their group before they are mixed, and the weight of
success has a floor. GDPO or fixed weights usually are enough.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tgrpo.algo.advantages import standardised


def probabilities(scores: Tensor, temperature: float) -> Tensor:
    """Probability of each of ``P`` emphasis patterns ``(..., P)`` from their scores."""
    return (scores / temperature).softmax(-1)


def mixed_advantages(returns: Tensor, patterns: Tensor, drawn: Tensor) -> Tensor:
    """Advantage of each rollout, its terms mixed by the pattern that it drew.

    Args:
        returns: Return of each rollout by term ``(N, C)``.
        patterns: Weights of the terms in each pattern ``(P, C)``.
        drawn: Pattern of each rollout ``(N,)``; drawn for each rollout, because with one pattern for a whole group the
            meta-gradient is exactly 0.

    Returns:
        ``(N,)``.
    """
    values = (returns.double() * patterns.double()[drawn]).sum(dim=1)
    return standardised(values, torch.ones_like(values, dtype=torch.bool))


def meta_gradient(advantages: Tensor, drawn: Tensor, chances: Tensor) -> Tensor:
    """Policy gradient of the mean advantage with respect to the patterns' scores at temperature 1.

    Args:
        advantages: Of each rollout ``(N,)``.
        drawn: Pattern of each rollout ``(N,)``.
        chances: Probability of each pattern ``(P,)``.

    Returns:
        ``sum_i A_i (onehot(drawn_i) - chances)`` ``(P,)``.
    """
    chosen = torch.nn.functional.one_hot(drawn, len(chances)).double()
    return (advantages.double()[:, None] * (chosen - chances.double())).sum(dim=0)


@dataclass
class Conductor:
    """Scores of the patterns, learned; patterns that neglect success are lifted to a floor.

    Attributes:
        scores: One for each pattern ``(P,)``.
    """

    patterns: Tensor
    """Weights of the terms in each pattern ``(P, C)``, rows adding up to 1; success is the last term."""
    floor: float = 0.4
    """Smallest weight of success in the mixture, 0 to 1."""
    rate: float = 0.1
    """Step size."""

    def __post_init__(self) -> None:
        self.scores = torch.zeros(len(self.patterns), dtype=torch.float64)

    def weights(self) -> Tensor:
        """Expected weight of each term ``(C,)``, adding up to 1, success at least at the floor."""
        mean = probabilities(self.scores, 1.0) @ self.patterns.double()
        success = mean[-1].clamp(min=self.floor)
        others = mean[:-1] * ((1 - success) / mean[:-1].sum().clamp(min=1e-12))
        return torch.cat([others, success[None]])

    def update(self, returns: Tensor, drawn: Tensor) -> None:
        """Learns from one group.

        Args:
            returns: Return of each rollout by term ``(N, C)``.
            drawn: Pattern of each rollout ``(N,)``.
        """
        values = returns.double()
        fair = standardised(values, torch.ones_like(values, dtype=torch.bool))
        advantages = mixed_advantages(fair, self.patterns, drawn)
        self.scores += self.rate * meta_gradient(advantages, drawn, probabilities(self.scores, 1.0)) / len(drawn)
