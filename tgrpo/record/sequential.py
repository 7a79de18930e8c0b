"""Tests that may be looked at after every episode: e-values, whose false claims stay bounded at any stopping time.

An e-value of a comparison is what a fair bet against "no difference" would have turned 1 into. It reaches ``1 / alpha``
with a probability of at most ``alpha`` if there is no difference, however often one looks and whenever one stops.
Source: the Beta mixture of the sign test's likelihood ratio (A. Wald, J. Ville; see A. Ramdas et al., "Game-theoretic
statistics and safe anytime-valid inference", Statistical Science 38, 2023).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate

from tgrpo.errors import SettingsError

_PRIOR = 0.18
"""Pseudo-counts of successes and failures that the block test's estimates start with."""


@dataclass(frozen=True)
class Path:
    """A sequential comparison: one entry after each pair, in the order in which the pairs were completed."""

    better: tuple[float, ...]
    """E-value of "the second policy is better"."""
    worse: tuple[float, ...]
    """E-value of "the second policy is worse"."""

    def decided(self, threshold: float) -> tuple[int, str] | None:
        """When the rule "stop at an e-value of ``threshold``" stopped, and what it says.

        Args:
            threshold: ``1 / alpha``, for each of the two directions.

        Returns:
            Number of pairs and ``better`` or ``worse``; None if it has not stopped.
        """
        for index, (better, worse) in enumerate(zip(self.better, self.worse, strict=True)):
            if max(better, worse) >= threshold:
                return index + 1, "better" if better >= threshold else "worse"
        return None


def e_value(gained: int, lost: int) -> float:
    """E-value of "the second policy wins more than half of the pairs that differ".

    ``E = 2^(b+c+1) B(b+1, c+1) (1 - I_1/2(b+1, c+1))`` for b gained and c lost pairs, computed exactly: a uniform bet
    on all winning shares above one half. Valid for any dependence inside a pair.

    Args:
        gained: Pairs that only the second policy solves.
        lost: Pairs that only the first policy solves.

    Raises:
        SettingsError: A count is negative.
    """
    if gained < 0 or lost < 0:
        raise SettingsError(f"discordant counts {gained} and {lost}: neither may be negative.")
    n = gained + lost
    ways = sum(math.comb(n + 1, k) for k in range(gained + 1))
    return float(Fraction(ways, (n + 1) * math.comb(n, gained)))


def e_path(pairs: Iterable[tuple[bool, bool]]) -> Path:
    """E-values after each pair.

    Args:
        pairs: Success of the first and of the second policy from the same start state, in the order of completion.
    """
    counts = list(accumulate(((b > a, b < a) for a, b in pairs), lambda x, y: (x[0] + y[0], x[1] + y[1])))
    return Path(
        better=tuple(e_value(gained, lost) for gained, lost in counts),
        worse=tuple(e_value(lost, gained) for gained, lost in counts),
    )


def block_path(first: Sequence[bool], second: Sequence[bool]) -> tuple[float, ...]:
    """E-values of "the second policy is better" after each block of one episode of each, without a common start state.

    Bets with rates estimated from the blocks before, and only when the second one is ahead.

    Args:
        first: Successes of the first policy in order.
        second: Successes of the second policy in order, as many.

    Raises:
        SettingsError: The numbers of episodes differ.
    """
    if len(first) != len(second):
        raise SettingsError(f"{len(first)} episodes of one policy and {len(second)} of the other do not make blocks.")
    values = []
    wealth = 1.0
    for index, (a, b) in enumerate(zip(first, second, strict=True)):
        rate_a, rate_b = _estimate(first[:index]), _estimate(second[:index])
        if rate_b > rate_a:
            common = (rate_a + rate_b) / 2
            wealth *= _chance(rate_a, a) * _chance(rate_b, b) / (_chance(common, a) * _chance(common, b))
        values.append(wealth)
    return tuple(values)


def _estimate(outcomes: Sequence[bool]) -> float:
    return (sum(outcomes) + _PRIOR) / (len(outcomes) + 2 * _PRIOR)


def _chance(rate: float, success: bool) -> float:
    return rate if success else 1 - rate
