"""Return-to-go, compared with all decisions that were taken in the same stage of the task.

Source: our own variant of GTPO (arXiv 2511.14846). A stage stands for "the same situation", which same-time
comparison only is while rollouts keep pace: it suits rollouts of different length, as a real robot has them. On the
credit chain it does as well as branching at every step, for less than half of the simulator's steps.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tgrpo.algo.returns import pooled, to_go
from tgrpo.algo.signals import Options, Signals


def advantages(group: Signals, options: Options) -> Tensor:
    """Standardises returns-to-go over the decisions of each stage ``(N, T)``."""
    values = to_go(group.rewards, group.mask, options.gamma)
    result = torch.zeros_like(values)
    for stage in group.stages[group.mask].unique():
        result += pooled(values, group.mask & (group.stages == stage))
    return result
