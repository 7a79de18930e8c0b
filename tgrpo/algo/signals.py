"""What the advantages of a group may be computed from, and how the strategies for it are chained.

Shapes: ``N`` rollouts of a group, ``T`` decisions (padded), ``K`` actions of a chunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from tgrpo.algo.advantages import padded, per_decision
from tgrpo.errors import SettingsError, UnknownNameError
from tgrpo.types import Trajectory

TERMS = ("level", "shaping", "success", "violation")
"""Terms that the stage machine pays; ``violation`` only with a stage file that forbids something."""


class Options(Protocol):
    """The settings that strategies read; :class:`tgrpo.learner.LearnerSettings` has them."""

    @property
    def a_step(self) -> float:
        """Weight of the step-level comparison."""
        ...

    @property
    def a_traj(self) -> float:
        """Weight of the trajectory-level comparison."""
        ...

    @property
    def gamma(self) -> float:
        """Discount of returns-to-go, for each decision."""
        ...

    @property
    def reward_weights(self) -> str:
        """Weight of each reward term, see :func:`term_weights`."""
        ...


@dataclass(frozen=True, eq=False)
class Signals:
    """One group: rollouts of one task from one identical state. Comparisons never mix groups."""

    rewards: Tensor
    """Reward of each decision ``(N, T)``, double precision."""
    mask: Tensor
    """True for decisions that were taken ``(N, T)``."""
    stages: Tensor
    """Stage in which each decision was taken ``(N, T)``; 0 in the first."""
    reached: Tensor
    """Highest stage of each rollout ``(N,)``."""
    success: Tensor
    """Whether each rollout completed the task ``(N,)``."""
    terms: dict[str, Tensor] = field(default_factory=dict)
    """Reward term to its part of each decision's reward ``(N, T)``."""
    replayed: Tensor | None = None
    """True for rollouts that an earlier policy played ``(N,)``; they are compared as wholes only."""
    trajectory: Tensor | None = None
    """Advantage of each rollout as a whole ``(N,)``; filled in by a scalariser."""

    @property
    def fresh(self) -> Tensor:
        """True for decisions that may be compared step by step ``(N, T)``."""
        return self.mask if self.replayed is None else self.mask & ~self.replayed[:, None]

    def whole(self) -> Tensor:
        """The comparison of whole rollouts ``(N,)``.

        Raises:
            ValueError: No scalariser has filled it in.
        """
        if self.trajectory is None:
            raise ValueError("no trajectory advantages; pass the group through a scalariser first.")
        return self.trajectory


def read(trajectories: Sequence[Trajectory]) -> Signals:
    """Collects the signals of a group's ``N`` rollouts."""
    rows = [torch.from_numpy(t.executed) for t in trajectories]

    def by_decision(values: Sequence[Tensor]) -> Tensor:
        return padded([per_decision(value, row) for value, row in zip(values, rows, strict=True)])[0]

    paid = [torch.from_numpy(t.rewards) for t in trajectories]
    rewards, mask = padded([per_decision(values, row) for values, row in zip(paid, rows, strict=True)])
    names = dict.fromkeys(name for t in trajectories for name in t.terms)
    terms = {
        name: by_decision([torch.from_numpy(t.terms.get(name, np.zeros(t.steps))) for t in trajectories])
        for name in names
    }
    replayed = torch.tensor([t.source != "policy" for t in trajectories])
    return Signals(
        rewards=rewards,
        mask=mask,
        stages=padded([_stages_before(t) for t in trajectories])[0],
        reached=torch.tensor([int(t.stages.max()) if len(t.stages) else 0 for t in trajectories]),
        success=torch.tensor([t.success for t in trajectories]),
        terms=terms,
        replayed=replayed if bool(replayed.any()) else None,
    )


def term_weights(text: str, terms: Sequence[str]) -> dict[str, float]:
    """Reads ``"success=1,level=0.5"``; terms that are not named weigh 1.

    Raises:
        SettingsError: An entry cannot be read.
        UnknownNameError: The rewards have no such term.
    """
    weights = dict.fromkeys(terms, 1.0)
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, _, value = (piece.strip() for piece in part.partition("="))
        try:
            number = float(value)
        except ValueError:
            raise SettingsError(f"reward weight {part!r} cannot be read; write NAME=NUMBER, with commas.") from None
        if name not in weights and name not in TERMS:
            raise UnknownNameError("reward term", name, terms)
        weights[name] = number
    return weights


def _stages_before(trajectory: Trajectory) -> Tensor:
    """Stage after the decision before each one ``(D,)``."""
    ends = torch.from_numpy(trajectory.executed).cumsum(0)
    if not len(trajectory.stages):
        return torch.zeros(len(ends), dtype=torch.int64)
    after = torch.from_numpy(trajectory.stages)[ends - 1]
    return torch.cat([after.new_zeros(1), after[:-1]])
