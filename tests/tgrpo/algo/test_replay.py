"""Success replay: what is inserted when, and that it helps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tgrpo.algo import replay
from tgrpo.algo.advantages import trajectory_advantages
from tgrpo.algo.replay import SuccessBuffer
from tgrpo.types import RolloutGroup, Trajectory


def rollout(success, number=0):
    return Trajectory([], [], np.array([1]), np.array([float(number)]), success=success)


def group(successes, init_state=0, first=0):
    rollouts = [rollout(success, first + place) for place, success in enumerate(successes)]
    return RolloutGroup("suite", 0, init_state, 0, "hash", rollouts)


FAILED = group([False] * 8)
RNG = np.random.default_rng(0)


@pytest.mark.parametrize(("size", "good", "bad"), [(4, 1.5, -0.5), (8, 2.4749, -0.3536), (16, 3.75, -0.25)])
def test_one_success_among_failures_known_answer(size, good, bad):
    returns = torch.zeros(size, 1, dtype=torch.float64)
    assert not trajectory_advantages(returns).any()
    returns[0] = 1.0
    result = trajectory_advantages(returns)
    assert [round(float(result[0]), 4), round(float(result[1]), 4)] == [good, bad]


def test_a_hopeless_group_gets_a_stored_success_in_the_first_place():
    buffer = SuccessBuffer()
    assert buffer.repair(FAILED, RNG) is FAILED
    buffer.add(group([False, True], first=10))
    repaired = buffer.repair(FAILED, RNG)
    assert [t.source for t in repaired.trajectories] == ["replay"] + ["policy"] * 7
    assert repaired.trajectories[0].success
    assert repaired.trajectories[1:] == FAILED.trajectories[1:]


@pytest.mark.parametrize("successes", [[True] + [False] * 3, [True] * 8, [True, False]])
def test_groups_with_successes_stay_as_they_are(successes):
    buffer = SuccessBuffer()
    buffer.add(group([True]))
    fresh = group(successes)
    assert buffer.repair(fresh, RNG) is fresh


def test_the_buffer_keeps_the_last_eight_of_each_initial_state():
    buffer = SuccessBuffer()
    buffer.add(group([True] * 11))
    assert [t.rewards[0] for t in buffer.stored(FAILED)] == list(range(3, 11))
    assert buffer.stored(group([False], init_state=1)) == []


def test_replayed_successes_are_not_stored_again():
    buffer = SuccessBuffer()
    buffer.add(group([True]))
    buffer.add(buffer.repair(FAILED, RNG))
    assert len(buffer.stored(FAILED)) == 1


def updates_to_solve(seed, with_replay, arms=64, size=8, rate=0.5, limit=400):
    """Group-relative updates on a bandit with one good arm until it is drawn with probability above 0.9."""
    rng = np.random.default_rng(seed)
    logits, stored = np.zeros(arms), False
    for update in range(1, limit + 1):
        chances = np.exp(logits - logits.max())
        chances /= chances.sum()
        if chances[0] > 0.9:
            return update
        drawn = rng.choice(arms, size, p=chances)
        success = drawn == 0
        fresh = bool(success.any())
        if with_replay and stored and replay.hopeless(success):
            drawn[0], success[0] = 0, True
        stored = stored or fresh
        gain = trajectory_advantages(torch.tensor(success, dtype=torch.float64)[:, None]).numpy()
        for arm, advantage in zip(drawn, gain, strict=True):
            logits += rate * advantage / size * ((np.arange(arms) == arm) - chances)
    return limit


def test_replay_solves_a_sparse_bandit_in_fewer_updates():
    plain, repaired = (np.median([updates_to_solve(seed, on) for seed in range(20)]) for on in (False, True))
    assert repaired <= 0.6 * plain
