"""Samplers, replay and filter in the training loop, on made-up groups: no simulator runs."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from sim import loop
from sim.collecting import Collected
from sim.rollout import Spent
from sim.settings import TrainSettings, check
from tgrpo.algo import sampling
from tgrpo.algo.samplers import Outcome
from tgrpo.errors import SettingsError, UnknownNameError
from tgrpo.learner import LearnerSettings
from tgrpo.types import RolloutGroup, Trajectory

SETTINGS = TrainSettings(workers=1, groups=3, group_size=4)


def changed(**fields):
    return msgspec.structs.replace(SETTINGS, **fields)


def group(*successes, state=0):
    rollouts = [Trajectory([], [], np.array([1]), np.array([0.0]), success=success) for success in successes]
    return RolloutGroup("libero_object", 0, state, 0, "hash", rollouts)


def flat(*groups):
    return [Collected(one, [one], 1) for one in groups]


def starts(settings, outcomes=(), iteration=2):
    return [unit.start(0) for unit in loop.plan(settings, 0, iteration, 10, outcomes)]


def test_the_default_plan_is_uniform():
    assert starts(SETTINGS) == [sampling.init_state(range(25), 0, number) for number in range(6, 9)]


def test_by_default_the_learner_sees_what_was_played():
    memory, played = loop.Memory(), [group(False, False), group(True, False, state=1)]
    assert loop.prepare(SETTINGS, 0, flat(*played), memory) == played
    assert memory.outcomes == [Outcome(0, 0, 2), Outcome(1, 1, 2)]


def test_other_samplers_look_at_outcomes():
    outcomes = [Outcome(state, 4 if state != 7 else 2, 4) for state in range(25) for _ in range(9)]
    assert starts(changed(sampler="accuracy"), outcomes) == [7, 7, 7]
    assert starts(changed(sampler="step"), outcomes).count(7) >= 1
    assert set(starts(changed(sampler="information"), outcomes)) <= set(range(25))


def test_replay_repairs_a_hopeless_group_with_an_earlier_success():
    settings, memory = changed(replay="success"), loop.Memory()
    loop.prepare(settings, 0, flat(group(True, False, False, False)), memory)
    failed = group(False, False, False, False)
    (repaired,) = loop.prepare(settings, 1, flat(failed), memory)
    assert [t.source for t in repaired.trajectories] == ["replay", "policy", "policy", "policy"]
    assert memory.outcomes[-1] == Outcome(0, 0, 4)


def test_filter_drops_groups_without_information():
    played = [group(True, True), group(True, False), group(False, False)]
    assert loop.prepare(changed(group_filter="accuracy"), 0, flat(*played), loop.Memory()) == [played[1]]


def test_the_memory_keeps_what_came_of_initial_states_and_the_learner_sees_the_rest():
    collected, memory = Collected(group(False, state=3), [group(True, False), group(False, True)], 9), loop.Memory()
    assert loop.prepare(SETTINGS, 0, [collected], memory) == collected.groups
    assert memory.outcomes == [Outcome(3, 0, 1)]


def test_a_rollout_in_two_groups_is_useful_once():
    chunks = [object(), object()]
    rollout = Trajectory([None, None], chunks, np.array([8, 4]), np.zeros(12))
    tail = Trajectory([None], chunks[1:], np.array([4]), np.zeros(4))
    chosen = [RolloutGroup("libero_object", 0, 0, 0, "hash", [one]) for one in (rollout, tail)]
    useful = loop.usefulness(chosen, (Spent(0, 0), 0, 0), (Spent(16, 4), 0, 0))
    assert (useful["useful_steps"], useful["useful_observations"]) == (0.75, 0.5)


def test_replay_is_refused_where_rollouts_do_not_start_at_initial_states():
    with pytest.raises(SettingsError, match="needs --collector flat"):
        check(changed(collector="restart", replay="success"))


@pytest.mark.parametrize(
    "settings", [{"sampler": "steps"}, {"collector": "branch"}, {"learner": LearnerSettings(baseline="tgrop")}]
)
def test_unknown_strategies_are_refused_before_the_start(settings):
    with pytest.raises(UnknownNameError, match="Did you mean"):
        check(changed(**settings))
