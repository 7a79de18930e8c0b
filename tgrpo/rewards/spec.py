"""Stage files: what a task consists of, as data. They may come from a language model, so nothing in them is executed.

Quantities that conditions and shaping terms may name, besides the environment's own:

* ``distance(A,B)`` and ``distance_xy(A,B)`` [m] between two things: ``eef``, objects, regions, references;
* ``lift(A)`` [m] height gained since the reset;
* ``held(OBJECT)`` 0 or 1, by the conditions in ``held`` of the sub-goal of that object.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec

from tgrpo.settings import Strict

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
NonNegative = Annotated[float, msgspec.Meta(ge=0)]
Name = Annotated[str, msgspec.Meta(min_length=1)]

Conditions: TypeAlias = tuple[tuple[str, ...], ...]
"""Alternatives, each a list of conditions that must all hold; a condition reads ``quantity < number``."""


class Shaping(Strict, frozen=True):
    """One part of the way to a stage, as a number from 0 to 1."""

    quantity: Name
    """What is measured."""
    shape: Literal["near", "amount"] = "near"
    """``near`` falls from 1 with a distance, ``amount`` rises to 1 with a quantity."""
    scale: Positive = 0.1
    """Distance at which ``near`` has fallen to 0.24; quantity at which ``amount`` is complete."""
    weight: Positive = 1.0
    """Relative to the other parts of the same stage."""


class Stage(Strict, frozen=True):
    """One stage of a sub-goal."""

    name: Name
    """For people: approach, grasp, move, place, ..."""
    reached: Annotated[Conditions, msgspec.Meta(min_length=1)]
    """When the stage is complete. Later stages imply earlier ones."""
    kept: Conditions = ()
    """When a stage once complete stays so, besides while ``reached`` holds; looser, against flicker."""
    shaping: tuple[Shaping, ...] = ()
    """The way to this stage, paid while it is the next one."""


class SubGoal(Strict, frozen=True, kw_only=True):
    """What has to happen with one object; the order of sub-goals is free, except for ``after``."""

    object: Name
    """Object, region or fixture to act on."""
    target: str = ""
    """Where it belongs; for people."""
    after: tuple[str, ...] = ()
    """Objects of sub-goals further up that have to be complete first; until then nothing here counts."""
    held: Conditions = ()
    """When the arm is busy with the object; a held object's sub-goal is the active one."""
    stages: Annotated[tuple[Stage, ...], msgspec.Meta(min_length=1)]


class Reference(Strict, frozen=True):
    """A point that moves with an object, such as a rim or a handle."""

    frame: Name
    """Object or region that carries the point."""
    offset: tuple[float, float, float]
    """From the frame's origin along the world's axes [m]."""


class Weights(Strict, frozen=True):
    """How the terms add up. All stages of a file are worth the same, and together 1 a step."""

    shaping: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.9
    """Share of the gap to the next stage that shaping may fill; below 1, so that a stage is always worth reaching."""
    bonus: NonNegative = 1.0
    """Paid once at success, on top of everything else."""
    repay: Share = 1.0
    """Share of the payments missed before the success that is paid back at it; at 1 no failure returns more."""
    horizon: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Control steps a successful episode counts for at least. 0 suits groups that stop together; where they do not,
    use the longest episode."""
    violation: NonNegative = 1.0
    """Taken off in each step in which something forbidden holds."""


class StageFile(Strict, frozen=True, kw_only=True):
    """A task as stages."""

    schema: Literal["tgrpo/stages/1"]
    suite: Name
    """Suite of the task, for example ``libero_object``."""
    task: Name
    """Name of the task within its suite."""
    language: Name
    """Instruction the policy is given."""
    goal: Annotated[tuple[tuple[str, ...], ...], msgspec.Meta(min_length=1)]
    """Conjunction of predicates that makes the task complete: name in lower case, then its arguments."""
    references: dict[str, Reference] = msgspec.field(default_factory=dict)
    """Named points besides objects and regions."""
    subgoals: Annotated[tuple[SubGoal, ...], msgspec.Meta(min_length=1)]
    forbidden: Conditions = ()
    """What must never hold, for example ``distance(eef,plate_1) < 0.02``; for what is learned, it stops no robot."""
    weights: Weights = Weights()
