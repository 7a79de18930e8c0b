"""Known answers of the samplers, and simulations of what they are for."""

from __future__ import annotations

import numpy as np
import pytest

from tgrpo.algo import sampling, strategies
from tgrpo.algo.samplers import Outcome, Request, accuracy, information, smoothed, step, success_rates, uniform

STATES = tuple(range(10, 20))


def request(outcomes=(), count=4, first=0, **fields):
    return Request(states=STATES, count=count, first=first, seed=0, outcomes=outcomes, **fields)


def test_uniform_is_the_order_of_tgrpo():
    assert uniform.choose(request(first=8)) == [sampling.init_state(STATES, 0, number) for number in range(8, 12)]


@pytest.mark.parametrize("name", strategies.names("samplers"))
def test_choices_depend_on_the_request_only(name):
    outcomes = [Outcome(state, state % 3, 8) for state in STATES]
    choose = strategies.sampler(name).choose
    first, again = choose(request(outcomes, count=6, first=12)), choose(request(outcomes, count=6, first=12))
    assert first == again
    assert len(first) == 6
    assert set(first) <= set(STATES)


def test_step_known_answers():
    assert [round(step.replaced(rate), 4) for rate in (0.2, 0.6, 0.9)] == [0.0180, 0.5, 0.9526]
    assert [round(step.kept(rate, 8), 4) for rate in (0.2, 0.6, 0.9)] == [7.8741, 4.5, 1.3320]
    assert smoothed(0.5, 2, 8) == pytest.approx(0.425)


def test_success_rates_follow_the_outcomes():
    rates = success_rates((1, 2), [Outcome(1, 2, 8), Outcome(3, 8, 8)])
    assert rates == {1: pytest.approx(0.425), 2: 0.5}


def test_step_spends_the_budget_where_rollouts_differ():
    """Four tasks, eight copies each; uniform groups carry a signal for 0.46 of the rollouts."""
    chances = {0: 0.05, 1: 0.3, 2: 0.9, 3: 1.0}
    rates, rng = dict.fromkeys(chances, 0.5), np.random.default_rng(0)
    useful = played = 0
    shares = np.zeros(4)
    for turn in range(600):
        copies = step.reallocate([task for task in chances for _ in range(8)], rates, rng)
        for task in chances:
            n = copies.count(task)
            successes = int(rng.binomial(n, chances[task]))
            rates[task] = smoothed(rates[task], successes, n)
            if turn >= 20:
                useful += n * (0 < successes < n)
                played += n
                shares[task] += n
    uniform_share = np.mean([1 - p**8 - (1 - p) ** 8 for p in chances.values()])
    assert round(float(uniform_share), 3) == 0.462
    assert useful / played >= 0.65
    assert (shares / played)[:2].min() > 0.35
    assert (shares / played)[2:].max() < 0.08


def test_nothing_is_replaced_where_no_task_is_hard_and_solvable():
    assert step.reallocate([0, 0, 1], {0: 0.0, 1: 1.0}, np.random.default_rng(0)) == [0, 0, 1]


def test_accuracy_filter_known_answer():
    assert accuracy.kept([0.05, 0.5, 0.95]) == [1]


def test_accuracy_sampler_passes_over_solved_and_hopeless_states():
    outcomes = [Outcome(state, 8 * (state % 2), 8) for state in STATES[:8] for _ in range(9)]
    assert set(accuracy.choose(request(outcomes, count=8))) == {18, 19}


def test_accuracy_sampler_without_any_informative_state_is_uniform():
    outcomes = [Outcome(state, 8, 8) for state in STATES for _ in range(9)]
    assert accuracy.choose(request(outcomes)) == uniform.choose(request(outcomes))


def test_path_information_known_answers():
    def score(point):
        return information.path_information(point, [0.0], [[2.0, 2.5], [2.1, 2.6]], 0.01)

    assert [round(score(point), 4) for point in (2.2, -4.0, 0.0)] == [2.0274, 0.0, 0.0001]


def test_mutual_information_is_largest_where_nothing_is_known():
    successes, failures = np.array([0.5, 5.0, 50.0, 1.0]), np.array([0.5, 5.0, 50.0, 30.0])
    scores = information.mutual_information(successes, failures)
    assert scores[0] > scores[1] > scores[2] > 0
    assert scores[3] < scores[1]


def estimate_error(seed, choose):
    """Mean error of the estimated success field of 50 states after 100 rollouts, one each time."""
    rng = np.random.default_rng(seed)
    places = rng.uniform(-1, 1, (50, 2))
    field = 1 / (1 + np.exp(-6 * (places @ rng.normal(size=2))))
    kernel, outcomes = information.similarity(places), []
    for turn in range(100):
        wish = Request(tuple(range(50)), 1, turn, seed, outcomes=tuple(outcomes), features=places)
        state = choose(wish)[0]
        outcomes.append(Outcome(state, int(rng.random() < field[state]), 1))
    successes, failures = information.counts(range(50), kernel, outcomes)
    return float(np.abs(successes / (successes + failures) - field).mean())


def test_information_learns_the_success_field_faster_than_chance():
    better = 0
    for seed in range(20):
        rng = np.random.default_rng(1000 + seed)
        at_random = estimate_error(seed, lambda wish, rng=rng: [int(rng.integers(len(wish.states)))])
        better += estimate_error(seed, information.choose) < at_random
    assert better >= 16
