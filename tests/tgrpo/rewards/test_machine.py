"""Scripted rollouts through a stage file with round numbers: 4 stages, a gap of 0.25, shaping up to 0.225."""

from __future__ import annotations

import math
import pickle
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tgrpo.rewards import StageFile, StageMachine

BEST_FAILURE = 0.975
"""Three stages of 0.25 and all of the shaping of the fourth, 0.225."""


def started(stages: StageFile, world: Any) -> StageMachine:
    machine = StageMachine(stages)
    machine.reset(world.quantities())
    return machine


def test_another_machine_continues_from_the_state_of_one(block: StageFile, world: Any) -> None:
    machine = started(block, world)
    world.eef = [0.0, 0.0, 0.04]
    world.contact["block"] = 1
    machine.step(world.quantities())
    world.carry("block", [0.0, 0.0, 0.05])
    machine.step(world.quantities())

    other = StageMachine(block)
    other.restore(pickle.loads(pickle.dumps(machine.state())))
    world.carry("block", [0.45, 0.0, 0.1])
    assert other.step(world.quantities()) == machine.step(world.quantities())
    world.placed["in(block,bin)"] = True
    last, again = machine.step(world.quantities()), other.step(world.quantities())
    assert last == again
    assert last.terms["success"] > 0
    assert other.step(world.quantities()).terms["success"] == 0


def test_walk_through_the_stages(block: StageFile, world: Any) -> None:
    machine = started(block, world)

    world.eef = [0.0, 0.0, 0.1]
    step = machine.step(world.quantities())
    assert (step.stage, step.terms["level"]) == (0, 0.0)
    assert step.terms["shaping"] == pytest.approx(0.225 * (1 - math.tanh(1)))

    world.eef = [0.0, 0.0, 0.04]
    world.contact["block"] = 1
    step = machine.step(world.quantities())
    assert step.stage == 1
    assert step.total == pytest.approx(0.25 + 0.225 * 0.5)

    world.carry("block", [0.0, 0.0, 0.05])
    step = machine.step(world.quantities())
    assert step.stage == 2
    assert step.total == pytest.approx(0.50 + 0.225 * 0.5)

    world.carry("block", [0.45, 0.0, 0.1])
    step = machine.step(world.quantities())
    assert step.stage == 3
    assert step.total == pytest.approx(0.75 + 0.225 * (1 - math.tanh(math.hypot(0.05, 0.1) / 0.1)))
    assert step.progress == step.total

    world.placed["in(block,bin)"] = True
    step = machine.step(world.quantities())
    assert (step.stage, step.progress) == (4, 1.0)
    assert step.total == pytest.approx(sum(step.terms.values()))


def test_success_returns_the_steps_of_the_episode_and_the_bonus(block: StageFile, world: Any) -> None:
    machine = started(block, world)
    returned = sum(machine.step(world.quantities()).total for _ in range(9))
    world.placed["in(block,bin)"] = True
    assert returned + machine.step(world.quantities()).total == pytest.approx(10 + 1)


def test_success_is_paid_once(block: StageFile, world: Any) -> None:
    machine = started(block, world)
    world.placed["in(block,bin)"] = True
    assert machine.step(world.quantities()).terms["success"] == pytest.approx(1.0)
    assert machine.step(world.quantities()).terms["success"] == 0.0


def test_horizon_counts_the_steps_that_were_saved(block: StageFile, world: Any) -> None:
    machine = StageMachine(block, horizon=280)
    machine.reset(world.quantities())
    returned = sum(machine.step(world.quantities()).total for _ in range(9))
    world.placed["in(block,bin)"] = True
    assert returned + machine.step(world.quantities()).total == pytest.approx(280 + 1)


def test_without_repayment_success_pays_the_bonus_alone(block: StageFile, world: Any) -> None:
    weights = msgspec.structs.replace(block.weights, repay=0.0, bonus=5.0)
    machine = started(msgspec.structs.replace(block, weights=weights), world)
    machine.step(world.quantities())
    world.placed["in(block,bin)"] = True
    assert machine.step(world.quantities()).total == pytest.approx(1.0 + 5.0)


def test_hysteresis_keeps_a_stage(block: StageFile, world: Any) -> None:
    """Entered below 0.05 m, kept below 0.08 m; never entered between the two."""
    machine = started(block, world)
    stages = []
    for height in (0.07, 0.04, 0.07, 0.09, 0.07):
        world.eef = [0.0, 0.0, height]
        stages.append(machine.step(world.quantities()).stage)
    assert stages == [0, 1, 1, 0, 0]


def test_release_over_the_target_is_no_step_back(block: StageFile, world: Any) -> None:
    machine = started(block, world)
    world.carry("block", [0.5, 0.0, 0.2])
    before = machine.step(world.quantities())
    world.contact["block"] = 0
    world.things["block"] = [0.5, 0.0, 0.1]
    after = machine.step(world.quantities())
    assert (before.stage, after.stage) == (3, 3)
    assert after.total > before.total


def test_drop_keeps_all_stages_but_the_last(block: StageFile, world: Any) -> None:
    """After a grasp (2 of 4): 0.25 stays; the other 0.25 is paid for the ground recovered, of two stages."""
    machine = started(block, world)
    world.carry("block", [0.0, 0.0, 0.1])
    held = machine.step(world.quantities())

    world.contact["block"] = 0
    world.things["block"] = [0.0, 0.0, 0.0]
    dropped = machine.step(world.quantities())
    assert dropped.stage == 0
    assert dropped.terms["level"] == pytest.approx(0.25)
    assert dropped.terms["shaping"] == pytest.approx(0.225 * (0 + 1 - math.tanh(1)) / 2)

    world.eef = [0.0, 0.0, 0.0]
    world.contact["block"] = 1
    recovered = machine.step(world.quantities())
    assert recovered.total == pytest.approx(0.25 + 0.225 * (1 + 0.5) / 2)
    assert dropped.total < recovered.total < held.total


def test_gaining_a_stage_twice_pays_less_than_keeping_it(block: StageFile, world: Any) -> None:
    juggler, holder = started(block, world), started(block, world)
    juggled = kept = 0.0
    for turn in range(20):
        world.carry("block", [0.0, 0.0, 0.05])
        kept += holder.step(world.quantities()).total
        world.contact["block"] = 2 * (turn % 2)
        world.things["block"] = [0.0, 0.0, 0.05 * (turn % 2)]
        juggled += juggler.step(world.quantities()).total
    assert juggled < kept


def test_stages_may_be_skipped(block: StageFile, world: Any) -> None:
    machine = started(block, world)
    world.carry("block", [0.45, 0.0, 0.1])
    assert machine.step(world.quantities()).stage == 3


def test_lift_counts_from_the_reset(block: StageFile, world: Any) -> None:
    world.things["block"] = world.eef = [0.0, 0.0, 1.0]
    machine = started(block, world)
    assert machine.step(world.quantities()).stage == 1
    world.things["block"] = world.eef = [0.0, 0.0, 1.03]
    assert machine.step(world.quantities()).stage == 2


def test_reset_forgets_the_episode(block: StageFile, world: Any, new_world: Any) -> None:
    machine = started(block, world)
    first = machine.step(world.quantities())
    world.carry("block", [0.45, 0.0, 0.1])
    machine.step(world.quantities())
    fresh = new_world()
    machine.reset(fresh.quantities())
    assert machine.step(fresh.quantities()) == first


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_hovering_before_the_last_stage_never_beats_completing(block: StageFile, new_world: Any, stage: int) -> None:
    """The hovering rollout gets there at once and stays; the other one wanders and completes at the last step."""
    hovering, completing = new_world(), new_world()
    hover, complete = started(block, hovering), started(block, completing)
    if stage == 1:
        hovering.eef, hovering.contact["block"] = [0.0, 0.0, 0.0], 1
    elif stage > 1:
        hovering.carry("block", [0.0, 0.0, 0.1] if stage == 2 else [0.5, 0.0, 0.0])
    hovered = completed = 0.0
    for _ in range(219):
        hovered += hover.step(hovering.quantities()).total
        completed += complete.step(completing.quantities()).total
    completing.placed["in(block,bin)"] = True
    hover_last, complete_last = hover.step(hovering.quantities()), complete.step(completing.quantities())
    assert hover_last.stage == stage
    assert complete_last.total > hover_last.total
    assert completed + complete_last.total > hovered + hover_last.total


poses = st.tuples(st.floats(-0.1, 0.6), st.floats(-0.1, 0.1), st.floats(0.0, 0.3))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.lists(st.tuples(poses, poses, st.integers(0, 2)), min_size=1, max_size=12))
def test_no_failure_is_paid_like_a_success(block: StageFile, new_world: Any, episode: list[Any]) -> None:
    """Any sequence of states: a step without success pays at most 0.975, and less after a fall than before it."""
    world = new_world()
    machine = started(block, world)
    best = 0
    for eef, thing, contact in episode:
        world.eef, world.things["block"], world.contact["block"] = list(eef), list(thing), contact
        step = machine.step(world.quantities())
        assert 0.0 <= step.total <= BEST_FAILURE
        best = max(best, step.stage)
        if step.stage < best:
            assert step.total < 0.25 * best
        else:
            assert step.total >= 0.25 * best


def test_what_is_forbidden_costs_in_every_step_in_which_it_holds(block, world):
    weights = msgspec.structs.replace(block.weights, violation=0.5)
    strict = StageMachine(msgspec.structs.replace(block, forbidden=(("block/distance < 0.1",),), weights=weights))
    plain = StageMachine(block)
    for machine in (strict, plain):
        machine.reset(world.quantities())
    far = strict.step(world.quantities())
    assert far.terms["violation"] == 0
    assert far.total == plain.step(world.quantities()).total
    world.eef = [0.0, 0.0, 0.05]
    near, usual = strict.step(world.quantities()), plain.step(world.quantities())
    assert near.total == pytest.approx(usual.total - 0.5)
    assert "violation" not in usual.terms
