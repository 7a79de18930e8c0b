"""The rewards as they were paid: the default.

Source: TGRPO (arXiv 2506.08440), the trajectory-level comparison of returns.
"""

from __future__ import annotations

from dataclasses import replace

from tgrpo.algo.advantages import trajectory_advantages
from tgrpo.algo.signals import Options, Signals


def scalarise(groups: list[Signals], options: Options) -> list[Signals]:
    """Compares undiscounted returns."""
    return [replace(group, trajectory=trajectory_advantages(group.rewards, group.mask)) for group in groups]
