"""Statistics of success rates: intervals, exact tests, and how many episodes are still missing.

All functions are pure. Two policies are compared on the same initial states, so the unit is the pair: an initial state
is *gained* when only the second policy solves it and *lost* when only the first one does.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TypeAlias

from tgrpo.errors import SettingsError

Interval: TypeAlias = tuple[float, float]
"""Lower and upper bound of a confidence interval."""

Outcomes: TypeAlias = Mapping[tuple[int, int], bool]
"""(task, initial state) to whether the episode succeeded."""

_MAX_EXTRAPOLATION = 100_000


@dataclass(frozen=True)
class Paired:
    """Two policies on the same initial states."""

    both: int
    """Pairs that both policies solve."""
    gained: int
    """Pairs that only the second policy solves."""
    lost: int
    """Pairs that only the first policy solves."""
    neither: int
    """Pairs that no policy solves."""

    @property
    def pairs(self) -> int:
        """Number of initial states that both policies were run on."""
        return self.both + self.gained + self.lost + self.neither

    @property
    def difference(self) -> float:
        """Success rate of the second policy minus that of the first."""
        return (self.gained - self.lost) / self.pairs

    @property
    def p(self) -> float:
        """Two-sided p of the exact McNemar test."""
        return mcnemar_exact(self.gained, self.lost)

    def interval(self, confidence: float = 0.95) -> Interval:
        """Confidence interval of :attr:`difference`, see :func:`newcombe_paired`."""
        return newcombe_paired(self.both, self.gained, self.lost, self.neither, confidence)


def wilson(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a success rate.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).

    Args:
        successes: Number of successes, 0 to ``n``.
        n: Number of episodes; 0 gives ``(0, 1)``.
        confidence: Coverage, between 0 and 1.

    Raises:
        SettingsError: The counts contradict each other, or the confidence is not between 0 and 1.
    """
    if not 0 <= successes <= n:
        raise SettingsError(f"{successes} successes of {n} episodes: successes must be between 0 and the episodes.")
    z = _quantile(confidence)
    if n == 0:
        return 0.0, 1.0
    rate = successes / n
    scale = 1 + z * z / n
    centre = (rate + z * z / (2 * n)) / scale
    half = z / scale * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    # Rounding must not exclude a bound that is exact at the ends.
    return (0.0 if successes == 0 else centre - half), (1.0 if successes == n else centre + half)


def mcnemar_exact(gained: int, lost: int) -> float:
    """Two-sided p of the exact McNemar test: could chance alone have split the discordant pairs like this?

    Source: Q. McNemar, Psychometrika 12 (1947), with the exact binomial distribution of the smaller count.

    Args:
        gained: Pairs that only the second policy solves.
        lost: Pairs that only the first policy solves.

    Returns:
        p between 0 and 1; 1 when there are no discordant pairs.
    """
    if gained < 0 or lost < 0:
        raise SettingsError(f"discordant counts {gained} and {lost}: neither may be negative.")
    n = gained + lost
    tail = sum(math.comb(n, k) for k in range(min(gained, lost) + 1))
    return min(1.0, 2 * tail / (1 << n))


def newcombe_paired(both: int, gained: int, lost: int, neither: int, confidence: float = 0.95) -> Interval:
    """Interval of the difference between two success rates measured on the same initial states.

    Squares and adds the two Wilson intervals, with the correlation between the policies taken off.
    Source: R. G. Newcombe, "Improved confidence intervals for the difference between binomial proportions based on
    paired data", Statistics in Medicine 17 (1998), method 10.

    Args:
        both: Pairs that both policies solve.
        gained: Pairs that only the second policy solves.
        lost: Pairs that only the first policy solves.
        neither: Pairs that no policy solves.
        confidence: Coverage, between 0 and 1.

    Returns:
        Bounds of second minus first, within ``[-1, 1]``.
    """
    n = both + gained + lost + neither
    first, second = both + lost, both + gained
    first_low, first_high = wilson(first, n, confidence)
    second_low, second_high = wilson(second, n, confidence)
    if n == 0:
        return -1.0, 1.0
    correlation = _correlation(both, gained, lost, neither)
    p1, p2 = first / n, second / n
    below = _square_and_add(p2 - second_low, first_high - p1, correlation)
    above = _square_and_add(second_high - p2, p1 - first_low, correlation)
    return max(-1.0, p2 - p1 - below), min(1.0, p2 - p1 + above)


def paired(first: Outcomes, second: Outcomes) -> Paired:
    """Counts the pairs of two evaluations; initial states that only one of them has are left out.

    Raises:
        SettingsError: The two have no initial state in common.
    """
    keys = sorted(first.keys() & second.keys())
    if not keys:
        raise SettingsError("the two evaluations share no (task, init_state), so nothing can be paired.")
    return Paired(
        both=sum(first[key] and second[key] for key in keys),
        gained=sum(second[key] and not first[key] for key in keys),
        lost=sum(first[key] and not second[key] for key in keys),
        neither=sum(not first[key] and not second[key] for key in keys),
    )


def pool(results: Iterable[Paired]) -> Paired:
    """Adds up the pairs of several comparisons, for example of one recipe over seeds."""
    items = list(results)
    return Paired(
        both=sum(item.both for item in items),
        gained=sum(item.gained for item in items),
        lost=sum(item.lost for item in items),
        neither=sum(item.neither for item in items),
    )


def pooled_mcnemar(discordant: Iterable[tuple[int, int]]) -> float:
    """Exact McNemar p over several seeds, from the sums of their discordant counts.

    Args:
        discordant: ``(gained, lost)`` of each seed.
    """
    counts = list(discordant)
    return mcnemar_exact(sum(gained for gained, _ in counts), sum(lost for _, lost in counts))


def episodes_to_decide(result: Paired, alpha: float = 0.05) -> int | None:
    """How many more pairs would make the exact McNemar test significant if the rates stayed as they are.

    Args:
        result: The pairs so far.
        alpha: Significance level.

    Returns:
        0 when it is decided already; None when the two are level, or when no realistic number would do.
    """
    if result.p < alpha:
        return 0
    if result.gained == result.lost:
        return None
    winner, loser = max(result.gained, result.lost), min(result.gained, result.lost)
    # Only the counts of discordant pairs enter, so step through them instead of through the episodes.
    for more in range(1, _MAX_EXTRAPOLATION // max(1, result.pairs) * (winner + loser) + 1):
        total = winner + loser + more
        wins = total * winner // (winner + loser)
        if _significant(wins, total - wins, alpha):
            return math.ceil(result.pairs * more / (winner + loser))
    return None


def macro(counts: Sequence[tuple[int, int]], confidence: float = 0.95) -> tuple[float, Interval]:
    """Mean of the tasks' success rates with its interval; the tasks are fixed, the episodes are the sample.

    The standard error adds the tasks' variances at ``(k + 1) / (n + 2)``, so that a task without failures still counts.

    Args:
        counts: ``(successes, episodes)`` of each task.
        confidence: Coverage, between 0 and 1.
    """
    z = _quantile(confidence)
    if not counts or any(n == 0 for _, n in counts):
        return math.nan, (0.0, 1.0)
    mean = sum(k / n for k, n in counts) / len(counts)
    smooth = [((k + 1) / (n + 2), n) for k, n in counts]
    error = math.sqrt(sum(rate * (1 - rate) / n for rate, n in smooth)) / len(counts)
    return mean, (max(0.0, mean - z * error), min(1.0, mean + z * error))


def _quantile(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise SettingsError(f"confidence {confidence}: must be between 0 and 1, for example 0.95.")
    return NormalDist().inv_cdf((1 + confidence) / 2)


def _square_and_add(a: float, b: float, correlation: float) -> float:
    return math.sqrt(max(0.0, a * a - 2 * correlation * a * b + b * b))


def _correlation(both: int, gained: int, lost: int, neither: int) -> float:
    """Phi of the 2x2 table; a positive one is corrected for continuity, as Newcombe's method 10 has it."""
    margins = (both + gained) * (lost + neither) * (both + lost) * (gained + neither)
    if margins == 0:
        return 0.0
    excess: float = both * neither - gained * lost
    if excess > 0:
        excess = max(0.0, excess - (both + gained + lost + neither) / 2)
    return excess / math.sqrt(margins)


def _significant(gained: int, lost: int, alpha: float) -> bool:
    """Exact for small counts; the normal approximation with continuity correction where sums of binomials get slow."""
    n = gained + lost
    if n <= 500:
        return mcnemar_exact(gained, lost) < alpha
    z = (abs(gained - lost) - 1) / math.sqrt(n)
    return 2 * (1 - NormalDist().cdf(z)) < alpha
