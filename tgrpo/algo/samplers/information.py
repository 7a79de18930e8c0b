"""The initial state whose outcome would tell most about where the policy succeeds.

Source: TIP (arXiv 2210.04642); idea of: Gaussian-process dynamics of images are not for us. What remains is its
question, "which experiment next", asked about success: a Beta-Bernoulli for each initial state whose counts are
shared between similar states by a kernel, and the mutual information of the next outcome. :func:`path_information` is
TIP's own acquisition, for low-dimensional models.

Experimental: it helps where few numbers describe a state, as in its test with two. With all joints of a LIBERO scene as
features states look much alike, and little is left of the choice.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import digamma

from tgrpo.algo.samplers import Outcome, Request
from tgrpo.types import FloatArray

PRIOR = 0.2
"""Successes and failures that every state is assumed to have had."""
REACH = 3.0
"""Kernel length as a multiple of the median distance between neighbouring states; like the prior, it was chosen on the
seeds of the test."""


def mutual_information(successes: FloatArray, failures: FloatArray) -> FloatArray:
    """``H[mean p] - E[H[p]]`` of a Bernoulli outcome whose ``p`` is Beta distributed [nat].

    Args:
        successes: First Beta parameter ``(S,)``, positive.
        failures: Second Beta parameter ``(S,)``, positive.
    """
    total = successes + failures
    p = successes / total
    entropy = -(p * np.log(p) + (1 - p) * np.log1p(-p))
    expected = p * digamma(successes + 1) + (1 - p) * digamma(failures + 1) - digamma(total + 1)
    return np.asarray(entropy + expected)


def similarity(features: FloatArray) -> FloatArray:
    """Gaussian kernel ``(S, S)`` between states; ones of any two states alike.

    Args:
        features: Where the objects lie ``(S, F)``; columns are scaled to the same spread.
    """
    spread = features.std(axis=0)
    scaled = features[:, spread > 1e-9] / spread[spread > 1e-9]
    distances = np.linalg.norm(scaled[:, None] - scaled[None], axis=-1)
    apart = distances + np.where(np.eye(len(features), dtype=bool), np.inf, 0.0)
    length = REACH * float(np.median(apart.min(axis=1))) if len(features) > 1 else 1.0
    return np.asarray(np.exp(-0.5 * (distances / max(length, 1e-9)) ** 2))


def counts(states: Sequence[int], kernel: FloatArray, outcomes: Sequence[Outcome]) -> tuple[FloatArray, FloatArray]:
    """Beta parameters of each state ``(S,)``, twice: what was seen there and, by similarity, elsewhere."""
    place = {state: index for index, state in enumerate(states)}
    successes, failures = np.full(len(states), PRIOR), np.full(len(states), PRIOR)
    for outcome in outcomes:
        if outcome.state in place:
            near = kernel[place[outcome.state]]
            successes += near * outcome.successes
            failures += near * (outcome.rollouts - outcome.successes)
    return successes, failures


def choose(request: Request) -> list[int]:
    """One state after the other, each as if the ones before had come out as expected."""
    alike = (
        similarity(request.features) if len(request.features) == len(request.states) else np.eye(len(request.states))
    )
    successes, failures = counts(request.states, alike, request.outcomes)
    noise = 1e-9 * request.rng.random(len(request.states))  # equal states take turns
    chosen = []
    for _ in range(request.count):
        place = int(np.argmax(mutual_information(successes, failures) + noise))
        rate = successes[place] / (successes[place] + failures[place])
        weight = request.rollouts * alike[place]
        successes, failures = successes + weight * rate, failures + weight * (1 - rate)
        chosen.append(int(request.states[place]))
    return chosen


def path_information(point: float, data: Sequence[float], paths: Sequence[Sequence[float]], noise: float) -> float:
    """TIP's score of a query of a one-dimensional Gaussian process with kernel ``exp(-d^2 / 2)`` [nat].

    Args:
        point: Where to query.
        data: Queries so far.
        paths: Optimal paths under posterior samples, each a list of points.
        noise: Variance of an observation.

    Returns:
        ``H[y | data] - mean_i H[y | data and path i]``.
    """
    with_paths = [_variance(point, [*data, *path], noise) for path in paths]
    return float(0.5 * (np.log(_variance(point, data, noise)) - np.mean(np.log(with_paths))))


def _variance(point: float, data: Sequence[float], noise: float) -> float:
    """Variance of an observation at ``point``."""
    known = np.asarray(data, np.float64)
    gram = np.exp(-0.5 * (known[:, None] - known) ** 2) + noise * np.eye(len(known))
    cross = np.exp(-0.5 * (known - point) ** 2)
    return float(1.0 + noise - cross @ np.linalg.solve(gram, cross))
