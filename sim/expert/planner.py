"""From the goal of a task to the skills that reach it.

A task is a list of jobs, one for each conjunct of the goal in an order that works (drawers open and
knobs turn first, doors close last). Each job has variants: which grasp, which way to pull. A
candidate is one variant for each job.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from sim.expert import grasps, microwave, skills
from sim.expert.geometry import tool_down
from sim.expert.motion import CLOSE, OPEN, Command, SkillFailedError, hold
from sim.expert.scene import DRAWER_OPEN, KNOB_ON, Scene
from tgrpo.types import FloatArray

Candidate = tuple[int, ...]
"""Variant of each job."""

PAIRS = ((0, 0), (0, 2), (2, 0), (2, 2), (0, 1), (1, 0), (1, 1), (3, 3), (0, 3), (3, 0), (2, 3), (3, 2))
"""Order in which the variants of two jobs are combined."""

SHARE = 0.75
"""Where two objects share a region: distance of each from its centre, relative to its half size."""


class Job(NamedTuple):
    """One conjunct of the goal."""

    verb: str
    """``open``, ``turnon``, ``put`` or ``close``."""
    thing: str
    """What is moved: an object, a fixture or a drawer region."""
    target: str = ""
    """Where ``put`` puts it: an object or a region."""


def _drawer(scene: Scene, region: str) -> tuple[str, str] | None:
    for level in skills.HANDLES:
        cabinet = region.removesuffix(f"_{level}_region")
        if cabinet != region and scene.has_joint(f"{cabinet}_{level}_level"):
            return cabinet, level
    return None


def jobs(scene: Scene, goal: Sequence[Sequence[str]]) -> list[Job]:
    """The jobs that a goal asks for, in the order in which they are done.

    Args:
        scene: State at the start; what is already open or turned on is left alone.
        goal: Conjuncts such as ``("on", "bowl_1", "plate_1")``.

    Raises:
        SkillFailedError: There is no skill for a conjunct.
    """
    first: list[Job] = []
    middle: list[Job] = []
    last: list[Job] = []
    for verb, *names in goal:
        if verb in ("on", "in"):
            drawer = _drawer(scene, names[1])
            if drawer and scene.joint("{}_{}_level".format(*drawer)) > DRAWER_OPEN:
                first.append(Job("open", names[1]))
            middle.append(Job("put", *names))
        elif verb == "turnon":
            if scene.joint(f"{names[0]}_button") < KNOB_ON:
                first.append(Job("turnon", names[0]))
        elif verb == "open":
            first.append(Job("open", names[0]))
        elif verb == "close":
            last.append(Job("close", names[0]))
        else:
            raise SkillFailedError(f"no skill for the predicate {verb!r}")
    return first + middle + last


def candidates(count: int, limit: int) -> list[Candidate]:
    """Candidates of a task with ``count`` jobs, at most ``limit`` of them, most promising first."""
    if count == 1:
        return [(index,) for index in range(limit)]
    return [(*pair, *([0] * (count - 2))) for pair in PAIRS[:limit]]


def _aside(scene: Scene, todo: Sequence[Job], job: Job) -> FloatArray:
    """Offset ``(3,)`` [m] of the place where a job puts its object, so that two fit on one region."""
    rivals = [other for other in todo if other.verb == "put" and other.target == job.target]
    offset = np.zeros(3)
    if len(rivals) == 2 and scene.is_region(job.target) and "contain" not in job.target:
        offset[0] = SHARE * scene.region_size(job.target)[0] * (1.0 if rivals[0] == job else -1.0)
    return offset


def _put(scene: Scene, thing: str, target: str, variant: int, aside: FloatArray) -> Iterator[Command]:
    if "caddy" in target:
        options = grasps.standing_book(scene, thing)
        yield from skills.shelve(scene, thing, options[variant % len(options)], target, variant)
        return
    if microwave.is_microwave(scene, scene.owner(target)):
        yield from microwave.insert(scene, thing, target, variant)
        return
    options = grasps.grasps(scene, thing)
    grasp = options[variant % len(options)]
    yield from skills.pick(scene, thing, grasp)
    centre, height = spot(scene, target)
    yield from skills.place(scene, thing, centre + aside, tool_down(grasp.yaw), height=height)


def spot(scene: Scene, target: str) -> tuple[FloatArray, float]:
    """Where the object's lowest point goes ``(3,)`` and the least height to travel at [m]."""
    place = scene.position(target)
    owner = scene.owner(target)
    if not scene.is_region(target):
        flat = "plate" in target
        place[2] = (scene.bottom(target) if flat else scene.top(target)) + 0.012
        return place, -np.inf
    if owner is not None and "basket" in owner:
        rim = scene.top(owner)
        place[2] = rim - 0.03
        return place, rim + 0.12
    if _drawer(scene, target):
        return place, float(place[2]) + 0.15
    place[2] += 0.012
    return place, float(place[2]) + 0.10 if target.endswith("top_side") else -np.inf


def script(scene: Scene, todo: Sequence[Job], candidate: Candidate) -> Iterator[Command]:
    """All motions of one candidate, then a short wait.

    Args:
        scene: Present state.
        todo: Jobs from :func:`jobs`.
        candidate: Variant of each job.

    Raises:
        SkillFailedError: A skill did not reach its purpose.
    """
    for job, variant in zip(todo, candidate, strict=True):
        verb, thing, target = job
        drawer = _drawer(scene, thing)
        if verb == "put":
            yield from _put(scene, thing, target, variant, _aside(scene, todo, job))
        elif verb == "turnon":
            yield from skills.turn_on(scene, thing, variant)
        elif verb == "close" and microwave.is_microwave(scene, thing):
            yield from microwave.shut(scene, thing)
        elif drawer is None:
            raise SkillFailedError(f"no skill to {verb} {thing}")
        elif verb == "open":
            yield from skills.open_drawer(scene, *drawer, variant)
        else:
            yield from skills.close_drawer(scene, *drawer, variant)
    closed = todo[-1].verb == "close"
    yield from hold(scene, None, CLOSE if closed else OPEN, 15)
