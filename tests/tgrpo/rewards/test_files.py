"""The shipped stage files against the BDDL files of the benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sim import stock
from tgrpo.errors import SettingsError, UnknownNameError
from tgrpo.rewards import StageMachine, available, load_stages, read_stages

SUITES = ("libero_object", "libero_spatial", "libero_goal", "libero_10")
TASKS = [(suite, task) for suite in SUITES for task in range(10)]
STAGES = {
    ("libero_goal", 0): 3,
    ("libero_goal", 3): 7,
    ("libero_goal", 7): 3,
    ("libero_10", 2): 7,
    ("libero_10", 3): 7,
    ("libero_10", 9): 7,
    **{("libero_10", task): 8 for task in (0, 1, 4, 6, 7, 8)},
}
"""Tasks that are more than approach, grasp, move and place of one object."""


def bddl(suite: str, task: int) -> dict[str, Any]:
    from libero.libero.envs.bddl_utils import robosuite_parse_problem

    parsed: dict[str, Any] = robosuite_parse_problem(stock.bddl_file(suite, task))
    return parsed


@pytest.mark.parametrize(("suite", "task"), TASKS)
def test_file_matches_the_benchmark(suite: str, task: int) -> None:
    definition = stock.suite_tasks(suite)[task]
    stages = load_stages(suite, definition.name)
    problem = bddl(suite, task)
    assert (stages.suite, stages.task, stages.language) == (suite, definition.name, definition.language)
    assert [list(predicate) for predicate in stages.goal] == problem["goal_state"]
    assert sum(len(subgoal.stages) for subgoal in stages.subgoals) == STAGES.get((suite, task), 4)
    things = {name for kind in ("objects", "fixtures") for names in problem[kind].values() for name in names}
    places = things | set(problem["regions"])
    assert all({subgoal.object, subgoal.target or subgoal.object} <= places for subgoal in stages.subgoals)


@pytest.mark.parametrize(("suite", "task"), TASKS)
def test_every_conjunct_of_the_goal_ends_a_subgoal(suite: str, task: int) -> None:
    """Except that the stove of the two moka pots is on from the start."""
    stages = load_stages(suite, stock.suite_tasks(suite)[task].name)
    ends = {condition for subgoal in stages.subgoals for [condition] in subgoal.stages[-1].reached}
    goal = {f"predicate/{kind}({','.join(names)}) >= 1" for kind, *names in stages.goal}
    dropped = {"predicate/turnon(flat_stove_1) >= 1"} if (suite, task) == ("libero_10", 8) else set()
    added = {"wooden_cabinet_1_top_region/fraction >= 0.9"} if (suite, task) == ("libero_goal", 3) else set()
    assert ends == (goal - dropped) | added


@pytest.mark.parametrize(("suite", "task"), TASKS[:20])
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
    with pytest.raises(UnknownNameError, match="libero_10, libero_goal, libero_object, libero_spatial"):
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
