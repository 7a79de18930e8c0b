"""Exact intervals and e-values against worked values that were cross-checked with other software."""

import math
import random

import pytest

from tgrpo.errors import SettingsError
from tgrpo.record import exact, sequential, stats

TABLE = [
    # k, n, Wilson, Clopper-Pearson, Jeffreys, uniform posterior
    (0, 10, (0, 0.2775), (0, 0.3085), (0, 0.2172), (0.0023, 0.2849)),
    (7, 10, (0.3968, 0.8922), (0.3475, 0.9333), (0.3942, 0.9073), (0.3903, 0.8907)),
    (10, 10, (0.7225, 1), (0.6915, 1), (0.7828, 1), (0.7151, 0.9977)),
    (41, 50, (0.6920, 0.9023), (0.6856, 0.9142), (0.6972, 0.9070), (0.6913, 0.9018)),
    (430, 500, (0.8268, 0.8877), (0.8265, 0.8892), (0.8275, 0.8883), (0.8268, 0.8876)),
    (485, 500, (0.9511, 0.9817), (0.9510, 0.9831), (0.9522, 0.9824), (0.9511, 0.9816)),
    (1934, 2000, (0.9582, 0.9740), (0.9582, 0.9744), (0.9585, 0.9742), (0.9582, 0.9740)),
]


@pytest.mark.parametrize(("k", "n", "wilson", "clopper", "jeffreys", "uniform"), TABLE)
def test_rates(k, n, wilson, clopper, jeffreys, uniform):
    assert stats.wilson(k, n) == pytest.approx(wilson, abs=5e-5)
    assert exact.clopper_pearson(k, n) == pytest.approx(clopper, abs=5e-5)
    assert exact.jeffreys(k, n) == pytest.approx(jeffreys, abs=5e-5)
    assert exact.uniform_posterior(k, n) == pytest.approx(uniform, abs=5e-5)


def test_two_independent_rates():
    assert exact.newcombe((25, 50), (29, 50)) == pytest.approx((-0.1118, 0.2638), abs=5e-5)
    assert exact.newcombe((30, 50), (41, 50)) == pytest.approx((0.0419, 0.3808), abs=5e-5)
    assert exact.probability_better((25, 50), (29, 50)) == pytest.approx(0.7865, abs=5e-5)
    assert exact.probability_better((30, 50), (41, 50)) == pytest.approx(0.9920, abs=5e-5)


@pytest.mark.parametrize(("n", "bound"), [(30, 0.0950), (100, 0.0295), (300, 0.0099), (1000, 0.0030)])
def test_no_failure_in_n(n, bound):
    assert exact.zero_failures_bound(n) == pytest.approx(bound, abs=5e-5)


@pytest.mark.parametrize(
    ("gained", "lost", "value"),
    [
        (0, 0, 1),
        (5, 0, 10.5),
        (6, 0, 18.1429),
        (9, 1, 18.5091),
        (10, 1, 30.9318),
        (12, 2, 23.9172),
        (14, 3, 21.3363),
        (3, 14, 0.0807),
    ],
)
def test_e_values(gained, lost, value):
    assert sequential.e_value(gained, lost) == pytest.approx(value, abs=5e-5)


def test_the_example_of_fourteen_against_three():
    assert stats.mcnemar_exact(14, 3) == pytest.approx(0.01273, abs=5e-6)
    assert sequential.e_value(14, 3) >= 20


@pytest.mark.parametrize("lost", range(8))
@pytest.mark.parametrize("gained", range(8))
def test_an_e_value_is_a_fair_bet(gained, lost):
    """If there is no difference, its mean after one more pair is what it was."""
    after = (sequential.e_value(gained + 1, lost) + sequential.e_value(gained, lost + 1)) / 2
    assert after == pytest.approx(sequential.e_value(gained, lost), rel=1e-12)


def test_block_test():
    old, new = [bit == "1" for bit in "0101010101"], [True] * 10
    wanted = [1, 0.4593, 1.0343, 0.8167, 1.9832, 1.6537, 4.1336, 3.5174, 8.9270, 7.6766]
    assert sequential.block_path(old, new) == pytest.approx(wanted, abs=5e-5)
    with pytest.raises(SettingsError, match="10 episodes of one policy and 9"):
        sequential.block_path(old, new[:9])


def test_the_path_stops_where_it_first_crosses():
    pairs = [(False, True)] * 7 + [(True, False)] * 20
    path = sequential.e_path(pairs)
    assert path.better[5] == pytest.approx(18.1429, abs=5e-5)
    assert path.decided(20) == (7, "better")
    assert path.decided(1e9) is None
    assert sequential.e_path([(a, b) for b, a in pairs[:7]]).decided(20) == (7, "worse")
    assert sequential.e_path([]).decided(20) is None


def test_peeking_does_not_make_false_claims():
    """Equal policies, looked at after every pair: at most 5 % are called better, here of 1000."""
    rng = random.Random(4)
    claims = 0
    for _ in range(1000):
        pairs = [(rng.random() < 0.5, rng.random() < 0.5) for _ in range(60)]
        decided = sequential.e_path(pairs).decided(20)
        claims += decided is not None and decided[1] == "better"
    assert 0 < claims <= 50


@pytest.mark.parametrize(
    ("count", "low", "high"), [(0, 0, 3.6889), (1, 0.0253, 5.5716), (10, 4.7954, 18.3904), (100, 81.3640, 121.6268)]
)
def test_counts_per_episode(count, low, high):
    assert exact.count_rate(count, 1) == pytest.approx((low, high), abs=5e-5)
    assert exact.count_rate(count, 10) == pytest.approx((low / 10, high / 10), abs=5e-6)


def test_counts_of_nothing():
    assert exact.count_rate(0, 0) == (0, math.inf)
    with pytest.raises(SettingsError, match="-1 events"):
        exact.count_rate(-1, 5)


def test_rates_that_fall():
    assert exact.rates_differ((20, 10), (4, 10)) == pytest.approx(2 * sum(math.comb(24, k) for k in range(5)) / 2**24)
    assert exact.rates_differ((5, 10), (5, 10)) == 1
    assert exact.rates_differ((0, 10), (0, 10)) == 1
    assert exact.rates_differ((3, 0), (2, 5)) == 1


def test_the_binomial_tail_is_the_beta_function():
    for n, k, p in ((10, 3, 0.2), (50, 40, 0.9), (7, 7, 0.5)):
        tail = sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k, n + 1))
        assert exact.incomplete_beta(k, n - k + 1, p) == pytest.approx(tail, abs=1e-13)
