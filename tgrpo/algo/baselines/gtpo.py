"""Return-to-go, compared with that of every decision of the group.

Source: GTPO (arXiv 2511.14846), with a turn being a decision. The paper says "normalised over the group's turns";
pooling all of them is our reading. Its shaping of failures by similar code has no counterpart here. With ``gamma`` 1
and a reward at the end only, the advantage is constant within a rollout, as in GRPO.
"""

from __future__ import annotations

from torch import Tensor

from tgrpo.algo.returns import pooled, to_go
from tgrpo.algo.signals import Options, Signals


def advantages(group: Signals, options: Options) -> Tensor:
    """Standardises returns-to-go over the whole group ``(N, T)``."""
    return pooled(to_go(group.rewards, group.mask, options.gamma), group.mask)
