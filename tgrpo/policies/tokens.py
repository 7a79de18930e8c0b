"""Sampling action tokens, and the log-probabilities of tokens that were sampled.

Shapes: ``B`` batch, ``K`` chunk, ``A`` action dims, ``V`` bins.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tgrpo.errors import SettingsError
from tgrpo.policies.base import MeanTemperature

LOWEST_TEMPERATURE = 0.05
"""Below this, sampling is as good as greedy and the ratio of new to old probabilities explodes."""


def check_temperature(temperature: float) -> None:
    """Refuses a temperature that nothing could be learned from.

    Raises:
        SettingsError: It is below :data:`LOWEST_TEMPERATURE`.
    """
    if not temperature >= LOWEST_TEMPERATURE:
        raise SettingsError(
            f"temperature {temperature} is too low for training; use at least {LOWEST_TEMPERATURE}, or 0 for greedy."
        )


def log_probs_of_bins(logits: Tensor, temperature: float | Tensor) -> Tensor:
    """Log-probability of every bin, ``(..., V)``, at the temperature that is also used for sampling.

    Args:
        logits: ``(..., V)``.
        temperature: One for all, or a tensor that has been checked and fits.

    Raises:
        SettingsError: The temperature is below :data:`LOWEST_TEMPERATURE`.
    """
    if not isinstance(temperature, Tensor):
        check_temperature(temperature)
    return (logits.float() / temperature).log_softmax(-1)


def decide(logits: Tensor, mean_temperature: MeanTemperature) -> Tensor:
    """Tokens ``(...)`` of a policy that does not sample, from its logits ``(..., V)``."""
    if mean_temperature == 0.0:
        return logits.argmax(-1)
    places = torch.arange(logits.shape[-1], dtype=torch.float64, device=logits.device)
    # In double precision no rounding of a probability, which may depend on the batch, comes near to moving a bin.
    return ((logits.double() / mean_temperature).softmax(-1) * places).sum(-1).round().long()


def gather(log_probs: Tensor, tokens: Tensor) -> Tensor:
    """Log-probabilities ``(B, K, A)`` of tokens ``(B, K, A)`` from those of all bins ``(B, K, A, V)``."""
    return log_probs.gather(-1, tokens[..., None])[..., 0]


def sample(log_probs: Tensor, quantiles: Tensor) -> Tensor:
    """Tokens ``(B, K, A)`` at given quantiles of the bins' distributions.

    The inverse of the cumulative distribution turns uniform numbers into samples, so whoever draws the
    numbers decides how they are correlated; each token's own distribution stays exactly ``log_probs``.

    Args:
        log_probs: Log-probability of every bin ``(B, K, A, V)``.
        quantiles: Uniform numbers in ``[0, 1)``, ``(B, K, A)``.
    """
    cumulative = log_probs.double().exp().cumsum(-1)
    targets = quantiles.double()[..., None] * cumulative[..., -1:]
    tokens = torch.searchsorted(cumulative, targets, right=True)[..., 0]
    return tokens.clamp_(max=log_probs.shape[-1] - 1)
