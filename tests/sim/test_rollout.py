"""Rollouts in the real simulator: groups that stop together, and what is kept of each."""

import math
import pickle

import numpy as np
import pytest

from sim.collecting import same_start
from sim.rollout import Helpers, Part, Spent, StopSignal, Unit, UnitResult, join, play, whole
from tgrpo.algo.cutting import synchronise, tail
from tgrpo.errors import SimulationError
from tgrpo.policies.simple import RandomPolicy, ReplayPolicy
from tgrpo.rewards import load_stages

SOLVED = 106
"""Steps of the recording, at the last of which the task is complete: the second action of its 14th chunk."""


class Delayed(ReplayPolicy):
    """Rests for as many steps as the seed says before it plays the recording."""

    MOST = 40

    def __init__(self, recording):
        rest = np.tile(np.array([0, 0, 0, 0, 0, 0, -1], np.float32), (self.MOST, 1))
        super().__init__(np.concatenate([rest, recording]))

    def reset(self, seeds, decisions):
        self._next = [self.MOST - seed + 8 * made for seed, made in zip(seeds, decisions, strict=True)]


def unit(**keywords):
    return Unit(**{"suite": "libero_object", "task": 0, "init_states": (1,)} | keywords)


@pytest.fixture(scope="module")
def stages(blind_env):
    return load_stages("libero_object", blind_env.name)


@pytest.fixture(scope="module")
def together(blind_env, recording, stages):
    """Three rollouts that would succeed at different steps, played as one unit with a common stop."""
    return play(blind_env, Delayed(recording), unit(seeds=(5, 0, 21)), stages=stages, stop=StopSignal())


def same(first, second):
    assert len(first) == len(second)
    for mine, theirs in zip(first, second, strict=True):
        assert mine.success == theirs.success
        assert np.array_equal(mine.executed, theirs.executed)
        assert np.array_equal(mine.rewards, theirs.rewards)
        assert np.array_equal(mine.stages, theirs.stages)
        assert all(np.array_equal(a.actions, b.actions) for a, b in zip(mine.chunks, theirs.chunks, strict=True))
        assert all(
            np.array_equal(a.proprio, b.proprio) for a, b in zip(mine.observations, theirs.observations, strict=True)
        )


def test_a_success_inside_a_chunk_is_kept(together):
    group = synchronise(together.trajectories)
    assert [t.success for t in group] == [False, True, False]
    assert [t.steps for t in group] == [SOLVED] * 3
    for trajectory in group:
        assert trajectory.executed.tolist() == [8] * 13 + [2]
        assert len(trajectory.observations) == len(trajectory.chunks) == 14
        assert len(trajectory.rewards) == len(trajectory.stages) == SOLVED
        assert {len(values) for values in trajectory.terms.values()} == {SOLVED}


def test_terms_add_up_to_rewards_and_the_success_reaches_the_last_stage(together, stages):
    solved = synchronise(together.trajectories)[1]
    assert np.allclose(sum(solved.terms.values()), solved.rewards)
    assert solved.stages[-1] == sum(len(goal.stages) for goal in stages.subgoals)
    assert solved.terms["success"][-1] > 0
    assert not solved.terms["success"][:-1].any()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_parts_and_timing_do_not_matter(blind_env, recording, stages, together, order):
    """One unit hears of the other's success before it starts, or long after it is done."""
    stop, parts = StopSignal(), [(5,), (0, 21)]
    results = {}
    for part in order:
        results[part] = play(
            blind_env, Delayed(recording), unit(seeds=parts[part]), stages=stages, stop=stop
        ).trajectories
    same(synchronise(results[0] + results[1]), synchronise(together.trajectories))


def test_without_a_stop_each_runs_to_its_own_end(blind_env, recording, stages):
    solo = play(blind_env, Delayed(recording), unit(seeds=(0, 3), max_steps=108), stages=stages).trajectories
    assert solo[0].success
    assert solo[0].steps == SOLVED
    assert solo[1].steps in (108, SOLVED + 1, SOLVED + 2)


def test_an_individual_success_is_worth_as_much_as_the_longest_episode(blind_env, recording, stages):
    policy = ReplayPolicy(recording)
    [alone] = play(blind_env, policy, unit(max_steps=250), stages=stages).trajectories
    [grouped] = play(blind_env, policy, unit(max_steps=250), stages=stages, stop=StopSignal()).trajectories
    bonus = stages.weights.bonus
    assert alone.rewards.sum() == pytest.approx(250 + bonus)
    assert grouped.rewards.sum() == pytest.approx(SOLVED + bonus)


def test_a_group_with_grace_goes_on_for_a_while_and_then_stops(blind_env, recording, stages):
    """The rollout of seed 0 succeeds; those that act later have a tenth of its steps left, rounded up."""
    wanted, end = unit(seeds=(21, 0, 3), max_steps=250, grace=1.1), math.ceil(1.1 * SOLVED)
    tally = Spent()
    played = play(blind_env, Delayed(recording), wanted, stages=stages, stop=StopSignal(), tally=tally).trajectories
    group = synchronise(played, wanted.grace)
    assert [t.success for t in group] == [False, True, True]
    assert [t.steps for t in group][:2] == [end, SOLVED]
    assert SOLVED < group[2].steps <= end
    assert tally.simulated <= end + 8 + SOLVED + group[2].steps  # nobody went on for longer than a chunk
    paid = [t.rewards.sum() for t in group]
    assert paid[1:] == pytest.approx([250 + stages.weights.bonus] * 2)  # and a later success is worth as much
    assert paid[0] < end


def test_patience_ends_who_completes_no_stage_and_nobody_else(blind_env, recording, stages):
    """The recording completes a stage at least every 50 steps; who rests for 40 first has none after 56."""
    wanted, tally = unit(seeds=(0, 40), max_steps=250, patience=56), Spent()
    moving, resting = play(blind_env, Delayed(recording), wanted, stages=stages, tally=tally).trajectories
    assert (moving.success, moving.steps) == (True, SOLVED)
    assert (resting.success, resting.steps) == (False, 56)
    assert not resting.stages.any()
    assert tally.simulated == SOLVED + 56
    assert resting.rewards.sum() < moving.rewards.sum()


@pytest.mark.parametrize(("execute", "expected"), [(8, [8, 8, 1]), (3, [3] * 5 + [2]), (1, [1] * 17)])
def test_chunks_are_cut_at_the_step_limit(blind_env, stages, execute, expected):
    asked = unit(max_steps=17, execute=execute, temperature=1.0)
    [trajectory] = play(blind_env, RandomPolicy(), asked, stages=stages).trajectories
    assert trajectory.executed.tolist() == expected
    assert len(trajectory.rewards) == 17


def test_the_same_unit_gives_the_same_rollouts(blind_env, stages):
    asked = unit(seeds=(7, 8), max_steps=12, temperature=1.0)
    first, second = (play(blind_env, RandomPolicy(), asked, stages=stages) for _ in range(2))
    same(first.trajectories, second.trajectories)
    assert first.state_hashes == second.state_hashes


def test_rollouts_of_a_unit_do_not_touch_each_other(blind_env, stages):
    """Turns are taken in one simulator; alone or beside others, a rollout is the same."""
    beside = play(blind_env, RandomPolicy(), unit(seeds=(7, 8, 9), max_steps=20, temperature=1.0), stages=stages)
    alone = play(blind_env, RandomPolicy(), unit(seeds=(8,), max_steps=20, temperature=1.0), stages=stages)
    same([beside.trajectories[1]], alone.trajectories)


def test_evaluation_keeps_and_pays_nothing(blind_env):
    [trajectory] = play(blind_env, RandomPolicy(), unit(keep=False, max_steps=9)).trajectories
    assert trajectory.steps == 9
    assert not trajectory.observations
    assert not trajectory.chunks
    assert not len(trajectory.rewards)


@pytest.mark.parametrize(("steps", "pictures"), [(8, 5), (9, 5)])
def test_a_film_has_a_picture_for_every_second_step(blind_env, steps, pictures):
    result = play(blind_env, RandomPolicy(), unit(film=True, max_steps=steps))
    assert len(result.frames) == pictures
    assert {frame.shape for frame in result.frames} == {(256, 256, 3)}


class Eager(Helpers):
    """Takes half of the rollouts before some decisions; they go through pickle, as between processes."""

    def __init__(self, *decisions):
        self.decisions, self.asked, self.taken = decisions, [], []

    def wanted(self, running):
        self.asked.append(running)
        return len(self.asked) - 1 in self.decisions

    def take(self, part):
        self.taken.append(pickle.dumps(part))


def test_helpers_are_asked_before_each_decision_and_at_the_end(blind_env):
    helpers = Eager()
    play(blind_env, RandomPolicy(), unit(seeds=(0, 1), max_steps=17), helpers=helpers)
    assert helpers.asked == [2, 2, 2, 0]


@pytest.mark.parametrize("film", [False, True])
def test_rollouts_that_move_to_another_process_continue_as_they_would_have(blind_env, stages, film):
    wanted = unit(seeds=(3, 1, 4, 1, 5), max_steps=40, temperature=1.0, film=film)
    stayed = play(blind_env, RandomPolicy(), wanted, stages=stages)
    helpers, others = Eager(0, 2, 3), []
    mine = play(blind_env, RandomPolicy(), wanted, stages=stages, helpers=helpers)
    assert helpers.asked == [5, 2, 2, 1, 1, 0]  # one left alone stays
    while helpers.taken:
        part = pickle.loads(helpers.taken.pop())
        helpers.asked, helpers.decisions = [], (1,)
        others.append(play(blind_env, RandomPolicy(), part, stages=stages, helpers=helpers))
    assert sorted(result.rows for result in [mine, *others]) == [(0,), (1,), (2,), (3,), (4,)]
    joined = join(wanted, [*others, mine])
    assert joined.rows == (0, 1, 2, 3, 4)
    assert joined.state_hashes == stayed.state_hashes
    same(joined.trajectories, stayed.trajectories)
    assert len(joined.frames) == len(stayed.frames) == (21 if film else 0)
    assert all(np.array_equal(a, b) for a, b in zip(joined.frames, stayed.frames, strict=True))


def test_a_rollout_from_the_middle_of_another_continues_as_that_one_did(blind_env, recording, stages):
    """From the state before its sixth decision with the same actions: same rewards, same stages, same success."""
    line = play(blind_env, Delayed(recording), unit(marks=True), stages=stages)
    [main], [marks] = line.trajectories, line.marks
    assert [mark.steps for mark in marks] == [0, *np.cumsum(main.executed)]
    start = pickle.loads(pickle.dumps(marks[5]))
    again = Part(unit(seeds=(-40,)), (0,), (start.mark(None),))
    result = play(blind_env, Delayed(recording), again, stages=stages)
    same(result.trajectories, [tail(main, 5)])
    assert result.trajectories[0].success
    blind_env.restore(marks[5].snapshot)
    assert result.state_hashes == (blind_env.state_hash(),) != line.state_hashes
    assert not play(blind_env, Delayed(recording), unit(max_steps=9)).marks


def test_a_success_of_a_rollout_that_moved_is_reported_under_its_own_place(blind_env, recording, stages):
    helpers, told = Eager(4), []

    class Stop(StopSignal):
        def lower(self, step, row):
            told.append((step, row))

    wanted = unit(seeds=(5, 0, 21))
    play(blind_env, Delayed(recording), wanted, stages=stages, stop=Stop(), helpers=helpers)
    part = pickle.loads(helpers.taken[0])
    assert part.rows == (1, 2)
    play(blind_env, Delayed(recording), part, stages=stages, stop=Stop())
    assert told == [(SOLVED + 5, 0), (SOLVED, 1), (SOLVED + 21, 2)]


def test_a_part_without_some_of_its_rollouts(blind_env):
    helpers = Eager(1)
    play(blind_env, RandomPolicy(), unit(seeds=(0, 1, 2, 3), max_steps=16), helpers=helpers)
    part = pickle.loads(helpers.taken[0])
    left = part.without([2])
    assert (left.rows, left.begun[0].steps) == ((3,), 8)
    assert left.begun[0] is part.begun[1]
    assert whole(unit(seeds=(0, 1, 2))).without([0, 2]) == Part(unit(seeds=(0, 1, 2)), (1,))


def test_different_starts_are_refused():
    results = [UnitResult(unit(), (), (state,), [], [], 0.0) for state in ("a", "a", "b")]
    assert same_start(results[:2]) == "a"
    with pytest.raises(SimulationError, match="2 different simulator states"):
        same_start(results)
