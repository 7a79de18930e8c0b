"""Stage files from BDDL goals, by rule: the deterministic way to a dense reward for a new task.

* ``in`` and ``on``: approach, grasp, move, place; several objects in any order.
* ``open``, ``close``, ``turnon``, ``turnoff``: approach, contact, and pull, push or turn.
* ``on`` with an instruction to push: approach, contact, push, settle.
* An instruction to open something that the goal only puts an object into: the opening comes first.
* What is closed comes after what is put inside. A conjunct that holds at the start has no stages.

The last stage of every sub-goal is its conjunct of the goal, so together they are the goal.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from tgrpo.errors import SettingsError, UnknownNameError
from tgrpo.rewards import shapes
from tgrpo.rewards.bddl import Predicate, Problem, kind_of, parse
from tgrpo.rewards.spec import Reference, Shaping, Stage, StageFile, SubGoal

PLACING = ("in", "on")
MOVING = {"open": "pull", "close": "push", "turnon": "turn", "turnoff": "turn"}
SLACK = 0.03
"""How much farther than at the grasp or approach the hand may be before that counts as lost [m]."""


def compile_bddl(text: str, suite: str, task: str) -> StageFile:
    """Writes the stage file of a task.

    Args:
        text: BDDL definition.
        suite: Suite of the task.
        task: Name of the task; the instruction is read off it.

    Raises:
        SettingsError: The text is not BDDL, or its goal has no stages.
        UnknownNameError: The goal names something that is not in the scene, or a predicate without rule.
    """
    problem = parse(text)
    language = instruction(task)
    references: dict[str, Reference] = {}
    subgoals = tuple(_subgoals(problem, language, references))
    if not subgoals:
        raise SettingsError(f"{suite}/{task}: every conjunct of the goal holds at the start; there are no stages.")
    return StageFile(
        schema="tgrpo/stages/1",
        suite=suite,
        task=task,
        language=language,
        goal=problem.goal,
        references=references,
        subgoals=subgoals,
    )


def instruction(task: str) -> str:
    """The task in words: its name without the scene, as LIBERO's ``task.language``."""
    return re.sub(r"^[A-Z_]*SCENE\d+_", "", task).replace("_", " ")


def _subgoals(problem: Problem, language: str, references: dict[str, Reference]) -> Iterator[SubGoal]:
    """Sub-goals in the order of the goal, those that close something last."""
    wanted = [predicate for predicate in problem.goal if predicate not in problem.init]
    for predicate in wanted:
        _check(predicate, problem)
    placed = [predicate for predicate in wanted if predicate[0] in PLACING]
    closing = [predicate for predicate in wanted if predicate[0] == "close"]
    for predicate in wanted:
        if predicate in closing:
            continue
        if predicate[0] not in PLACING:
            yield _moved(predicate, problem, references)
        elif language.startswith("push "):
            yield _pushed(predicate)
        else:
            first = _to_open(predicate, problem, language)
            if first is not None:
                yield _moved(first, problem, references, in_goal=False)
            yield _placed(predicate, references, () if first is None else (first[1],))
    for predicate in closing:
        inside = tuple(thing for _, thing, place in placed if place.startswith(predicate[1]))
        yield _moved(predicate, problem, references, inside)


def _check(predicate: Predicate, problem: Problem) -> None:
    if predicate[0] not in (*PLACING, *MOVING):
        raise UnknownNameError("predicate of the goal", predicate[0], (*PLACING, *MOVING))
    if len(predicate) != (3 if predicate[0] in PLACING else 2):
        raise SettingsError(f"goal predicate {predicate} has the wrong number of arguments.")
    for name in predicate[1:]:
        if name not in problem.names:
            raise UnknownNameError("object, fixture or region", name, problem.names)


def _to_open(predicate: Predicate, problem: Problem, language: str) -> Predicate | None:
    """The opening that an instruction asks for before something is put inside."""
    wish = ("open", predicate[-1])
    asked = predicate[0] == "in" and re.search(r"\bopen\b", language) is not None
    return wish if asked and wish not in problem.goal and wish not in problem.init else None


def _placed(predicate: Predicate, references: dict[str, Reference], after: tuple[str, ...]) -> SubGoal:
    _, thing, place = predicate
    grasp = shapes.GRASPS.get(kind_of(thing), shapes.Grasp())
    target = shapes.PLACES.get(kind_of(place), shapes.Place())
    hand = f"{thing}/distance"
    if grasp.point:
        references[grasp.point] = Reference(frame=thing, offset=(0.0, 0.0, grasp.height))
        hand = f"distance(eef,{grasp.point})"
    lost = (grasp.hold if grasp.point else grasp.near) + SLACK
    flat = f"distance_xy({thing},{place})"
    return SubGoal(
        object=thing,
        target=place,
        after=after,
        held=(
            (f"{thing}/contact >= 2", f"gripper/opening < {grasp.opening:.2f}"),
            (f"lift({thing}) > 0.02", f"{thing}/distance < {grasp.hold:.2f}"),
        ),
        stages=(
            _approach(hand, grasp.near),
            Stage(
                name="grasp",
                reached=((f"held({thing}) >= 1",),),
                kept=((f"gripper/opening < {grasp.opening:.2f}", f"{thing}/distance < {lost:.2f}"),),
                shaping=(
                    Shaping(quantity=hand, scale=0.10),
                    Shaping(quantity=f"{thing}/contact", shape="amount", scale=2),
                ),
            ),
            Stage(
                name="move",
                reached=((f"held({thing}) >= 1", f"{flat} < {target.near:.2f}"),),
                kept=((f"{flat} < {target.kept:.2f}",),),
                shaping=(
                    Shaping(quantity=flat, scale=0.25, weight=2.0),
                    Shaping(quantity=f"lift({thing})", shape="amount", scale=target.lift),
                ),
            ),
            Stage(
                name="place",
                reached=(_holds(predicate),),
                shaping=(Shaping(quantity=f"distance({thing},{place})", scale=target.scale),),
            ),
        ),
    )


def _pushed(predicate: Predicate) -> SubGoal:
    _, thing, place = predicate
    near = shapes.GRASPS.get(kind_of(thing), shapes.Grasp(near=0.09)).near
    flat = f"distance_xy({thing},{place})"
    hand = f"{thing}/distance"
    return SubGoal(
        object=thing,
        target=place,
        stages=(
            _approach(hand, near),
            Stage(
                name="contact",
                reached=((f"{thing}/contact >= 1",),),
                kept=((f"{hand} < {near + 0.01:.2f}",),),
                shaping=(Shaping(quantity=hand, scale=0.10),),
            ),
            Stage(name="push", reached=((f"{flat} < 0.10",),), shaping=(Shaping(quantity=flat, scale=0.20),)),
            Stage(name="settle", reached=(_holds(predicate),), shaping=(Shaping(quantity=flat, scale=0.05),)),
        ),
    )


def _moved(
    predicate: Predicate,
    problem: Problem,
    references: dict[str, Reference],
    after: tuple[str, ...] = (),
    *,
    in_goal: bool = True,
) -> SubGoal:
    """A drawer, door or knob; outside the goal it counts as open at nine tenths, because nothing else decides."""
    verb, thing = predicate
    kind = kind_of(thing)
    part = shapes.SCENE_PARTS.get((problem.name, kind, verb)) or shapes.PARTS.get((kind, verb))
    if part is not None:
        references[part.name] = Reference(frame=thing, offset=part.offset)
    hand = f"distance(eef,{thing if part is None else part.name})"
    fraction = f"{thing}/fraction"
    rises = verb in ("open", "turnon")
    way = Shaping(quantity=fraction, shape="amount", scale=1) if rises else Shaping(quantity=fraction, scale=0.5)
    return SubGoal(
        object=thing,
        after=after,
        stages=(
            _approach(hand, 0.05),
            Stage(
                name="contact",
                reached=((f"{fraction} >= 0.05" if rises else f"{fraction} <= 0.95",),),
                shaping=(Shaping(quantity=hand, scale=0.05),),
            ),
            Stage(
                name=MOVING[verb],
                reached=(_holds(predicate),) if in_goal else ((f"{fraction} >= 0.9",),),
                kept=() if in_goal else ((f"{fraction} >= 0.6",),),
                shaping=(way,),
            ),
        ),
    )


def _approach(hand: str, near: float) -> Stage:
    return Stage(
        name="approach",
        reached=((f"{hand} < {near:.2f}",),),
        kept=((f"{hand} < {near + SLACK:.2f}",),),
        shaping=(Shaping(quantity=hand, scale=0.20),),
    )


def _holds(predicate: Predicate) -> tuple[str]:
    return (f"predicate/{predicate[0]}({','.join(predicate[1:])}) >= 1",)
