"""Return-to-go, compared with the other rollouts at the same decision.

Source: our own variant of GTPO (arXiv 2511.14846); it needs rollouts that are alike in time.
"""

from __future__ import annotations

from torch import Tensor

from tgrpo.algo.advantages import standardised
from tgrpo.algo.returns import to_go
from tgrpo.algo.signals import Options, Signals


def advantages(group: Signals, options: Options) -> Tensor:
    """Standardises returns-to-go over the rollouts at each decision ``(N, T)``."""
    return standardised(to_go(group.rewards, group.mask, options.gamma), group.fresh)
