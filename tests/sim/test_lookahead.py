"""Looking ahead in the simulator: what is tried leaves no trace, and the best is what is executed."""

import numpy as np
import pytest

pytest.importorskip("libero")

from sim import lookahead, solo
from sim.evaluate import EvalSettings, plan
from sim.lookahead import Lookahead
from sim.rollout import Helpers, Spent, Unit, whole
from tgrpo.errors import SettingsError
from tgrpo.policies.simple import RandomPolicy
from tgrpo.rewards import StageMachine, load_stages
from tgrpo.types import ActionChunk


@pytest.fixture
def stages(blind_env):
    return load_stages(blind_env.suite, blind_env.name)


@pytest.fixture
def machine(blind_env, stages):
    blind_env.reset(0)
    machine = StageMachine(stages, 100)
    machine.reset(blind_env.quantities())
    return machine


def towards(env, sign):
    """Eight actions that bring the hand to the first object, or away from it."""
    found = env.quantities()
    way = found["alphabet_soup_1/position"] - found["eef/position"]
    actions = np.zeros((8, 7), np.float32)
    actions[:, :3] = sign * way / np.abs(way).max()
    actions[:, 6] = -1.0
    return ActionChunk(actions)


def test_the_chunk_that_makes_progress_is_chosen_and_nothing_is_left_of_the_others(blind_env, machine):
    chunks = [towards(blind_env, sign) for sign in (-1.0, 0.0, 1.0, -1.0)]
    before, kept = blind_env.state_hash(), machine.state()
    assert lookahead.best(blind_env, machine, chunks, 8) == 2
    assert blind_env.state_hash() == before
    assert machine.state() == kept
    assert lookahead.best(blind_env, machine, chunks[::-1], 8) == 1


def test_only_actions_that_would_be_executed_count(blind_env, machine):
    late = towards(blind_env, -1.0).actions.copy()
    late[2:] = towards(blind_env, 1.0).actions[2:]
    chunks = [ActionChunk(late), towards(blind_env, 0.0)]
    assert lookahead.best(blind_env, machine, chunks, 8) == 0
    assert lookahead.best(blind_env, machine, chunks, 2) == 1


def test_episodes_depend_on_their_seed_alone_and_all_tries_are_counted(blind_env, stages):
    unit = Unit(
        suite="libero_object", task=0, init_states=(0, 1), seeds=(5, 6), temperature=1.0, max_steps=20, lookahead=3
    )
    tally = Spent()
    both = solo.play(blind_env, Lookahead(blind_env, RandomPolicy(), tally), whole(unit), stages, Helpers(), tally)
    assert tally.simulated == 2 * (3 + 1) * 20
    assert tally.inferred == 2 * 3 * 3  # three chunks of eight actions
    assert both.planned == (0, 0)
    again = Lookahead(blind_env, RandomPolicy(), Spent())
    alone = solo.play(blind_env, again, whole(unit).without([0]), stages, Helpers(), Spent())
    assert alone.state_hashes == both.state_hashes[1:]
    for one, other in zip(alone.trajectories[0].chunks, both.trajectories[1].chunks, strict=True):
        np.testing.assert_array_equal(one.actions, other.actions)


@pytest.mark.parametrize(("width", "temperature"), [(4, 0.0), (1, 0.5)])
def test_one_chunk_is_no_choice(width, temperature):
    with pytest.raises(SettingsError, match="one chunk to choose from"):
        plan(EvalSettings(tasks="0", states="0-0", lookahead=width, temperature=temperature))
