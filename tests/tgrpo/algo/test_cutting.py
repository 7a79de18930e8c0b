"""Parts of trajectories, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tgrpo.algo.cutting import cut, deadline, stuck, synchronise, tail
from tgrpo.types import ActionChunk, Trajectory


def trajectory(executed, success=False):
    steps = sum(executed)
    return Trajectory(
        observations=[None] * len(executed),
        chunks=[ActionChunk(np.zeros((8, 7), np.float32)) for _ in executed],
        executed=np.array(executed),
        rewards=np.arange(steps, dtype=float),
        terms={"level": np.arange(steps, dtype=float)},
        stages=np.arange(steps),
        success=success,
    )


@pytest.mark.parametrize(
    ("steps", "executed"), [(1, [1]), (7, [7]), (8, [8]), (9, [8, 1]), (16, [8, 8]), (19, [8, 8, 3])]
)
def test_cut_by_hand(steps, executed):
    original = trajectory([8, 8, 8], success=True)
    short = cut(original, steps)
    assert short.executed.tolist() == executed
    assert short.rewards.tolist() == short.terms["level"].tolist() == short.stages.tolist() == list(range(steps))
    assert len(short.observations) == len(short.chunks) == len(executed)
    assert not short.success
    assert original.executed.tolist() == [8, 8, 8]


def test_nothing_is_cut_from_a_trajectory_that_is_short_enough():
    original = trajectory([8, 2], success=True)
    assert cut(original, 10) is original


def test_a_group_without_success_is_left_alone():
    group = [trajectory([8, 8]), trajectory([8, 8])]
    assert synchronise(group) == group


def test_two_successes_at_the_same_step_both_count():
    group = synchronise([trajectory([8, 2], True), trajectory([8, 8], True), trajectory([8, 2], True)])
    assert [t.success for t in group] == [True, False, True]
    assert [t.steps for t in group] == [10, 10, 10]


def test_with_grace_who_is_a_little_later_counts_and_the_others_get_as_much_time():
    """The first success takes 10 steps, so a grace of 1.25 lets the others go on until step 13."""
    members = [trajectory([8, 2], True), trajectory([8, 5], True), trajectory([8, 6], True), trajectory([8, 8])]
    group = synchronise(members, 1.25)
    assert [t.success for t in group] == [True, True, False, False]
    assert [t.steps for t in group] == [10, 13, 13, 13]
    assert [deadline(10, grace) for grace in (1.0, 1.2, 1.25)] == [10, 12, 13]


@pytest.mark.parametrize(
    ("stages", "expected"),
    [
        ([], False),
        ([0, 0], False),
        ([0, 0, 0], True),
        ([1, 1, 1], False),  # completed at the first step, and two steps since
        ([1, 1, 1, 1], True),
        ([0, 0, 1, 1, 2, 2, 2], False),
        ([0, 0, 1, 1, 2, 2, 2, 2], True),
        ([0, 2, 1, 1, 1], True),  # to lose a stage and have it again is no progress
        ([0, 2, 1, 2, 2], True),
    ],
)
def test_stuck_after_three_steps_without_a_new_stage(stages, expected):
    assert stuck(stages, 3) is expected
    assert not stuck(stages, 0)


@pytest.mark.parametrize(("decision", "executed", "first"), [(0, [8, 8, 3], 0), (1, [8, 3], 8), (2, [3], 16)])
def test_tails_by_hand(decision, executed, first):
    original = trajectory([8, 8, 3], success=True)
    rest = tail(original, decision)
    assert rest.executed.tolist() == executed
    assert rest.rewards.tolist() == rest.terms["level"].tolist() == rest.stages.tolist() == list(range(first, 19))
    assert rest.chunks == original.chunks[decision:]
    assert rest.success
