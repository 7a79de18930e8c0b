"""The scripted expert in LIBERO itself."""

import numpy as np
import pytest

pytest.importorskip("libero")

from sim.expert import NoiseSettings, collect
from sim.expert.search import attempt, ordered_candidates, search
from sim.libero import make
from tgrpo.errors import SettingsError


@pytest.fixture(scope="module")
def object_env():
    return make("libero_object", 0, mode="fast", size=32)


@pytest.mark.slow
@pytest.mark.parametrize("suite", ["libero_object", "libero_spatial"])
def test_a_demonstration_replays_open_loop_in_the_exact_simulator(suite):
    demo = collect(make(suite, 0, mode="fast"), init_state=0, every=0)
    assert demo is not None
    assert np.abs(demo.actions).max() <= 1.0
    assert np.array_equal(demo.actions, demo.executed)
    stock = make(suite, 0, mode="exact")
    stock.reset(0)
    done = [stock.step(action) for action in demo.executed]
    assert any(done)
    assert len(done) <= stock.max_steps


def test_noise_is_executed_but_not_learned_and_its_seed_decides(object_env):
    noise = NoiseSettings(sigma=0.15)
    first = collect(object_env, 1, seed=3, noise=noise, every=0)
    again = collect(object_env, 1, seed=3, noise=noise, every=0)
    other = collect(object_env, 1, seed=4, noise=noise, every=0)
    assert None not in (first, again, other)
    assert np.array_equal(first.actions, again.actions)
    assert np.array_equal(first.executed, again.executed)
    assert not np.array_equal(first.executed[:10], other.executed[:10])
    assert np.array_equal(first.executed[:, 6], first.actions[:, 6])
    assert np.abs(first.executed - first.actions)[:, :6].max() > 0.05
    # The first decision is made before any noise has acted.
    assert np.array_equal(first.actions[0], other.actions[0])


def test_pictures_come_at_the_chosen_steps_and_belong_to_the_state(object_env):
    demo = collect(object_env, 0, every=40)
    assert demo is not None
    steps = len(demo.actions)
    assert demo.frames.tolist() == list(range(0, steps, 40))
    assert demo.images["agentview"].shape == (len(demo.frames), 32, 32, 3)
    assert demo.proprio.shape == (steps, 8)
    object_env.reset(0)
    assert np.array_equal(demo.images["agentview"][0], object_env.render()["agentview"])
    assert demo.proprio[0] == pytest.approx(object_env.proprio())


def test_search_puts_the_state_back_and_says_why_an_attempt_failed(object_env):
    object_env.reset(0)
    before = object_env.state_hash()
    hopeless = object_env.max_steps
    object_env.max_steps = 5
    try:
        (only,) = search(object_env, order=[(0,)])
    finally:
        object_env.max_steps = hopeless
    assert object_env.state_hash() == before
    assert not only.success
    assert only.reason == "not done after 5 steps"
    assert len(only.actions) == 5


def test_the_favourite_candidate_is_tried_first(object_env):
    object_env.reset(0)
    assert ordered_candidates(object_env)[0] == (0,)
    assert len(ordered_candidates(object_env)) == 8


def test_an_attempt_closes_the_gripper_once_and_opens_it_once(object_env):
    object_env.reset(2)
    result = attempt(object_env, (0,))
    assert result.success
    assert np.count_nonzero(np.diff(result.actions[:, 6])) == 2


@pytest.mark.parametrize("task", [3, 9], ids=["drawer", "microwave"])
def test_what_was_opened_is_closed_again_behind_what_was_put_in(task):
    """The goal of both tasks: the object is inside, and the joint of drawer or door is shut."""
    env = make("libero_10", task, mode="fast", cameras=())
    env.reset(0)
    [result] = search(env)
    assert result.success
    assert len(result.actions) < 300


def test_an_initial_state_that_does_not_exist_is_refused(object_env):
    with pytest.raises(SettingsError, match="50"):
        collect(object_env, 50)
