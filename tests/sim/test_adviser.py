"""The scripted expert as a person who is asked: it knows a way from wherever the arm is, and leaves the scene alone."""

import numpy as np
import pytest

from sim.adviser import Adviser


@pytest.fixture
def adviser(blind_env):
    blind_env.reset(1)
    return Adviser(blind_env)


def follow(adviser, env, steps):
    """Does what it is told; whether the task was completed."""
    for _ in range(steps):
        action = adviser.action(afresh=False)
        if action is None:
            return False
        if env.step(action):
            return True
    return False


def test_it_finds_a_way_without_moving_anything(adviser, blind_env):
    before = blind_env.state_hash()
    action = adviser.action(afresh=True)
    assert action.shape == (7,)
    assert np.abs(action).max() <= 1.0
    assert blind_env.state_hash() == before


def test_its_way_completes_the_task_after_a_policy_went_astray(adviser, blind_env):
    astray = np.array([0.3, 0.4, 0.2, 0.0, 0.0, 0.0, -1.0])
    for _ in range(25):
        blind_env.step(astray)
    assert adviser.action(afresh=True) is not None
    assert follow(adviser, blind_env, 250)


def test_a_plan_that_is_forgotten_is_made_anew(adviser, blind_env):
    first = adviser.action(afresh=True)
    for _ in range(10):
        blind_env.step(adviser.action(afresh=False))
    blind_env.reset(1)
    adviser.forget()
    assert adviser.action(afresh=False) == pytest.approx(first)
