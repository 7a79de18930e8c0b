"""Plans of branching, restarting and searching collectors."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tgrpo.algo.advantages import trajectory_advantages
from tgrpo.algo.collectors import branching, flat, restart, tree
from tgrpo.algo.collectors.tree import Node
from tgrpo.errors import SettingsError
from tgrpo.types import Trajectory


def close(actual, expected):
    torch.testing.assert_close(torch.as_tensor(actual).double(), torch.as_tensor(expected).double(), atol=1e-4, rtol=0)


def test_flat_groups_start_together():
    assert flat.starts(3) == [0, 0, 0]


def test_turn_groups_known_answers():
    rewards = np.array([[0.2, 0.4, 0.6], [0.5, 0.5, 0.8]])
    close(branching.advantages(torch.from_numpy(rewards)), [[-1, 0, 1], [-0.5774, -0.5774, 1.1547]])
    assert branching.run_value(rewards) == 0.5


def test_branches_of_a_main_line():
    branches = branching.plan(5, 4, every=2, horizon=2)
    assert branches == [(0, 4, 2), (2, 4, 2), (4, 4, 1)]
    assert branching.cost(branches) == 20
    assert branching.plan(3, 1) == [(0, 1, 3), (1, 1, 2), (2, 1, 1)]
    with pytest.raises(SettingsError, match="at least 1"):
        branching.plan(5, 0)


def test_bounds_known_answers():
    values, visits = (0.75, 0.25, 1.0), (4, 4, 2)
    pairs = list(zip(values, visits, strict=True))
    close([tree.uct(q, n, 10) for q, n in pairs], [1.5087, 1.0087, 2.0730])
    close([tree.uct(q, n, 10, math.sqrt(2)) for q, n in pairs], [1.8230, 1.3230, 2.5174])
    close(tree.sibling_advantages(list(values)), [0.2182, -1.0911, 0.8729])
    assert tree.uct(0.0, 0, 10) == math.inf


def test_search_finds_the_values_of_a_chain():
    """Two arms, then a coin: the left one pays with 0.8, the right one with 0.3."""
    rng = np.random.default_rng(0)
    root = Node(())
    tree.grow(
        root,
        expand=lambda state: [] if state else [("left",), ("right",)],
        simulate=lambda state: float(rng.random() < (0.8 if state[0] == "left" else 0.3)),
        iterations=400,
    )
    left, right = root.children
    assert left.value == pytest.approx(0.8, abs=0.06)
    assert left.visits > 2 * right.visits
    assert root.visits == left.visits + right.visits == 400
    assert tree.best_path(root) == [(), ("left",)]


def rollout(stages, executed, paid, success=False):
    rewards = np.full(len(stages), paid / len(stages))
    return Trajectory([], [], np.array(executed), rewards, stages=np.array(stages), success=success)


def test_the_first_best_draft_is_refined():
    assert restart.best_draft([0.1, 0.4, 0.4, 0.3]) == 1
    refined = torch.tensor([[0.4], [0.7], [0.2], [0.7]])
    close(trajectory_advantages(refined), [-0.4082, 0.8165, -1.2247, 0.8165])


def test_restart_where_the_best_draft_completed_its_last_stage():
    poor = rollout([0, 0, 0, 0], [2, 2], 0.1)
    good = rollout([0, 0, 1, 1, 1, 1], [2, 2, 2], 0.9)
    assert restart.plan([poor, good]) == (1, 2)
    assert restart.plan([poor]) == (0, 0)
    assert restart.plan([poor, rollout([1], [1], 1.0, success=True)]) is None


def test_restart_never_is_past_the_last_decision():
    assert restart.last_boundary(rollout([0, 0, 0, 1], [2, 2], 0.5)) == 1
