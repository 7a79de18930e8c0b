"""Batches of whole blocks of rows, so that a row's result does not depend on how many rows are beside it.

Matrix kernels take several rows at once and treat what is left over in another order of additions. The difference is
in the last bit, but the logits of unlikely bins at a low temperature magnify it to more than 1e-5 nat, and a sampled
log-probability is compared with one that was computed in a larger batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

BATCH = 4
"""Rows of a batch's block; most layers see many rows for each, as a decision has many tokens."""
FEW = 8
"""Rows of a block of :func:`linear`: what the kernels of x86 processors take at once, 8 with AVX-512."""


def whole(rows: Tensor, block: int = BATCH) -> Tensor:
    """Rows ``(B, ...)`` with the last one repeated up to whole blocks; the results' first ``B`` rows are the answer.

    Example:
        >>> whole(torch.tensor([5, 7, 2]))
        tensor([5, 7, 2, 2])
    """
    return torch.cat([rows, rows[-1:].expand(-len(rows) % block, *rows.shape[1:])])


def linear(layer: nn.Module, rows: Tensor) -> Tensor:
    """A linear layer of few rows ``(B, E)``, one for each decision, applied to whole blocks of them."""
    result: Tensor = layer(whole(rows, FEW))[: len(rows)]
    return result
