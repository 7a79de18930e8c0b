"""From logits to a decision: greedy, or sampled with given random numbers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tgrpo.errors import PolicyError
from tgrpo.policies import tokens
from tgrpo.policies.base import MeanTemperature

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


def choose(
    logits: Tensor, temperatures: Tensor, quantiles: Tensor, mean_temperature: MeanTemperature = 0.0
) -> tuple[Tensor, Tensor]:
    """Bins and their log-probabilities, both ``(B, K, A)``.

    It depends on no value, so a graphics card can record it.

    Args:
        logits: ``(B, K, A, V)``.
        temperatures: ``(B,)``; 0 does not sample, and log-probabilities then are those at 1.
        quantiles: Uniform numbers ``(B, K, A)`` that samples are made of.
        mean_temperature: At which the mean of the bins is taken without sampling; 0 takes the most likely ones.
    """
    sampled = (temperatures > 0)[:, None, None]
    everything = tokens.log_probs_of_bins(logits, torch.where(sampled, temperatures[:, None, None], 1.0)[..., None])
    bins = torch.where(sampled, tokens.sample(everything, quantiles), tokens.decide(logits, mean_temperature))
    return bins, tokens.gather(everything, bins)


def temperatures_of(temperature: float, rows: int) -> Tensor:
    """One temperature for each row ``(B,)``, on the CPU.

    Raises:
        SettingsError: It is neither 0 nor high enough to sample.
    """
    if temperature != 0.0:
        tokens.check_temperature(temperature)
    return torch.full((rows,), temperature)


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
