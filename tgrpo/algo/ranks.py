"""Ranks from comparisons of two rollouts at a time, for tasks that have a judge but no reward.

Source: ArenaRL (arXiv 2601.06487), seeded single elimination and round robin; a reimplementation from its description
with one correction: byes go to the best seeds. (The published bracket gives them to the worst when the group is not a
power of two, and then ranks the weakest of three second.)

A judge is any function of two rollout numbers that returns a score for each. It may be a fixed order (see
:mod:`tgrpo.algo.baselines.round_robin`), a person or a model that watches two videos.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from tgrpo.algo.advantages import standardised
from tgrpo.types import FloatArray

Judge: TypeAlias = Callable[[int, int], tuple[float, float]]
"""Scores of two rollouts that are shown in this order."""


def both_orders(judge: Judge) -> Judge:
    """Asks a judge twice, in both orders, and adds the scores: no advantage from being shown first."""

    def fair(first: int, second: int) -> tuple[float, float]:
        one, two = judge(first, second), judge(second, first)
        return one[0] + two[1], one[1] + two[0]

    return fair


def round_robin(judge: Judge, count: int) -> FloatArray:
    """Everyone against everyone: ``count * (count - 1) / 2`` comparisons.

    Args:
        judge: Compares two rollouts; equal scores share the win.
        count: Number of rollouts ``N``.

    Returns:
        Wins of each rollout ``(N,)``, a draw counting half.
    """
    wins = np.zeros(count)
    for first in range(count):
        for second in range(first + 1, count):
            one, two = judge(first, second)
            share = 0.5 if one == two else float(one > two)
            wins[first] += share
            wins[second] += 1 - share
    return wins


def ranks_of_wins(wins: FloatArray) -> FloatArray:
    """Place of each rollout ``(N,)``, 0 the best; equals share the better place."""
    return np.array([(wins > own).sum() for own in wins], np.float64)


def tournament(judge: Judge, count: int) -> FloatArray:
    """Seeds by comparison with rollout 0, then single elimination: ``2 * (count - 1)`` comparisons.

    Args:
        judge: Compares two rollouts; on equal scores the better seed goes on.
        count: Number of rollouts ``N``, at least 1.

    Returns:
        Place of each rollout ``(N,)``: 0 the champion, then the losers of later rounds first, those of one round by
        their mean score.
    """
    points: list[list[float]] = [[] for _ in range(count)]

    def play(first: int, second: int) -> int:
        one, two = judge(first, second)
        points[first].append(one)
        points[second].append(two)
        return first if one >= two else second

    for other in range(1, count):
        play(0, other)
    alive = sorted(range(count), key=lambda rollout: (-np.mean(points[rollout] or [0.0]), rollout))
    beaten: list[list[int]] = []
    while len(alive) > 1:
        pairs = _pairs(alive)
        winners = [pair[0] if len(pair) == 1 else play(*pair) for pair in pairs]
        beaten.append([rollout for rollout in alive if rollout not in winners])
        alive = [rollout for rollout in alive if rollout in winners]
    order = list(alive)
    for losers in reversed(beaten):
        order += sorted(losers, key=lambda rollout: -np.mean(points[rollout]))
    places = np.empty(count)
    places[order] = np.arange(count)
    return places


def rewards_of_places(places: FloatArray) -> FloatArray:
    """``1 - place / (N - 1)`` ``(N,)``: 1 for the best, 0 for the last; all 0 if everyone shares the first place."""
    last = places.max()
    return np.zeros_like(places) if last == 0 else (last - places) / last


def advantages(places: FloatArray, alive: Tensor | None = None) -> Tensor:
    """Standardised rank rewards ``(N,)``."""
    values = torch.from_numpy(rewards_of_places(places))
    return standardised(values, torch.ones_like(values, dtype=torch.bool) if alive is None else alive)


def lexicographic(keys: Sequence[tuple[float, ...]]) -> Judge:
    """A judge that prefers the rollout with the larger key, compared entry by entry; needs no model.

    Args:
        keys: One tuple for each rollout, the most important number first.
    """
    return lambda first, second: (float(keys[first] > keys[second]), float(keys[second] > keys[first]))


def _pairs(seeds: Sequence[int]) -> list[tuple[int, ...]]:
    """First against last and so on, in a bracket of the next power of two; the best seeds rest where it has gaps."""
    size = 1 << (len(seeds) - 1).bit_length()
    return [
        (seeds[place],) if size - 1 - place >= len(seeds) else (seeds[place], seeds[size - 1 - place])
        for place in range(size // 2)
    ]
