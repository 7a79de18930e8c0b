"""Ranks from comparisons of two rollouts at a time: known answers of ArenaRL (arXiv 2601.06487)."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from tgrpo.algo import ranks


def close(values, wanted):
    torch.testing.assert_close(values, torch.tensor(wanted, dtype=values.dtype), atol=5e-5, rtol=0)


def judge(strengths):
    return lambda first, second: (float(strengths[first]), float(strengths[second]))


@pytest.mark.parametrize(
    ("strengths", "wanted"),
    [
        ([4, 3, 2, 1], [1.1619, 0.3873, -0.3873, -1.1619]),
        ([8, 7, 6, 5, 4, 3, 2, 1], [1.4289, 1.0206, 0.6124, 0.2041, -0.2041, -0.6124, -1.0206, -1.4289]),
        ([3, 1, 2], [1.0, -1.0, 0.0]),
    ],
)
def test_tournament_known_answers(strengths, wanted):
    close(ranks.advantages(ranks.tournament(judge(strengths), len(strengths))), wanted)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 6, 7, 8])
def test_a_noiseless_tournament_finds_the_best_whatever_the_order(count):
    for seed in range(20):
        strengths = np.random.default_rng(seed).permutation(count)
        places = ranks.tournament(judge(strengths), count)
        assert places[int(np.argmax(strengths))] == 0
        assert sorted(places) == list(range(count))


def test_tournament_needs_fewer_comparisons():
    asked = []

    def counting(first, second):
        asked.append((first, second))
        return float(first), float(second)

    ranks.tournament(counting, 8)
    assert len(asked) == 14
    asked.clear()
    ranks.round_robin(counting, 8)
    assert len(asked) == 28


def test_round_robin_known_answer():
    wins = ranks.round_robin(ranks.lexicographic([(2,), (1,), (1,), (0,)]), 4)
    assert wins.tolist() == [3, 1.5, 1.5, 0]
    close(ranks.advantages(ranks.ranks_of_wins(wins)), [0.9934, 0.1987, 0.1987, -1.3908])


def test_equals_have_no_rank_advantage():
    assert not ranks.advantages(ranks.ranks_of_wins(ranks.round_robin(judge([1, 1, 1]), 3))).any()


def test_both_orders_removes_the_advantage_of_the_first_place():
    fair = ranks.both_orders(lambda first, second: (1.0, 0.0))
    assert fair(0, 1) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("count", "tournament", "everyone"), [(4, 0.843, 0.793), (8, 0.848, 0.870), (16, 0.891, 0.936)]
)
def test_ranks_of_a_noisy_judge_agree_with_the_truth_as_the_published_code_does(count, tournament, everyone):
    """Mean rank correlation over 1000 groups, seed 0, within three standard errors of the reference's 200 groups."""
    rng, found = np.random.default_rng(0), []
    for _ in range(1000):
        strengths = rng.normal(size=count)

        def noisy(first, second, strengths=strengths):
            one, two = strengths[[first, second]] + rng.normal(0.0, 0.5, 2)
            return float(one), float(two)

        places = ranks.tournament(noisy, count), -ranks.round_robin(noisy, count)
        found.append([spearmanr(-place, strengths).statistic for place in places])
    error = np.std(found, axis=0) / np.sqrt(200)
    assert (np.abs(np.mean(found, axis=0) - [tournament, everyone]) < 3 * error).all()
    assert (error < 0.025).all()  # so that a judge whose noise is ignored, or doubled, does not pass
