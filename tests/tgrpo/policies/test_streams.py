"""Random numbers of sampling: uniform each, and held together as the exploration says."""

import math

import numpy as np
import pytest
import torch

from tgrpo.algo.latent import diversity
from tgrpo.policies.streams import PLAN, Streams

ROWS = 4000


def draw(exploration, decisions=2, rows=ROWS, chunk=3):
    """Numbers of each decision ``(decisions, rows, chunk, 2)``."""
    streams = Streams()
    streams.reset(range(rows))
    return torch.stack([streams.quantiles(range(rows), chunk, 2, exploration) for _ in range(decisions)])


def correlation(first, second):
    return float(np.corrcoef(first.numpy(), second.numpy())[0, 1])


@pytest.mark.parametrize("exploration", ["token", "chunk", "episode"])
def test_every_number_is_uniform(exploration):
    """Shares of ten equal intervals within 4 standard errors, seeds 0 to 3999."""
    for numbers in draw(exploration)[:, :, 1, 0]:
        shares = torch.histc(numbers, 10, 0.0, 1.0) / ROWS
        assert (shares - 0.1).abs().max() < 4 * math.sqrt(0.1 * 0.9 / ROWS)
        assert 0 <= numbers.min() <= numbers.max() < 1


@pytest.mark.parametrize(
    ("exploration", "in_a_chunk", "in_a_rollout"),
    [("token", 0.0, 0.0), ("chunk", 1.0, 0.0), ("episode", None, None)],
)
def test_what_hangs_together(exploration, in_a_chunk, in_a_rollout):
    """Uniform images of normal numbers that correlate by r do so by 6 / pi * asin(r / 2)."""
    leaning = 6 / math.pi * math.asin(PLAN / 2)
    first, second = draw(exploration)
    chunk, rollout = (leaning if value is None else value for value in (in_a_chunk, in_a_rollout))
    assert correlation(first[:, 0, 0], first[:, 1, 0]) == pytest.approx(chunk, abs=0.06)
    assert correlation(first[:, 0, 0], second[:, 0, 0]) == pytest.approx(rollout, abs=0.06)
    assert correlation(first[:, 0, 0], first[:, 0, 1]) == pytest.approx(0, abs=0.06)  # dimensions lean on their own


def test_rollouts_differ_in_plan_where_an_episode_leans():
    """Of 40 rollouts of 30 decisions: the mean of what was drawn, between rollouts and within them."""
    variances = {}
    for exploration in ("token", "episode"):
        numbers = draw(exploration, decisions=30, rows=40, chunk=1)[:, :, 0].transpose(0, 1)
        labels = torch.arange(40).repeat_interleave(30)
        variances[exploration] = diversity(numbers.flatten(0, 1), labels)
    assert variances["token"][0] < 0.1 * variances["token"][1]
    assert variances["episode"][0] > 0.5 * variances["episode"][1]


@pytest.mark.parametrize("exploration", ["token", "chunk", "episode"])
def test_a_row_that_moved_goes_on_with_the_same_numbers(exploration):
    whole = draw(exploration, decisions=4, rows=3)
    streams = Streams()
    streams.reset([0, 1, 2], [0, 3, 0])
    assert torch.equal(streams.quantiles([1], 3, 2, exploration)[0], whole[3, 1])
