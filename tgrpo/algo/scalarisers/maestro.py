"""Experimental: terms are mixed with weights that a conductor learns from the group itself.

Source: MAESTRO (arXiv 2601.07208); idea of. Why its meta-reward does not measure usefulness is in
:mod:`tgrpo.algo.maestro`. The conductor is learned anew for each group: nothing is kept between updates. It is
bad at what it is for; compare it with ``gdpo``, which differs in that all weights stay equal.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from tgrpo.algo.advantages import standardised
from tgrpo.algo.maestro import Conductor, probabilities
from tgrpo.algo.signals import Options, Signals

EMPHASIS = 0.8
"""Weight of the term that a pattern emphasises; the others share the rest."""
ROUNDS = 25
"""Draws of patterns for each group."""


def patterns(terms: int) -> Tensor:
    """One pattern for each term: ``(C, C)``, rows adding up to 1."""
    if terms == 1:
        return torch.ones(1, 1, dtype=torch.float64)
    others = (1 - EMPHASIS) / (terms - 1)
    return torch.full((terms, terms), others, dtype=torch.float64).fill_diagonal_(EMPHASIS)


def learned_weights(returns: Tensor) -> Tensor:
    """Weights ``(C,)`` that a conductor comes to on standardised returns ``(N, C)``; success is the last term.

    Rollouts draw in the order of their returns, so that the order in which they were played does not matter.
    """
    ordered = returns[torch.from_numpy(np.lexsort(returns.T.numpy()))]
    conductor, dice = Conductor(patterns(returns.shape[1])), torch.Generator().manual_seed(0)
    for _ in range(ROUNDS):
        chances = probabilities(conductor.scores, 1.0)
        conductor.update(ordered, torch.multinomial(chances, len(ordered), replacement=True, generator=dice))
    return conductor.weights()


def scalarise(groups: list[Signals], options: Options) -> list[Signals]:
    """Compares the mixtures of whole rollouts; step rewards stay as they are."""
    result = []
    for group in groups:
        names = sorted(group.terms, key=lambda name: name == "success")
        returns = torch.stack([torch.where(group.mask, group.terms[name], 0.0).sum(dim=1) for name in names], dim=1)
        fair = standardised(returns, torch.ones_like(returns, dtype=torch.bool))
        mixture = fair @ learned_weights(fair)
        whole = standardised(mixture, torch.ones_like(mixture, dtype=torch.bool))
        result.append(replace(group, trajectory=whole))
    return result
