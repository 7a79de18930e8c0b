"""From rollouts to advantages, by the scalariser and the baseline that the settings name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from tgrpo.algo import signals, strategies
from tgrpo.types import RolloutGroup


class Settings(signals.Options, Protocol):
    """Names of the strategies, and their options."""

    @property
    def baseline(self) -> str:
        """A module of :mod:`tgrpo.algo.baselines`."""
        ...

    @property
    def scalariser(self) -> str:
        """A module of :mod:`tgrpo.algo.scalarisers`."""
        ...


def advantages(groups: Sequence[RolloutGroup], settings: Settings) -> list[list[Tensor]]:
    """Computes the advantages of one update.

    Args:
        groups: Rollouts; comparisons stay within a group, only GDPO's last step spans all of them.
        settings: Which strategies, and their options.

    Returns:
        For each group and rollout the advantage of each decision ``(D_i,)``, single precision.

    Raises:
        UnknownNameError: There is no such strategy.
        SettingsError: Reward weights do not fit the reward terms.
    """
    baseline = strategies.baseline(settings.baseline)
    scalarise = strategies.scalariser(settings.scalariser).scalarise
    result = []
    for group in scalarise([signals.read(group.trajectories) for group in groups], settings):
        combined = baseline.advantages(group, settings)
        result.append([row[alive].float() for row, alive in zip(combined, group.mask, strict=True)])
    return result


def check(settings: Settings) -> None:
    """Refuses names and weights that an update would fail on.

    Raises:
        UnknownNameError: There is no such strategy.
        SettingsError: The reward weights cannot be read.
    """
    strategies.baseline(settings.baseline)
    strategies.scalariser(settings.scalariser)
    signals.term_weights(settings.reward_weights, signals.TERMS)
