"""The credit chain: its exact values, and that the estimators rank as they did in an earlier study."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tgrpo.algo.bench.chain import RIGHT, WRONG, Chain, Player
from tgrpo.algo.bench.command import PUBLISHED, picture, table
from tgrpo.algo.bench.estimators import correlation, measure

SURE = Chain(right=0.5, advance=1.0, fall=0.0, cost=0.0, gamma=1.0)
GROUPS = 300


@pytest.fixture(scope="module")
def dense():
    return measure(Chain(), groups=GROUPS)


@pytest.fixture(scope="module")
def sparse():
    return measure(replace(Chain(), dense=False), groups=GROUPS)


def test_advantages_of_the_last_step_by_hand():
    last = SURE.advantages()[-1]
    assert last[3].tolist() == [0.5, -0.5]
    assert not last[:3].any()
    assert not SURE.advantages()[:, SURE.stages].any()


def test_advantages_average_to_zero_under_the_policy():
    chain = Chain()
    exact = chain.advantages()
    mean = chain.right * exact[..., RIGHT] + (1 - chain.right) * exact[..., WRONG]
    np.testing.assert_allclose(mean, 0.0, atol=1e-12)


def test_exact_values_agree_with_play():
    chain = replace(Chain(), dense=False)
    player = Player(chain, np.random.default_rng(0))

    def value(action):
        episodes = [player.play(2, 3, 4, action) for _ in range(4000)]
        return np.mean([sum(r * chain.gamma**t for t, r in enumerate(e.rewards)) for e in episodes])

    exact = chain.advantages()[4, 2]
    assert value(RIGHT) - value(WRONG) == pytest.approx(exact[RIGHT] - exact[WRONG], abs=0.03)


def test_steps_are_counted():
    player = Player(Chain(), np.random.default_rng(0))
    assert sum(len(player.play().actions) for _ in range(20)) == player.steps


def test_correlation_without_spread_is_zero():
    assert correlation([(np.ones(3), np.arange(3.0))]) == 0.0


def test_stages_and_steps_tell_more_than_whole_rollouts(dense, sparse):
    for results in (dense, sparse):
        found = {result.name: result.correlation for result in results}
        whole = found["GRPO, whole rollouts"]
        assert whole < found["TGRPO 0.3 / 0.7"] < found["TGRPO 0.5 / 0.5"]
        assert whole < found["return-to-go, same stage"]


def test_a_stage_is_paid_once_and_every_step_costs():
    chain = Chain(stages=4, cost=0.25)
    assert [chain.reward(0, 1), chain.reward(1, 1), chain.reward(2, 1), chain.reward(3, 4)] == [0.0, -0.25, -0.25, 0.0]
    sparse = replace(chain, dense=False)
    assert [sparse.reward(0, 1), sparse.reward(3, 4)] == [-0.25, 0.75]


def test_time_is_part_of_the_exact_advantages_by_hand():
    chain = replace(SURE, cost=0.25, horizon=2)
    # In the last stage with two steps left: right ends with 0.75; wrong pays 0.25 and then has 0.25 on average.
    assert chain.advantages()[0, 3].tolist() == [0.375, -0.375]


def test_a_lost_stage_is_remembered_as_reached():
    chain = Chain(right=0.5, fall=1.0)
    player = Player(chain, np.random.default_rng(0))
    episodes = [player.play() for _ in range(50)]
    assert all(e.highest == np.maximum.accumulate(e.stages).tolist() for e in episodes)
    assert any(e.highest != e.stages for e in episodes)


def test_estimators_agree_with_the_earlier_study(dense, sparse):
    """Its figures are of 300 groups, too: half of what is allowed is the noise of both."""
    for column, results in enumerate((dense, sparse)):
        for result in results:
            assert result.correlation == pytest.approx(PUBLISHED[result.name][column], abs=0.05)
    steps = {result.name: result.steps for result in dense}
    assert steps["TGRPO 0.3 / 0.7"] == pytest.approx(59, abs=2)
    assert steps["branching, 4 at every step"] == pytest.approx(135, abs=5)
    assert steps["tree, 25 x 4"] == pytest.approx(210, abs=12)


def test_branching_costs_twice_the_steps(dense):
    steps = {result.name: result.steps for result in dense}
    assert steps["branching, 4 at every step"] > 2 * steps["GRPO, whole rollouts"]


def test_table_and_picture_name_every_estimator(dense, sparse):
    assert all(name in table(dense, sparse) for name in PUBLISHED)
    assert picture(dense, sparse).count("<rect") == 1 + 2 * len(PUBLISHED)
