"""What collectors want, played by real workers."""

from __future__ import annotations

import pytest

from sim import collecting
from sim.rollout import Unit, play, whole
from tgrpo.errors import WorkerError
from tgrpo.policies import load
from tgrpo.rewards import load_stages

PLAN = [
    Unit(suite="libero_object", task=0, init_states=(state,), seeds=(1, 2, 3), temperature=1.0, max_steps=24)
    for state in (1, 2)
]


class Alone:
    """Plays everything in this process, as a pool of one."""

    size = 1

    def __init__(self, env):
        self.env, self.stages = env, load_stages("libero_object", env.name)

    def play(self, work, folder, progress):
        return [play(self.env, load(folder), one, stages=self.stages) for one in work]


def facts(collected):
    return [
        (one.steps, group.init_state, group.state_hash, sorted((t.steps, t.rewards.sum()) for t in group.trajectories))
        for one in collected
        for group in [one.first, *one.groups]
    ]


@pytest.mark.parametrize("collector", ["flat", "restart", "branching", "tree"])
def test_who_plays_does_not_matter(pool, blind_env, random_folder, collector):
    shared = collecting.collect(PLAN, pool, random_folder, lambda _: None, collector)
    assert facts(shared) == facts(collecting.collect(PLAN, Alone(blind_env), random_folder, lambda _: None, collector))
    assert [one.first.init_state for one in shared] == [1, 2]


def test_branches_start_where_the_main_line_was(blind_env, random_folder):
    """Found anew by executing the actions of the main line."""
    [one, _] = collecting.collect(PLAN, Alone(blind_env), random_folder, lambda _: None, "branching")
    [main] = one.first.trajectories
    for place, group in enumerate(one.groups):
        blind_env.reset(1, 0)
        for chunk in main.chunks[:place]:
            for action in chunk.actions[:8]:
                blind_env.step(action)
        assert group.state_hash == blind_env.state_hash()
        assert [t.steps for t in group.trajectories] == [24 - 8 * place] * 3
        sampled = {t.chunks[0].actions.tobytes() for t in group.trajectories}
        assert len(sampled) == 3
    assert one.steps == 24 + 2 * (24 + 16 + 8)


def test_branches_of_a_group_that_stops_together_stop_together(blind_env, random_folder):
    plan = [Unit(suite="libero_object", task=0, init_states=(1,), seeds=(1, 2), temperature=1.0, max_steps=16, group=0)]
    [one] = collecting.collect(plan, Alone(blind_env), random_folder, lambda _: None, "branching")
    assert [[t.steps for t in group.trajectories] for group in one.groups] == [[16, 16], [8, 8]]


class Losing(Alone):
    """Leaves a rollout out of what starts from initial state 1, in the second batch."""

    batches = 0

    def play(self, work, folder, progress):
        self.batches += 1
        return super().play([self.smaller(whole(w) if isinstance(w, Unit) else w) for w in work], folder, progress)

    def smaller(self, part):
        return part.without(part.rows[:1]) if self.batches == 2 and part.unit.start(0) == 1 else part


def test_a_group_that_is_not_complete_is_dropped(blind_env, random_folder):
    found = collecting.collect(PLAN, Losing(blind_env), random_folder, lambda _: None, "branching")
    assert [one.first.init_state for one in found] == [2]
    with pytest.raises(WorkerError, match="no group is complete"):
        collecting.collect(PLAN[:1], Losing(blind_env), random_folder, lambda _: None, "branching")
