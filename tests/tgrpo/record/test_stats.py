"""Intervals and tests against published examples and numbers worked out elsewhere."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from tgrpo.errors import SettingsError
from tgrpo.record import stats


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (45, 50, 0.786, 0.957),
        (475, 500, 0.927, 0.966),
        (9, 10, 0.596, 0.982),
        (0, 10, 0.0, 0.2775),
        (7, 10, 0.3968, 0.8922),
        (10, 10, 0.7225, 1.0),
        (41, 50, 0.6920, 0.9023),
        (1934, 2000, 0.9582, 0.9740),
    ],
)
def test_wilson_known_values(successes, n, low, high):
    assert stats.wilson(successes, n) == pytest.approx((low, high), abs=5e-4)


def test_wilson_without_episodes_knows_nothing():
    assert stats.wilson(0, 0) == (0.0, 1.0)


def test_wilson_is_symmetric():
    low, high = stats.wilson(13, 40)
    assert stats.wilson(27, 40) == pytest.approx((1 - high, 1 - low))


def test_wilson_covers_as_often_as_it_says():
    n, rate = 50, 0.97
    covered = sum(
        math.comb(n, k) * rate**k * (1 - rate) ** (n - k)
        for k in range(n + 1)
        if stats.wilson(k, n)[0] <= rate <= stats.wilson(k, n)[1]
    )
    assert covered == pytest.approx(0.9372, abs=1e-4)  # exact coverage, computed elsewhere


@pytest.mark.parametrize(("successes", "n"), [(-1, 5), (6, 5)])
def test_wilson_refuses_impossible_counts(successes, n):
    with pytest.raises(SettingsError, match="between 0 and the episodes"):
        stats.wilson(successes, n)


def test_wilson_refuses_confidence():
    with pytest.raises(SettingsError, match="between 0 and 1"):
        stats.wilson(1, 2, confidence=95)


@pytest.mark.parametrize(
    ("gained", "lost", "p"),
    [(5, 15, 0.0414), (15, 5, 0.0414), (14, 3, 0.01273), (0, 0, 1.0), (4, 4, 1.0), (6, 0, 2 / 64)],
)
def test_mcnemar_known_values(gained, lost, p):
    assert stats.mcnemar_exact(gained, lost) == pytest.approx(p, rel=1e-3)


def test_mcnemar_equals_the_enumeration_of_all_coin_throws():
    gained, lost = 7, 2
    extreme = sum(
        1 for throw in itertools.product((0, 1), repeat=9) if min(sum(throw), 9 - sum(throw)) <= min(gained, lost)
    )
    assert Fraction(stats.mcnemar_exact(gained, lost)) == Fraction(extreme, 2**9)


def test_mcnemar_survives_counts_beyond_a_float():
    assert 0 < stats.mcnemar_exact(1000, 900) < 0.05
    assert stats.mcnemar_exact(3000, 0) == pytest.approx(0.0, abs=1e-300)


def test_mcnemar_refuses_negative_counts():
    with pytest.raises(SettingsError, match="negative"):
        stats.mcnemar_exact(-1, 3)


def test_newcombe_airway_example():
    # Bentur et al. (2009), as worked out by Fagerland, Lydersen and Laake (2014): -0.286 (-0.507 to -0.026).
    assert stats.newcombe_paired(both=1, gained=1, lost=7, neither=12) == pytest.approx((-0.507, -0.026), abs=5e-4)


def test_newcombe_swaps_with_the_policies():
    low, high = stats.newcombe_paired(both=30, gained=9, lost=2, neither=9)
    assert stats.newcombe_paired(both=30, gained=2, lost=9, neither=9) == pytest.approx((-high, -low))


def test_newcombe_covers_the_truth():
    rng = np.random.default_rng(0)
    both, gained, lost = 0.4, 0.25, 0.1
    samples = rng.multinomial(50, [both, gained, lost, 1 - both - gained - lost], size=2000)
    intervals = [stats.newcombe_paired(*map(int, sample)) for sample in samples]
    covered = np.mean([low <= gained - lost <= high for low, high in intervals])
    assert 0.93 < covered < 0.98


@pytest.mark.parametrize("counts", [(5, 0, 0, 0), (0, 5, 0, 0), (0, 0, 5, 0), (0, 0, 0, 5), (0, 0, 0, 0)])
def test_newcombe_stays_in_bounds_at_the_corners(counts):
    low, high = stats.newcombe_paired(*counts)
    assert -1 <= low <= high <= 1


def test_paired_counts_only_common_states():
    first = {(0, 0): True, (0, 1): False, (0, 2): True, (0, 3): False, (1, 0): True}
    second = {(0, 0): True, (0, 1): True, (0, 2): False, (0, 3): False, (2, 0): True}
    result = stats.paired(first, second)
    assert (result.both, result.gained, result.lost, result.neither) == (1, 1, 1, 1)
    assert result.pairs == 4
    assert result.difference == 0


def test_paired_refuses_strangers():
    with pytest.raises(SettingsError, match="nothing can be paired"):
        stats.paired({(0, 0): True}, {(0, 1): True})


def test_pooling_adds_discordant_counts():
    seeds = [stats.Paired(1, 4, 1, 2), stats.Paired(2, 6, 1, 1), stats.Paired(0, 5, 3, 1)]
    assert stats.pool(seeds) == stats.Paired(3, 15, 5, 4)
    assert stats.pooled_mcnemar([(4, 1), (6, 1), (5, 3)]) == pytest.approx(0.0414, abs=1e-4)


def test_episodes_to_decide():
    assert stats.episodes_to_decide(stats.Paired(30, 15, 5, 0)) == 0
    assert stats.episodes_to_decide(stats.Paired(30, 5, 5, 10)) is None
    # 1 to 0 is undecided until 6 to 0 (p = 2 / 64), which takes 5 more discordant pairs, and 1 pair in 10 is one.
    assert stats.episodes_to_decide(stats.Paired(9, 1, 0, 0)) == 50


def test_episodes_to_decide_is_enough():
    result = stats.Paired(20, 8, 4, 18)
    more = stats.episodes_to_decide(result)
    factor = 1 + more / result.pairs
    assert stats.mcnemar_exact(math.floor(8 * factor), math.ceil(4 * factor)) < 0.06
    assert stats.mcnemar_exact(8, 4) > 0.05


def test_macro_known_value():
    mean, interval = stats.macro([(48, 50), (45, 50), (50, 50), (30, 50)])
    assert mean == pytest.approx(0.865)
    assert interval == pytest.approx((0.8203, 0.9097), abs=5e-5)
