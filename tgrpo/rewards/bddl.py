"""Reading BDDL task definitions: nested lists of words, of which a few sections matter to rewards."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from tgrpo.errors import SettingsError

Predicate: TypeAlias = tuple[str, ...]
"""Name in lower case, then its arguments."""
MAX_DEPTH = 64
"""Deepest nesting that is read."""


@dataclass(frozen=True)
class Problem:
    """One task definition."""

    name: str
    """Kind of scene in lower case, for example ``libero_kitchen_tabletop_manipulation``."""
    language: str
    """The instruction as written there; LIBERO's protocol uses the task's name instead."""
    objects: dict[str, str]
    """Movable objects and their kinds."""
    fixtures: dict[str, str]
    """Fixtures and their kinds."""
    regions: tuple[str, ...]
    """Regions as quantities name them, ``TARGET_REGION``."""
    goal: tuple[Predicate, ...]
    """Conjunction that completes the task."""
    init: tuple[Predicate, ...]
    """What holds at the start."""

    @property
    def names(self) -> list[str]:
        """Everything that a stage file may name."""
        return [*self.objects, *self.fixtures, *self.regions]


def parse(text: str) -> Problem:
    """Reads a task definition.

    Raises:
        SettingsError: The text is not BDDL, or has no goal, or one that is not a conjunction of predicates.
    """
    root = _nested(text)
    sections = {str(part[0]).lower(): part[1:] for part in root if isinstance(part, list) and part}
    if "problem" not in sections or ":goal" not in sections:
        raise SettingsError("this is no BDDL problem: (define (problem ...) ... (:goal ...)) is missing.")
    goal = sections[":goal"][0] if sections[":goal"] else []
    conjuncts = goal[1:] if goal and str(goal[0]).lower() == "and" else [goal]
    regions = [
        f"{_target(region)}_{region[0]}"
        for region in sections.get(":regions", [])
        if isinstance(region, list) and region
    ]
    return Problem(
        name=str(sections["problem"][0]).lower(),
        language=" ".join(map(str, sections.get(":language", []))),
        objects=dict(_typed(sections.get(":objects", []))),
        fixtures=dict(_typed(sections.get(":fixtures", []))),
        regions=tuple(regions),
        goal=tuple(_predicate(part) for part in conjuncts),
        init=tuple(_predicate(part) for part in sections.get(":init", [])),
    )


def kind_of(name: str) -> str:
    """Kind of an object, fixture or region: its name without the instance number."""
    return re.sub(r"_\d+(?=_|$)", "", name)


def _nested(text: str) -> list[Any]:
    """The outermost list of an s-expression."""
    stack: list[list[Any]] = [[]]
    for token in re.findall(r"[()]|[^\s()]+", re.sub(r";.*", "", text)):
        if token == "(":
            stack.append([])
            if len(stack) > MAX_DEPTH:
                raise SettingsError(f"BDDL is nested deeper than {MAX_DEPTH} lists.")
        elif token == ")":
            if len(stack) == 1:
                raise SettingsError("BDDL has a closing parenthesis too many.")
            done = stack.pop()
            stack[-1].append(done)
        else:
            stack[-1].append(token)
    if len(stack) != 1 or len(stack[0]) != 1 or not isinstance(stack[0][0], list):
        raise SettingsError("BDDL has to be one list in balanced parentheses.")
    return list(stack[0][0])


def _typed(words: Iterable[Any]) -> Iterator[tuple[str, str]]:
    """Names and kinds of ``a_1 a_2 - a``."""
    names: list[str] = []
    words = iter(words)
    for word in words:
        if word == "-":
            kind = str(next(words, ""))
            yield from ((name, kind) for name in names)
            names = []
        else:
            names.append(str(word))


def _target(region: list[Any]) -> str:
    found = [part[1] for part in region if isinstance(part, list) and len(part) > 1 and part[0] == ":target"]
    return str(found[0]) if found else ""


def _predicate(part: Any) -> Predicate:
    if not isinstance(part, list) or not part or not all(isinstance(word, str) for word in part):
        raise SettingsError(f"{part!r} is no predicate; write (Name argument ...), only conjunctions can be staged.")
    return (part[0].lower(), *part[1:])
