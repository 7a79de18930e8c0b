"""A planner in free space and a policy near things: who acts when, and what comes of it."""

import numpy as np
import pytest
from rich.console import Console

pytest.importorskip("libero")

from sim import solo
from sim.approach import Approach
from sim.evaluate import EvalSettings, evaluate, plan
from sim.rollout import Helpers, Spent, Unit, whole
from tgrpo.algo.arbitration import ENTER
from tgrpo.errors import SettingsError
from tgrpo.policies.simple import RandomPolicy
from tgrpo.rewards import StageMachine, load_stages
from tgrpo.types import ActionChunk

THING, BASKET = "alphabet_soup_1", "basket_1"


class Recorder(RandomPolicy):
    """Stands still, and keeps what it sees."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def act(self, observations, *, temperature=0.0, rows=None):
        self.seen += [observation.proprio[:3] for observation in observations]
        return [ActionChunk(np.zeros((8, 7), np.float32)) for _ in observations]


@pytest.fixture
def stages(blind_env):
    return load_stages(blind_env.suite, blind_env.name)


def unit(steps):
    return Unit(suite="libero_object", task=0, init_states=(0,), max_steps=steps, keep=False, planner=True)


def test_the_policy_is_asked_near_the_object_and_not_before(blind_env, stages):
    policy, tally = Recorder(), Spent()
    result = solo.play(blind_env, Approach(blind_env, policy, tally), whole(unit(120)), stages, Helpers(), tally)
    [planned] = result.planned
    assert 20 < planned < 120
    assert (tally.simulated, tally.inferred) == (120, len(policy.seen))
    assert 8 * (tally.inferred - 1) < 120 - planned <= 8 * tally.inferred
    # It stands still above the can, so it is never handed back.
    soup = blind_env.quantities()[f"{THING}/position"]
    distances = [float(np.linalg.norm(soup - hand)) for hand in policy.seen]
    assert max(distances) < ENTER + 0.04  # of the grasp, which is above the object's middle


def test_what_is_held_is_carried_to_above_its_place(blind_env, stages):
    """Whoever takes the object: the expert's grasp here, as the policy that ships may miss it."""
    from sim.adviser import Adviser

    blind_env.reset(0)
    machine = StageMachine(stages, 300)
    machine.reset(blind_env.quantities())
    adviser, afresh = Adviser(blind_env), True
    while not (machine.focus(blind_env.quantities()) or ("", False))[1]:
        blind_env.step(adviser.action(afresh=afresh))
        machine.step(blind_env.quantities())
        afresh = False
    decider = Approach(blind_env, Recorder(), Spent())
    decider.begin(whole(unit(300)), 0)
    start = blind_env.quantities()
    for _ in range(150):
        decision = decider.decide(machine, 8)
        if decision.observation is not None:
            break
        assert decision.chunk.actions.shape == (1, 7)
        assert decision.chunk.actions[0, 6] == 1.0  # closed
        blind_env.step(decision.chunk.actions[0])
        machine.step(blind_env.quantities())
    end = blind_env.quantities()
    assert machine.focus(end) == (THING, True)
    across = [float(np.linalg.norm((q[f"{THING}/position"] - q[f"{BASKET}/position"])[:2])) for q in (start, end)]
    assert across[1] < 0.08 < across[0]


def test_nothing_is_planned_for_drawers_and_knobs(blind_env, stages):
    decider = Approach(blind_env, Recorder(), Spent())
    decider.begin(whole(unit(10)), 0)
    decider._places = {}
    blind_env.reset(0)
    machine = StageMachine(stages, 10)
    machine.reset(blind_env.quantities())
    assert decider.decide(machine, 8).observation is not None


def test_an_evaluation_says_what_was_planned(pool):
    settings = EvalSettings(suite="libero_object", tasks="0", states="0-1", mode="fast", max_steps=24, planner=True)
    episodes = evaluate(settings, Console(quiet=True), pool)["episodes"]
    assert [episode["steps"] for episode in episodes] == [24, 24]
    assert all(10 < episode["planned"] <= 24 for episode in episodes)


def test_planner_and_lookahead_exclude_each_other():
    with pytest.raises(SettingsError, match="choose one of them"):
        plan(EvalSettings(tasks="0", states="0-0", lookahead=4, temperature=0.5, planner=True))
