"""Turns the quantities and conditions that a stage file names into functions, once, so that a control step is cheap."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from tgrpo.errors import SettingsError, UnknownNameError
from tgrpo.rewards.spec import Conditions, Reference, SubGoal
from tgrpo.types import Quantities

Measure: TypeAlias = Callable[[Quantities], float]
Test: TypeAlias = Callable[[Quantities], bool]
Point: TypeAlias = Callable[[Quantities], list[float]]

COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
DERIVED = ("distance", "distance_xy", "lift", "held")
_CONDITION = re.compile(r"^\s*(\S+)\s+(<=|>=|<|>)\s+([-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?)\s*$")
_CALL = re.compile(r"^([a-z_]+)\((.*)\)$")


@dataclass
class Compiler:
    """Compiles the expressions of one stage file and notes which quantities they read."""

    references: Mapping[str, Reference]
    subgoals: tuple[SubGoal, ...]
    required: set[str] = field(default_factory=set)
    """Names of the environment's quantities that are read."""
    heights: dict[str, float] = field(default_factory=dict)
    """Heights that lifts are measured from [m]; part of an episode's state."""
    _lifted: dict[str, Point] = field(default_factory=dict)

    def reset(self, quantities: Quantities) -> None:
        """Notes the heights that lifts are measured from.

        Raises:
            UnknownNameError: A quantity that the stage file needs is not there.
        """
        for name in sorted(self.required):
            if name not in quantities:
                raise UnknownNameError("quantity", name, sorted(quantities))
        self.heights = {thing: point(quantities)[2] for thing, point in self._lifted.items()}

    def test(self, conditions: Conditions) -> Test:
        """Compiles alternatives of conditions; without any the test is always false.

        Raises:
            SettingsError: A condition cannot be read.
        """
        alternatives = [tuple(self._condition(text) for text in group) for group in conditions]
        if not all(alternatives):
            raise SettingsError("an alternative without conditions is always true. Remove it or add a condition.")
        return lambda quantities: any(all(check(quantities) for check in group) for group in alternatives)

    def measure(self, text: str) -> Measure:
        """Compiles the name of a quantity, the environment's own or a derived one.

        Raises:
            SettingsError: A derived quantity is unknown or has the wrong arguments.
        """
        call = _CALL.match(text)
        if call is None:
            return self._scalar(text)
        name, arguments = call[1], [part.strip() for part in call[2].split(",")]
        if name not in DERIVED:
            raise UnknownNameError("derived quantity", name, DERIVED)
        count = 2 if name.startswith("distance") else 1
        if len(arguments) != count or not all(arguments):
            raise SettingsError(f"{text!r}: {name} takes {count} name(s), separated by commas.")
        if name == "held":
            return self._held(arguments[0])
        if name == "lift":
            return self._lift(arguments[0])
        return self._distance(arguments[0], arguments[1], 2 if name == "distance_xy" else 3)

    def _condition(self, text: str) -> Test:
        match = _CONDITION.match(text)
        if match is None:
            raise SettingsError(f"condition {text!r} cannot be read; write 'quantity < number', with one of < <= > >=.")
        measure, compare, bound = self.measure(match[1]), COMPARISONS[match[2]], float(match[3])
        return lambda quantities: compare(measure(quantities), bound)

    def _scalar(self, name: str) -> Measure:
        self.required.add(name)
        return lambda quantities: float(quantities[name])

    def _point(self, thing: str) -> Point:
        reference = self.references.get(thing)
        name = f"{reference.frame if reference else thing}/position"
        self.required.add(name)
        if reference is None:
            return lambda quantities: quantities[name].tolist()
        dx, dy, dz = reference.offset

        def moved(quantities: Quantities) -> list[float]:
            x, y, z = quantities[name].tolist()
            return [x + dx, y + dy, z + dz]

        return moved

    def _distance(self, first: str, second: str, dims: int) -> Measure:
        a, b = self._point(first), self._point(second)
        return lambda quantities: math.dist(a(quantities)[:dims], b(quantities)[:dims])

    def _lift(self, thing: str) -> Measure:
        point = self._lifted[thing] = self._point(thing)
        return lambda quantities: point(quantities)[2] - self.heights[thing]

    def _held(self, thing: str) -> Measure:
        choices = {subgoal.object: subgoal.held for subgoal in self.subgoals if subgoal.held}
        if thing not in choices:
            raise UnknownNameError("object of a sub-goal with held conditions", thing, choices)
        if any(text.lstrip().startswith("held(") for group in choices[thing] for text in group):
            raise SettingsError(f"the held conditions of {thing!r} refer to held(...) themselves.")
        test = self.test(choices[thing])
        return lambda quantities: float(test(quantities))
