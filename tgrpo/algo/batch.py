"""The decisions that one update of the learner is about.

Shapes: ``B`` decisions, ``K`` chunk, ``A`` action dims.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Batch:
    """The decisions of all groups with contrast, one row each."""

    inputs: tuple[Tensor, ...]
    """What the policy looks at, as its ``collate`` has it."""
    chosen: Tensor
    """``(B, K, A)`` tokens."""
    acted: Tensor
    """``(B, K, A)`` log-probabilities under the policy that acted [nat]."""
    advantages: Tensor
    """``(B,)``."""
    weights: Tensor
    """``(B,)``, adding up to 1: each rollout counts the same."""
    mask: Tensor
    """``(B, K)`` True for executed actions."""
    vision: Tensor | None = None
    """What the vision towers make of the pictures, if they are not trained."""
    reference: Tensor | None = None
    """Log-probabilities under the policy that training started from: of the tokens ``(B, K, A)``, or of all bins."""
    importance: Tensor | None = None
    """Factors of the surrogate ``(B, K, A or 1)``."""

    def __len__(self) -> int:
        return len(self.weights)
