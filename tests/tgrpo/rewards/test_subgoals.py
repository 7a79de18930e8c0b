"""Several sub-goals in any order, articulated things, and stage files that cannot be used."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest

from tgrpo.errors import SettingsError, UnknownNameError
from tgrpo.rewards import StageFile, StageMachine


def started(stages: StageFile, world: Any) -> StageMachine:
    machine = StageMachine(stages)
    machine.reset(world.quantities())
    return machine


@pytest.mark.parametrize(("first", "second"), [("block", "can"), ("can", "block")])
def test_two_objects_in_either_order(two: StageFile, two_world: Any, first: str, second: str) -> None:
    machine = started(two, two_world)
    stages = []
    for name in (first, second):
        two_world.carry(name, [*two_world.things[name][:2], 0.05])
        stages.append(machine.step(two_world.quantities()).stage)
        two_world.carry(name, [0.45, 0.0, 0.1])
        stages.append(machine.step(two_world.quantities()).stage)
        two_world.contact[name] = 0
        two_world.placed[f"in({name},bin)"] = True
        stages.append(machine.step(two_world.quantities()).stage)
    assert stages == [2, 3, 4, 6, 7, 8]


def test_nearest_unfinished_object_is_the_active_one(two: StageFile, two_world: Any) -> None:
    """8 stages, so a gap of 0.125: the hand is 0.1 m from the can and farther from the block."""
    machine = started(two, two_world)
    two_world.eef = [0.0, 0.4, 0.1]
    assert machine.step(two_world.quantities()).total == pytest.approx(0.9 * 0.125 * (1 - math.tanh(1)))


def test_held_object_is_active_even_if_the_other_is_nearer(two: StageFile, two_world: Any) -> None:
    machine = started(two, two_world)
    two_world.carry("can", [0.0, 0.0, 0.06])
    two_world.things["can"] = [0.0, 0.0, 0.12]
    step = machine.step(two_world.quantities())
    assert step.stage == 2
    assert step.total == pytest.approx(0.125 * (2 + 0.9 * 1.0))


def test_placed_object_that_is_moved_away_costs(two: StageFile, two_world: Any) -> None:
    machine = started(two, two_world)
    two_world.placed["in(block,bin)"] = True
    placed = machine.step(two_world.quantities())
    two_world.placed["in(block,bin)"] = False
    assert machine.step(two_world.quantities()).total < placed.total


def test_drawer_is_data_too(world: Any) -> None:
    """Open: approach a handle that is a reference point, then pull; no code of its own."""
    pull = {
        "name": "pull",
        "reached": [["drawer/fraction >= 0.9"]],
        "shaping": [{"quantity": "drawer/fraction", "shape": "amount", "scale": 1.0}],
    }
    approach = {
        "name": "approach",
        "reached": [["distance(eef,handle) < 0.05"]],
        "shaping": [{"quantity": "distance(eef,handle)", "scale": 0.2}],
    }
    data = {
        "schema": "tgrpo/stages/1",
        "suite": "test",
        "task": "open",
        "language": "open the drawer",
        "goal": [["open", "drawer"]],
        "references": {"handle": {"frame": "drawer", "offset": [0.0, 0.2, 0.1]}},
        "subgoals": [{"object": "drawer", "stages": [approach, pull]}],
    }
    machine = StageMachine(msgspec.convert(data, StageFile))
    world.things["drawer"] = [1.0, 0.0, 0.0]

    def step(eef: list[float], fraction: float) -> float:
        world.eef = eef
        return machine.step({**world.quantities(), "drawer/fraction": fraction}).total

    machine.reset({**world.quantities(), "drawer/fraction": 0.0})
    assert step([1.0, 0.2, 0.3], 0.0) == pytest.approx(0.5 * 0.9 * (1 - math.tanh(1)))
    assert step([1.0, 0.2, 0.1], 0.4) == pytest.approx(0.5 * (1 + 0.9 * 0.4))


def test_subgoal_waits_for_earlier_ones(two: StageFile, two_world: Any) -> None:
    """The can must wait: holding it is worth nothing before the block is placed, and what counts is the block."""
    block, can = two.subgoals
    waiting = msgspec.structs.replace(two, subgoals=(block, msgspec.structs.replace(can, after=("block",))))
    machine = started(waiting, two_world)
    two_world.carry("can", [0.0, 0.0, 0.1])
    step = machine.step(two_world.quantities())
    assert step.stage == 0
    assert step.total == pytest.approx(0.9 * 0.125 * (1 - math.tanh(1)))
    two_world.placed["in(block,bin)"] = True
    assert machine.step(two_world.quantities()).stage == 4 + 2


def test_subgoal_waits_only_for_earlier_ones(two: StageFile) -> None:
    block, can = two.subgoals
    circular = msgspec.structs.replace(two, subgoals=(msgspec.structs.replace(block, after=("can",)), can))
    with pytest.raises(SettingsError, match="unknown earlier sub-goal 'can'"):
        StageMachine(circular)


def test_missing_quantity_names_the_available_ones(block: StageFile, world: Any) -> None:
    quantities = world.quantities()
    del quantities["block/contact"]
    with pytest.raises(UnknownNameError, match=r"block/contact.*Valid: bin/position, block/distance"):
        StageMachine(block).reset(quantities)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("block/distance < 0.05", "block/distance == 0.05", "cannot be read; write 'quantity < number'"),
        ("block/distance < 0.05", "block/distance < near", "cannot be read"),
        ("block/distance < 0.05", "__import__('os') > 1", "cannot be read|derived quantity"),
        ("lift(block) > 0.02", "lfit(block) > 0.02", "unknown derived quantity 'lfit'. Did you mean 'lift'"),
        ("distance_xy(block,bin) < 0.1", "distance_xy(block) < 0.1", "takes 2 name"),
        ("held(block) >= 1", "held(bin) >= 1", "object of a sub-goal with held conditions 'bin'"),
        ("block/contact >= 2", "held(block) >= 1", "refer to held"),
    ],
)
def test_unreadable_conditions_are_refused(block: StageFile, old: str, new: str, message: str) -> None:
    text = msgspec.json.encode(block).decode()
    assert old in text
    broken = msgspec.json.decode(text.replace(old, new), type=StageFile)
    with pytest.raises(SettingsError, match=message):
        StageMachine(broken)
