"""Each reward term is standardised in its group before the terms are added up.

Source: GDPO (arXiv 2601.05242), reimplemented from its equation. A sum first, as in GRPO, gives different mixtures of
terms one and the same advantage. The last step whitens over all rollouts of the update, each counting once: the
published code whitens tokens, and with failures longer than successes that can leave a failure with advantage 0.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from tgrpo.algo.advantages import standardised
from tgrpo.algo.signals import Options, Signals, term_weights


def decoupled(returns: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum of the standardised terms of one group.

    Args:
        returns: Return of each rollout by term ``(N, C)``; a term without spread contributes exactly 0.
        weights: Of the terms, applied after they are standardised ``(C,)``.

    Returns:
        ``(N,)``.
    """
    values = returns.double()
    return standardised(values, torch.ones_like(values, dtype=torch.bool)) @ weights.double()


def whitened(rows: list[Tensor]) -> list[Tensor]:
    """Standardises over the rollouts of all groups ``(N_g,)``, so that the scale does not depend on the terms."""
    values = torch.cat(rows)
    white = standardised(values, torch.ones_like(values, dtype=torch.bool))
    return list(white.split([len(row) for row in rows]))


def scalarise(groups: list[Signals], options: Options) -> list[Signals]:
    """Fills in the comparison of whole rollouts; step rewards stay as they are."""
    rows = []
    for group in groups:
        weights = term_weights(options.reward_weights, list(group.terms))
        returns = [torch.where(group.mask, values, 0.0).sum(dim=1) for values in group.terms.values()]
        rows.append(decoupled(torch.stack(returns, dim=1), torch.tensor([weights[name] for name in group.terms])))
    return [replace(group, trajectory=row) for group, row in zip(groups, whitened(rows), strict=True)]
