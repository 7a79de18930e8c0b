"""Plans of branching, restarting and searching collectors."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tgrpo.algo import strategies
from tgrpo.algo.advantages import trajectory_advantages
from tgrpo.algo.collectors import Fan, Played, branching, restart, tree
from tgrpo.algo.collectors.tree import Node
from tgrpo.errors import SettingsError
from tgrpo.types import RolloutGroup, Trajectory


def close(actual, expected):
    torch.testing.assert_close(torch.as_tensor(actual).double(), torch.as_tensor(expected).double(), atol=1e-4, rtol=0)


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


def numbered(length, success=False, stage=0):
    """A rollout of one-step decisions whose n-th reward is n."""
    steps = np.arange(length)
    return Trajectory(
        [None] * length,
        [None] * length,
        np.ones(length, int),
        steps * 1.0,
        stages=np.full(length, stage),
        success=success,
    )


def played(fan, rollouts, name="start"):
    """What a simulator would answer; a mark is the number of its rollout and decision."""
    assert len(rollouts) == fan.rollouts
    marks = [[(name, row, place) for place in range(len(t.executed) + 1)] for row, t in enumerate(rollouts)]
    return Played(RolloutGroup("suite", 0, 0, 0, name, rollouts), marks if fan.marks else [])


def gather(name, size, play):
    """Lets a collector collect; returns its groups and all fans that it wanted."""
    collection, wanted = strategies.collector(name).collect(size), []
    fans = next(collection)
    while True:
        wanted += fans
        try:
            fans = collection.send([play(fan) for fan in fans])
        except StopIteration as end:
            return end.value, wanted


def test_a_flat_group_is_what_was_played():
    groups, wanted = gather("flat", 3, lambda fan: played(fan, [numbered(2)] * 3))
    assert wanted == [Fan(3)]
    assert [group.state_hash for group in groups] == ["start"]


@pytest.mark.parametrize(
    ("best", "start"), [(rollout([0, 0, 1, 1], [2, 2], 1.0), ("start", 1, 1)), (numbered(3), None)]
)
def test_failed_drafts_make_a_second_round_where_the_best_got_to(best, start):
    def play(fan):
        drafts = [rollout([0, 0], [2], 0.1), best] if fan.start is None else [numbered(1)] * 2
        return played(fan, drafts, "start" if fan.start is None else "later")

    groups, wanted = gather("restart", 2, play)
    assert [fan.start for fan in wanted] == ([None] if start is None else [None, start])
    assert [group.state_hash for group in groups] == ["start" if start is None else "later"]


def test_drafts_of_which_one_succeeds_are_the_group():
    drafts = [numbered(2), numbered(1, success=True)]
    [group], wanted = gather("restart", 2, lambda fan: played(fan, drafts))
    assert len(wanted) == 1
    assert group.trajectories == drafts


def test_branches_are_compared_with_the_rest_of_the_main_line():
    def play(fan):
        return played(fan, [numbered(9 if fan.start is None else 2)] * fan.rollouts, str(fan.start))

    groups, wanted = gather("branching", 4, play)
    assert [(fan.rollouts, fan.start) for fan in wanted] == [
        (1, None),
        *((3, ("None", 0, place)) for place in (0, 3, 6)),
    ]
    assert [[t.steps for t in group.trajectories] for group in groups] == [[9, 2, 2, 2], [6, 2, 2, 2], [3, 2, 2, 2]]
    assert groups[2].trajectories[0].rewards.tolist() == [6, 7, 8]
    assert len(groups[2].trajectories[0].chunks) == 3


def test_a_tree_pays_single_decisions_with_what_came_of_them():
    """Of four alternatives the third leads to a success, the first to stage 1: the next search is below the third."""
    ends = iter([numbered(5), numbered(4, stage=1), numbered(4), numbered(4, success=True), numbered(4), numbered(3)])

    def play(fan):
        if fan.decisions == 1:
            return played(fan, [numbered(1)] * 4, "root" if fan.start is None else "below")
        return played(fan, [next(ends)])

    groups, wanted = gather("tree", 6, play)
    assert [(fan.rollouts, fan.decisions, fan.start) for fan in wanted] == [
        (1, None, None),
        (4, 1, None),
        *((1, None, ("root", row, 1)) for row in range(4)),
        (4, 1, ("root", 2, 1)),
        (1, None, ("below", 0, 1)),
    ]
    [group] = groups
    assert [t.rewards.tolist() for t in group.trajectories] == [[0.5], [0.0], [0.5], [0.0]]
    assert group.state_hash == "root"


def test_a_tree_plays_nothing_after_the_end_of_an_episode():
    def play(fan):
        return played(fan, [numbered(1, success=True)] * fan.rollouts)

    [group], wanted = gather("tree", 5, play)
    assert [fan.rollouts for fan in wanted] == [1, 4]
    assert [t.rewards.tolist() for t in group.trajectories] == [[1.0]] * 4
