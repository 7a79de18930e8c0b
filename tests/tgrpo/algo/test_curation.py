"""Curation and distillation: what is kept for imitation."""

from __future__ import annotations

import numpy as np
import pytest

from tgrpo.algo import curation, distillation
from tgrpo.algo.curation import Path, Weights
from tgrpo.types import ActionChunk, Trajectory

PATHS = [
    Path(("s0", "reach", "grasp", "place"), True),
    Path(("s0", "reach", "miss", "reach", "grasp", "place"), True),
    Path(("s0", "reach", "miss", "drop"), False),
    Path(("s0", "push", "drop"), False),
]


def test_values_of_nodes_known_answer():
    values = curation.node_values(PATHS)
    wanted = {"s0": 0.5, "reach": 0.6667, "miss": 0.5, "grasp": 1.0, "push": 0.0}
    assert {name: round(values[name], 4) for name in wanted} == wanted


def test_recoveries_and_efficiency_known_answers():
    values = curation.node_values(PATHS)
    assert [curation.recoveries(path, values) for path in PATHS] == [0, 1, 0, 0]
    assert [round(curation.efficiency(path, PATHS), 4) for path in PATHS] == [1.0, 0.6667, 0.0, 0.0]


def test_every_branch_of_the_example_is_an_error_branch():
    assert curation.error_branch_ratio(PATHS) == 1.0
    assert curation.error_branch_ratio(PATHS[:1]) == 0.0


def test_a_budget_of_one_keeps_what_the_weights_ask_for():
    assert curation.choose(PATHS, 1, Weights(recovery=2, efficiency=1, diversity=0)) == [1]
    assert curation.choose(PATHS, 1, Weights(recovery=0.1, efficiency=1, diversity=0)) == [0]
    assert sorted(curation.choose(PATHS, 9)) == [0, 1]


def test_diversity_prefers_what_is_new():
    paths = [Path(("a", "b", "c"), True), Path(("a", "b", "c"), True), Path(("a", "d", "c"), True)]
    assert curation.choose(paths, 2, Weights(0, 0, 1)) == [0, 2]


def test_distillation_known_answer():
    successes, lengths = [True, False, True, True, False], [40, 120, 35, 38, 120]
    kept = distillation.select(successes, lengths)
    assert (len(kept), sum(lengths[place] for place in kept)) == (3, 113)
    assert distillation.select([True, True, True], [40, 40, 49]) == [0, 1]
    assert distillation.select([False], [10]) == []


def test_tasks_are_balanced():
    kept = distillation.balanced(["a", "a", "b", "a"], np.random.default_rng(0))
    assert len(kept) == 2
    assert 2 in kept
    assert distillation.balanced([], np.random.default_rng(0)) == []


def test_actions_that_do_nothing():
    actions = np.zeros((4, 7), np.float32)
    actions[1, 0], actions[3, 6] = 0.5, 1.0
    assert distillation.moving(actions).tolist() == [False, True, False, True]


def test_labels_are_the_executed_actions():
    chunks = [ActionChunk(np.full((8, 7), value, np.float32)) for value in (1, 2)]
    rollout = Trajectory([], chunks, np.array([8, 3]), np.zeros(11))
    assert distillation.executed_actions(rollout)[:, 0].tolist() == pytest.approx([1] * 8 + [2] * 3)
