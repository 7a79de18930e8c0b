"""The compiler of stage files, against the 40 files that ship with the package."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import msgspec
import pytest

from tgrpo.errors import SettingsError, UnknownNameError
from tgrpo.rewards import StageMachine, available, load_stages
from tgrpo.rewards.bddl import kind_of, parse
from tgrpo.rewards.compile import compile_bddl, instruction
from tgrpo.rewards.review import offered_quantities, problems

SHIPPED = [(suite, task) for suite, tasks in available().items() for task in tasks]
SMALL = """
(define (problem Some_Scene)  ; a comment
  (:language push it)
  (:regions (inside (:target box_1)) (spot (:target table)))
  (:fixtures table - table  door_1 - door)
  (:objects block_1 block_2 - block  box_1 - box)
  (:init (On block_1 table_spot) INIT)
  (:goal (And GOAL)))
"""


def small(goal, init=""):
    return SMALL.replace("GOAL", goal).replace("INIT", init)


def bddl(suite, task):
    """Text of LIBERO's definition; the package is found without importing it."""
    spec = importlib.util.find_spec("libero")
    if spec is None:
        pytest.skip("LIBERO is not installed")
    folder = Path(next(iter(spec.submodule_search_locations))) / "libero" / "bddl_files" / suite
    return (folder / f"{task}.bddl").read_text(encoding="utf-8")


def test_all_tasks_of_the_protocol_have_stages():
    assert len(SHIPPED) == 40


@pytest.mark.parametrize(("suite", "task"), SHIPPED)
def test_compiled_file_equals_the_shipped_one(suite, task):
    assert compile_bddl(bddl(suite, task), suite, task) == load_stages(suite, task)


@pytest.mark.parametrize(("suite", "task"), SHIPPED)
def test_shipped_file_fits_its_task(suite, task):
    assert problems(load_stages(suite, task), parse(bddl(suite, task))) == []


def test_instruction_is_read_off_the_name():
    assert instruction("LIVING_ROOM_SCENE2_put_both_cans_in_the_basket") == "put both cans in the basket"
    assert instruction("turn_on_the_stove") == "turn on the stove"


def test_two_objects_in_any_order():
    stages = compile_bddl(small("(In block_1 box_1_inside) (In block_2 box_1_inside)"), "s", "put_both_in")
    assert [subgoal.after for subgoal in stages.subgoals] == [(), ()]
    assert StageMachine(stages).stages == 8


def test_what_is_closed_comes_after_what_is_put_inside():
    goal = "(Close box_1_inside) (In block_1 box_1_inside)"
    first, second = compile_bddl(small(goal), "s", "put_it_in_and_close").subgoals
    assert (first.object, second.object, second.after) == ("block_1", "box_1_inside", ("block_1",))


def test_an_opening_that_only_the_instruction_asks_for_comes_first():
    goal = "(In block_1 box_1_inside)"
    opened, placed = compile_bddl(small(goal), "s", "open_the_box_and_put_it_in").subgoals
    assert (opened.object, placed.after) == ("box_1_inside", ("box_1_inside",))
    already = compile_bddl(small(goal, "(Open box_1_inside)"), "s", "put_it_in_the_open_box")
    assert len(already.subgoals) == 1


def test_what_holds_at_the_start_has_no_stages():
    stages = compile_bddl(small("(On block_1 table_spot) (Open door_1)"), "s", "do_it")
    assert [subgoal.object for subgoal in stages.subgoals] == ["door_1"]
    with pytest.raises(SettingsError, match="holds at the start"):
        compile_bddl(small("(On block_1 table_spot)"), "s", "do_it")


@pytest.mark.parametrize(
    ("verb", "last"), [("Open", "pull"), ("Close", "push"), ("Turnon", "turn"), ("Turnoff", "turn")]
)
def test_fixtures_of_unknown_kinds_are_approached_at_their_origin(verb, last):
    (subgoal,) = compile_bddl(small(f"({verb} door_1)"), "s", "do_it").subgoals
    assert [stage.name for stage in subgoal.stages] == ["approach", "contact", last]
    assert subgoal.stages[0].reached == (("distance(eef,door_1) < 0.05",),)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("(define", SettingsError, "balanced"),
        (")", SettingsError, "too many"),
        ("(" * 80, SettingsError, "nested deeper"),
        ("(define (domain d))", SettingsError, "no BDDL problem"),
        (small("(Or (On block_1 box_1))"), SettingsError, "only conjunctions"),
        (small("(On block_1)"), SettingsError, "number of arguments"),
        (small("(Stack block_1 block_2)"), UnknownNameError, "unknown predicate of the goal 'stack'"),
        (small("(On blok_1 box_1)"), UnknownNameError, "Did you mean 'block_"),
    ],
)
def test_wrong_definitions_are_refused(text, error, message):
    with pytest.raises(error, match=message):
        compile_bddl(text, "s", "do_it")


def test_kinds_have_no_numbers():
    assert [kind_of(name) for name in ("plate_1", "flat_stove_1_cook_region")] == ["plate", "flat_stove_cook_region"]


def test_review_names_what_is_wrong():
    problem = parse(small("(On block_1 box_1)"))
    good = compile_bddl(small("(On block_1 box_1)"), "s", "do_it")
    assert problems(good, problem) == []
    assert "block_2/distance" in offered_quantities(problem)
    other = compile_bddl(small("(On block_2 box_1)"), "s", "do_it")
    assert any("copy it" in text for text in problems(other, problem))
    assert any("'predicate/on(block_1,box_1) >= 1'" in text for text in problems(other, problem))
    strange = msgspec.to_builtins(good)
    strange["subgoals"][0]["stages"][0]["reached"] = [["ghost/distance < 1"]]
    found = problems(msgspec.convert(strange, type(good)), problem)
    assert found == ["quantity 'ghost/distance' does not exist in this scene."]
