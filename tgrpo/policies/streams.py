"""Random numbers of sampling: one stream for each row, so that a row does not depend on its batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from tgrpo.errors import PolicyError

Exploration: TypeAlias = Literal["token", "chunk", "episode"]
"""``token`` draws a number for each token; ``chunk`` one for each action dimension, used for all ``K`` actions.

``episode`` draws one for each token as well, which leans towards one of the episode's: a latent plan that is held for a
whole rollout, as in RPG (arXiv 2307.10710; idea of, see :mod:`tgrpo.algo.latent`).
"""
PLAN = 0.5
"""Share of the plan in what ``episode`` draws, as a correlation of normal numbers."""


class Streams:
    """One stream of random numbers for each row."""

    def __init__(self) -> None:
        self._streams: list[np.random.Generator] = []
        self._seeds: list[int] = []
        self._behind: list[int] = []

    def reset(self, seeds: Sequence[int], decisions: Sequence[int] | None = None) -> None:
        """Starts one stream for each row, where it stood after so many decisions."""
        self._streams, self._seeds = [np.random.default_rng(seed) for seed in seeds], list(seeds)
        self._behind = [0] * len(seeds) if decisions is None else list(decisions)

    def check(self, rows: Sequence[int]) -> None:
        """Refuses rows that were not started.

        Raises:
            PolicyError: A row has no stream.
        """
        if len(self._streams) <= max(rows, default=-1):
            raise PolicyError(f"row {max(rows)} was not reset: reset() started {len(self._streams)} episodes.")

    def quantiles(self, rows: Sequence[int], chunk: int, dims: int, exploration: Exploration) -> Tensor:
        """The next uniform numbers of some rows ``(B, K, A)``.

        Raises:
            PolicyError: A row has no stream.
        """
        self.check(rows)
        drawn = 1 if exploration == "chunk" else chunk
        for row in rows:
            self._streams[row].random((self._behind[row], drawn, dims))
            self._behind[row] = 0
        numbers = np.stack([self._streams[row].random((drawn, dims)) for row in rows])
        result = torch.from_numpy(np.broadcast_to(numbers, (len(rows), chunk, dims)).copy())
        return self._leaning(result, rows) if exploration == "episode" else result

    def _leaning(self, numbers: Tensor, rows: Sequence[int]) -> Tensor:
        """Makes uniform numbers ``(B, K, A)`` lean towards each row's plan; each is uniform still."""
        drawn = [np.random.default_rng((self._seeds[row], 1)).standard_normal(numbers.shape[2]) for row in rows]
        plans = torch.from_numpy(np.stack(drawn))[:, None]
        leaning: Tensor = torch.special.ndtr(PLAN**0.5 * plans + (1 - PLAN) ** 0.5 * torch.special.ndtri(numbers))
        return leaning
