"""The shipped stage files against the BDDL files of the benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sim import stock
from tgrpo.errors import SettingsError, UnknownNameError
from tgrpo.rewards import StageMachine, available, load_stages, read_stages

SUITES = ("libero_object", "libero_spatial")
TASKS = [(suite, task) for suite in SUITES for task in range(10)]


def bddl(suite: str, task: int) -> dict[str, Any]:
    from libero.libero.envs.bddl_utils import robosuite_parse_problem

    parsed: dict[str, Any] = robosuite_parse_problem(stock.bddl_file(suite, task))
    return parsed


@pytest.mark.parametrize(("suite", "task"), TASKS)
def test_file_matches_the_benchmark(suite: str, task: int) -> None:
    definition = stock.suite_tasks(suite)[task]
    stages = load_stages(suite, definition.name)
    problem = bddl(suite, task)
    objects = {name for names in problem["objects"].values() for name in names}
    places = objects | set(problem["regions"])
    assert (stages.suite, stages.task, stages.language) == (suite, definition.name, definition.language)
    assert [list(predicate) for predicate in stages.goal] == problem["goal_state"]
    assert [[subgoal.object, subgoal.target] for subgoal in stages.subgoals] == [p[1:] for p in problem["goal_state"]]
    assert all(subgoal.object in objects and subgoal.target in places for subgoal in stages.subgoals)
    assert [stage.name for stage in stages.subgoals[0].stages] == ["approach", "grasp", "move", "place"]


@pytest.mark.parametrize(("suite", "task"), TASKS)
def test_file_reads_only_its_object_and_target(suite: str, task: int) -> None:
    [predicate] = bddl(suite, task)["goal_state"]
    kind, thing, place = predicate
    stages = load_stages(suite, stock.suite_tasks(suite)[task].name)
    assert StageMachine(stages).required == {
        "success",
        "eef/position",
        "gripper/opening",
        f"{thing}/position",
        f"{thing}/distance",
        f"{thing}/contact",
        f"{place}/position",
        f"predicate/{kind}({thing},{place})",
    }


def test_every_file_belongs_to_a_task() -> None:
    assert available() == {suite: sorted(task.name for task in stock.suite_tasks(suite)) for suite in SUITES}


def test_unknown_task_lists_those_with_files() -> None:
    with pytest.raises(UnknownNameError, match=r"Did you mean 'pick_up_the_milk_.*pick_up_the_butter_and"):
        load_stages("libero_object", "pick_up_the_mlik_and_place_it_in_the_basket")
    with pytest.raises(UnknownNameError, match="libero_object, libero_spatial"):
        load_stages("libero_90", "anything")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("weights:", "wieghts:", "unknown field `wieghts`"),
        ("shaping: 0.9", "shaping: 1.0", "`float` < 1"),
        ("tgrpo/stages/1", "tgrpo/stages/2", "tgrpo/stages/2"),
        ("/distance < 0.05", "/distance near 0.05", "cannot be read"),
        ("scale: 0.20", "scale: 0", "> 0"),
    ],
)
def test_damaged_file_is_refused_by_name(tmp_path: Path, old: str, new: str, message: str) -> None:
    [source] = Path(stock.__file__).parents[1].glob("tgrpo/rewards/stages/libero_object/*milk*.yaml")
    path = tmp_path / "stages.yaml"
    path.write_text(source.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    with pytest.raises(SettingsError, match=f"stages.yaml: .*{message}"):
        read_stages(path)
