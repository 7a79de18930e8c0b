"""The verdict on a stage file, from made-up rollouts."""

from __future__ import annotations

import numpy as np
import pytest

from tgrpo.rewards.audit import Rollout, judge, ordered_pairs, spearman


def rollout(progress, success, start=0.05):
    return Rollout("expert", start, np.array(progress, float), success)


GOOD = [rollout([0.3, 0.8, 1.0], True), rollout([0.3, 0.9, 1.0], True), rollout([0.1], False), rollout([0.2], False)]


def test_a_good_stage_file_passes():
    verdict = judge(GOOD)
    assert (verdict.problems, verdict.successes, verdict.start, verdict.end) == ((), 2, 0.05, 1.0)
    assert verdict.ordered == 1.0
    assert verdict.correlation == pytest.approx(0.8944, abs=1e-4)


def test_success_itself_is_no_progress():
    assert rollout([0.3, 0.8, 1.0], True).best == 0.8
    assert rollout([1.0], True, start=0.1).best == 0.1
    assert rollout([0.3, 0.2], False).best == 0.3


@pytest.mark.parametrize(
    ("rollouts", "message"),
    [
        ([rollout([1.0], True, start=0.4)], "an initial state scores 0.40"),
        ([rollout([0.9], True)], "a success state scores 0.90"),
        ([rollout([0.5], False)], "no rollout succeeded"),
        ([rollout([0.2, 1.0], True), *[rollout([0.9], False)] * 4], "A stage pays for something that failures do"),
    ],
)
def test_what_is_wrong_is_named(rollouts, message):
    assert any(message in problem for problem in judge(rollouts).problems)


def test_too_few_rollouts_have_no_correlation():
    assert judge(GOOD[:2]).correlation is None


def test_ranks_with_equals():
    assert spearman(np.array([1.0, 2, 2, 3]), np.array([1.0, 2, 2, 3])) == pytest.approx(1.0)
    assert spearman(np.array([1.0, 1]), np.array([0.0, 1])) == 0.0
    assert ordered_pairs(np.array([1.0, 1, 0]), np.array([1.0, 0, 0])) == 0.75
