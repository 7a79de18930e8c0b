"""Intervals without approximation: for claims of "at least", for posteriors, and for counts per episode.

All functions are pure. The default for a success rate stays Wilson's, see :func:`tgrpo.record.stats.wilson`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from tgrpo.errors import SettingsError
from tgrpo.record.stats import Interval, wilson

_BISECTIONS = 80
_TERMS = 400


def incomplete_beta(a: float, b: float, x: float) -> float:
    """Regularised incomplete beta function: the share of a Beta(a, b) distribution below ``x``.

    Source: continued fraction DLMF 8.17.22, evaluated by Lentz's method.

    Args:
        a: First parameter, above 0.
        b: Second parameter, above 0.
        x: Between 0 and 1.
    """
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):
        return 1 - incomplete_beta(b, a, 1 - x)
    front = math.exp(log_beta_weight(a, b, x)) / a
    tiny = 1e-300
    c, d = 1.0, 1 / _away_from_zero(1 - (a + b) * x / (a + 1), tiny)
    fraction = d
    for m in range(1, _TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / _away_from_zero(1 + term * d, tiny)
            c = _away_from_zero(1 + term / c, tiny)
            fraction *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return front * fraction


def log_beta(a: float, b: float) -> float:
    """Logarithm of the beta function."""
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def log_beta_weight(a: float, b: float, x: float) -> float:
    """Logarithm of ``x^a (1 - x)^b / B(a, b)``."""
    return a * math.log(x) + b * math.log1p(-x) - log_beta(a, b)


def beta_interval(a: float, b: float, confidence: float = 0.95) -> Interval:
    """Central interval of a Beta(a, b) distribution."""
    tail = _tail(confidence)
    return _root(lambda x: incomplete_beta(a, b, x) - tail), _root(lambda x: incomplete_beta(a, b, x) - 1 + tail)


def clopper_pearson(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Exact interval of a success rate; never covers less than it says, so it suits a claim of "at least".

    Source: C. J. Clopper and E. S. Pearson, Biometrika 26 (1934).

    Args:
        successes: Number of successes, 0 to ``n``.
        n: Number of episodes; 0 gives ``(0, 1)``.
        confidence: Coverage, between 0 and 1.

    Raises:
        SettingsError: The counts contradict each other, or the confidence is not between 0 and 1.
    """
    wilson(successes, n, confidence)  # refuses what is no rate
    low = 0.0 if successes == 0 else beta_interval(successes, n - successes + 1, confidence)[0]
    high = 1.0 if successes == n else beta_interval(successes + 1, n - successes, confidence)[1]
    return low, high


def jeffreys(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Posterior interval of a success rate under Jeffreys' prior Beta(1/2, 1/2); the ends are 0 and 1 by convention."""
    low, high = beta_interval(successes + 0.5, n - successes + 0.5, confidence)
    return (0.0 if successes == 0 else low), (1.0 if successes == n else high)


def uniform_posterior(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Posterior interval of a success rate under the uniform prior Beta(1, 1)."""
    return beta_interval(successes + 1, n - successes + 1, confidence)


def probability_better(first: tuple[int, int], second: tuple[int, int]) -> float:
    """Posterior probability that the second of two independent success rates is higher, under uniform priors.

    Args:
        first: ``(successes, episodes)``.
        second: ``(successes, episodes)``.
    """
    a1, b1 = first[0] + 1, first[1] - first[0] + 1
    a2, b2 = second[0] + 1, second[1] - second[0] + 1
    return math.fsum(
        math.exp(log_beta(a1 + i, b1 + b2) - math.log(b2 + i) - log_beta(1 + i, b2) - log_beta(a1, b1))
        for i in range(a2)
    )


def newcombe(first: tuple[int, int], second: tuple[int, int], confidence: float = 0.95) -> Interval:
    """Interval of the difference of two independent success rates, second minus first.

    Source: R. G. Newcombe, Statistics in Medicine 17 (1998), method 10 for unpaired data.

    Args:
        first: ``(successes, episodes)``, at least one episode.
        second: ``(successes, episodes)``, at least one episode.
        confidence: Coverage, between 0 and 1.
    """
    p1, p2 = first[0] / first[1], second[0] / second[1]
    (l1, u1), (l2, u2) = wilson(*first, confidence), wilson(*second, confidence)
    return p2 - p1 - math.hypot(p2 - l2, u1 - p1), p2 - p1 + math.hypot(u2 - p2, p1 - l1)


def count_rate(count: int, n: int, confidence: float = 0.95) -> Interval:
    """Interval of the number of events per episode, if they come independently of each other.

    Source: F. Garwood, Biometrika 28 (1936): the exact interval of a Poisson mean.

    Args:
        count: Events in all episodes.
        n: Number of episodes; 0 gives ``(0, inf)``.
        confidence: Coverage, between 0 and 1.

    Raises:
        SettingsError: A count is negative, or the confidence is not between 0 and 1.
    """
    if count < 0 or n < 0:
        raise SettingsError(f"{count} events in {n} episodes: neither may be negative.")
    tail = _tail(confidence)
    if n == 0:
        return 0.0, math.inf
    top = count + 20 * math.sqrt(count + 1) + 20
    low = 0.0 if count == 0 else top * _root(lambda x: 1 - poisson_cdf(count - 1, top * x) - tail)
    high = top * _root(lambda x: tail - poisson_cdf(count, top * x))
    return low / n, high / n


def poisson_cdf(count: int, mean: float) -> float:
    """Probability of at most ``count`` events when ``mean`` are expected."""
    if mean <= 0:
        return 1.0
    return min(1.0, math.fsum(math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)) for k in range(count + 1)))


def rates_differ(first: tuple[int, int], second: tuple[int, int]) -> float:
    """Two-sided exact p that two numbers of events per episode are the same.

    Given the sum, the first count is binomial with the share of the episodes that are the first's.
    Source: J. Przyborowski and H. Wilenski, Biometrika 31 (1940).

    Args:
        first: ``(events, episodes)``.
        second: ``(events, episodes)``.
    """
    total = first[0] + second[0]
    if total == 0 or first[1] == 0 or second[1] == 0:
        return 1.0
    share = first[1] / (first[1] + second[1])
    chances = [math.comb(total, k) * share**k * (1 - share) ** (total - k) for k in range(total + 1)]
    below, above = math.fsum(chances[: first[0] + 1]), math.fsum(chances[first[0] :])
    return min(1.0, 2 * min(below, above))


def zero_failures_bound(n: int, confidence: float = 0.95) -> float:
    """Upper bound of the failure rate after ``n`` episodes without a failure."""
    return 1 - math.pow(1 - confidence, 1 / n)


def median_interval(values: Sequence[float], confidence: float = 0.95) -> Interval | None:
    """Interval of a median from the order of the values alone, whatever their distribution.

    Args:
        values: ``(n,)`` numbers in any order.
        confidence: Coverage, between 0 and 1.

    Returns:
        None for fewer values than the confidence needs: 6 for 95 %.
    """
    tail = _tail(confidence)
    ordered, n = sorted(values), len(values)
    below = 0.0
    for rank in range(n // 2):
        below += math.comb(n, rank) / 2**n
        if below > tail:
            return (ordered[rank - 1], ordered[n - rank]) if rank else None
    return None if n < 2 else (ordered[n // 2 - 1], ordered[n - n // 2])


def _tail(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise SettingsError(f"confidence {confidence}: must be between 0 and 1, for example 0.95.")
    return (1 - confidence) / 2


def _root(function: Callable[[float], float]) -> float:
    """Where a rising function of [0, 1] crosses zero."""
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if function(middle) < 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _away_from_zero(value: float, tiny: float) -> float:
    return value if abs(value) > tiny else tiny
