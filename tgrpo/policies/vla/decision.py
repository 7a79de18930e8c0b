"""From logits to a decision: greedy, or sampled with given random numbers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tgrpo.errors import PolicyError
from tgrpo.policies import tokens

DIMS = 7
"""Action dimensions ``A``."""


@dataclass(frozen=True, eq=False)
class Chosen:
    """Bins that were chosen for each row of a batch."""

    bins: Tensor
    """``(B, K, A)``."""
    logits: Tensor
    """``(B, K, A, V)`` of all bins."""
    log_probs: Tensor | None
    """``(B, K, A)`` at the sampling temperature [nat]; None if greedy."""


def choose(logits: Tensor, temperature: float, quantiles: Tensor) -> Tensor:
    """Bins ``(B, K, A)`` of logits ``(B, K, A, V)``; a temperature of 0 ignores the quantiles ``(B, K, A)``.

    Raises:
        SettingsError: The temperature is too low to sample.
    """
    if temperature == 0.0:
        return logits.argmax(-1)
    return tokens.sample(tokens.log_probs_of_bins(logits, temperature), quantiles.to(logits.device))


def chosen_with(logits: Tensor, bins: Tensor, temperature: float) -> Chosen:
    """What was chosen, with its log-probabilities."""
    if temperature == 0.0:
        return Chosen(bins, logits, None)
    return Chosen(bins, logits, tokens.gather(tokens.log_probs_of_bins(logits, temperature), bins))


def drawn(quantiles: Tensor | None, rows: int, chunk: int) -> Tensor:
    """Uniform numbers ``(B, K, A)``: the given ones, or new ones from torch's generator.

    Raises:
        PolicyError: They have another shape.
    """
    shape = (rows, chunk, DIMS)
    if quantiles is None:
        return torch.rand(shape, dtype=torch.float64)
    if tuple(quantiles.shape) != shape:
        raise PolicyError(f"quantiles have the shape {tuple(quantiles.shape)}, the decision needs {shape}.")
    return quantiles
