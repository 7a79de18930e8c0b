"""The same step of the other rollouts, and whole rollouts: the default.

Source: TGRPO (arXiv 2506.08440), section 3; the arithmetic is in :mod:`tgrpo.algo.advantages`.
"""

from __future__ import annotations

from torch import Tensor

from tgrpo.algo.advantages import combine, step_advantages
from tgrpo.algo.signals import Options, Signals


def advantages(group: Signals, options: Options) -> Tensor:
    """Weighs both comparisons ``(N, T)``; a replayed rollout has no step at the same time to be compared with."""
    step = step_advantages(group.rewards, group.fresh)
    return combine(step, group.whole(), options.a_step, options.a_traj, group.mask)
