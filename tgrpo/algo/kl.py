"""Distances between the policy and its reference, and the policy's entropy.

Shapes: ``...`` any leading dimensions, ``V`` bins of one token. Logits are already divided by the temperature.
"""

from __future__ import annotations

from torch import Tensor


def k3(log_probs: Tensor, reference_log_probs: Tensor) -> Tensor:
    """Estimates KL(policy || reference) from samples of the policy: ``q - log q - 1`` with ``q = reference / policy``.

    Never negative, and unbiased for samples of the current policy. Summing the tokens of an action before the call
    gives the estimate for whole actions, as in the paper.

    Args:
        log_probs: Log-probability of what was sampled ``(...)`` [nat].
        reference_log_probs: The same under the reference policy ``(...)`` [nat].

    Returns:
        One estimate for each sample ``(...)`` [nat].
    """
    log_ratio = reference_log_probs.float() - log_probs.float()
    return log_ratio.expm1() - log_ratio


def exact(logits: Tensor, reference_logits: Tensor) -> Tensor:
    """Computes KL(policy || reference) of each token from all bins: no sampling noise, at no extra forward pass.

    Args:
        logits: ``(..., V)`` of the policy.
        reference_logits: ``(..., V)`` of the reference.

    Returns:
        ``(...)`` [nat].
    """
    log_p = logits.float().log_softmax(dim=-1)
    log_q = reference_logits.float().log_softmax(dim=-1)
    return (log_p.exp() * (log_p - log_q)).sum(dim=-1)


def entropy(logits: Tensor) -> Tensor:
    """Computes the entropy of each token's distribution.

    Args:
        logits: ``(..., V)``.

    Returns:
        ``(...)`` [nat], between 0 and ``log V``.
    """
    log_p = logits.float().log_softmax(dim=-1)
    return -(log_p.exp() * log_p).sum(dim=-1)
