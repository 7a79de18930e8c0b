"""What every policy offers: its conventions, and chunks of actions for observations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Protocol, TypeAlias, runtime_checkable

import msgspec

from tgrpo.spec import PolicySpec
from tgrpo.types import ActionChunk, Observation

MeanTemperature: TypeAlias = Annotated[float, msgspec.Meta(ge=0)]
"""Temperature at which the mean of a policy's bins is what it does without sampling; 0 takes its most likely bins.

The most likely bin, which OpenVLA takes, is the limit of the mean at low temperatures. Bins are in the order of their
values: where many neighbours are likely, which one is the most likely says little, and the mean says more.
"""


@runtime_checkable
class Policy(Protocol):
    """A policy as rollouts, evaluation and the server see it.

    Example:
        >>> policy = tgrpo.policies.load("checkpoints/tiny")  # doctest: +SKIP
        >>> policy.reset(seeds=[0])  # doctest: +SKIP
        >>> [chunk] = policy.act([observation])  # doctest: +SKIP
    """

    @property
    def spec(self) -> PolicySpec:
        """Conventions of the actions and observations."""

    def reset(self, seeds: Sequence[int], decisions: Sequence[int] | None = None) -> None:
        """Starts one episode for each row of the batches that follow, or continues one that another process began.

        Args:
            seeds: Seed of each row's sampling; the same seed gives the same episode in any batch.
            decisions: How often each row has been decided already; 0 by default.
        """

    def act(
        self, observations: Sequence[Observation], *, temperature: float = 0.0, rows: Sequence[int] | None = None
    ) -> list[ActionChunk]:
        """Decides one chunk for each observation.

        Args:
            observations: One for each row.
            temperature: 0 does not sample, anything above does at that temperature.
            rows: Which rows of ``reset`` the observations belong to; all of them by default.
        """


@runtime_checkable
class Asynchronous(Policy, Protocol):
    """A policy that decides elsewhere, so that whoever asks can do something else meanwhile."""

    def ask(
        self, observations: Sequence[Observation], *, temperature: float = 0.0, rows: Sequence[int] | None = None
    ) -> Callable[[], list[ActionChunk]]:
        """Begins what :meth:`Policy.act` does; returns what waits for the chunks."""
