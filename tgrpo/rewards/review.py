"""Checks of a stage file against its task, without a simulator: names, the goal, and what completes it."""

from __future__ import annotations

from tgrpo.errors import SettingsError
from tgrpo.rewards.bddl import Problem
from tgrpo.rewards.machine import StageMachine
from tgrpo.rewards.spec import StageFile

MAX_STAGES = 16
"""More stages than any task of LIBERO has."""
_HAND = ("eef/position", "eef/quaternion", "gripper/opening", "success")
_OF_THINGS = ("position", "quaternion", "distance", "contact", "fraction")


def problems(stages: StageFile, problem: Problem) -> list[str]:
    """Everything that is wrong with a stage file, in sentences for whoever wrote it; empty if nothing is.

    Args:
        stages: The file; its schema has been checked.
        problem: The task's BDDL.
    """
    found = []
    if stages.goal != problem.goal:
        found.append(f"goal is {stages.goal}, but the task's goal is {problem.goal}; copy it.")
    try:
        required = StageMachine(stages).required
    except SettingsError as error:
        return [*found, str(error)]
    offered = offered_quantities(problem)
    found += [f"quantity {name!r} does not exist in this scene." for name in sorted(required - offered)]
    open_goal = [conjunct for conjunct in problem.goal if conjunct not in problem.init]
    finals = [stage for subgoal in stages.subgoals for stage in subgoal.stages[-1:]]
    for conjunct in open_goal:
        condition = f"predicate/{conjunct[0]}({','.join(conjunct[1:])}) >= 1"
        if not any(stage.reached == ((condition,),) for stage in finals):
            found.append(f"no sub-goal ends with a stage that is reached at {condition!r} and nothing else.")
    count = sum(len(subgoal.stages) for subgoal in stages.subgoals)
    if count > MAX_STAGES:
        found.append(f"there are {count} stages; use at most {MAX_STAGES}.")
    return found


def offered_quantities(problem: Problem) -> frozenset[str]:
    """Names of all quantities that a task's simulator can offer."""
    things = {f"{name}/{what}" for name in problem.names for what in _OF_THINGS}
    goal = {f"predicate/{conjunct[0]}({','.join(conjunct[1:])})" for conjunct in problem.goal}
    return frozenset({*_HAND, *things, *goal})
