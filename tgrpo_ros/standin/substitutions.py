"""Values that are known only while the launch runs."""

from __future__ import annotations

import math
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tgrpo_ros.standin.context import Context


class Substitution(ABC):
    """A text that is looked up or computed when it is needed."""

    @abstractmethod
    def perform(self, context: Context) -> str:
        """The text."""


SomeText = Any
"""A text, a substitution, or a list of either that is joined."""


def as_list(value: Any) -> list[Any]:
    """A list of nothing, of one thing, or of the things in a list."""
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def text(context: Context, value: SomeText) -> str:
    """Performs every substitution in a value and joins the results."""
    return "".join(part.perform(context) if isinstance(part, Substitution) else str(part) for part in as_list(value))


class TextSubstitution(Substitution):
    """A fixed text."""

    def __init__(self, *, text: str) -> None:
        self.text = text

    def perform(self, context: Context) -> str:
        """The fixed text."""
        return self.text


class LaunchConfiguration(Substitution):
    """The value of a launch argument."""

    def __init__(self, variable_name: SomeText, *, default: SomeText = None) -> None:
        self.variable_name, self.default = variable_name, default

    def perform(self, context: Context) -> str:
        """The value.

        Raises:
            RuntimeError: There is no such argument and no default.
        """
        name = text(context, self.variable_name)
        if name in context.launch_configurations:
            return context.launch_configurations[name]
        if self.default is None:
            raise RuntimeError(f"launch configuration '{name}' does not exist")
        return text(context, self.default)


class PathJoinSubstitution(Substitution):
    """Joins parts of a path."""

    def __init__(self, substitutions: Iterable[SomeText]) -> None:
        self.parts = list(substitutions)

    def perform(self, context: Context) -> str:
        """The path."""
        return str(os.path.join(*[text(context, part) for part in self.parts]))  # noqa: PTH118  (as launch joins)


class PythonExpression(Substitution):
    """The value of a Python expression in which ``math`` is known."""

    def __init__(self, expression: SomeText) -> None:
        self.expression = expression

    def perform(self, context: Context) -> str:
        """The value as a text."""
        names = {"math": math, **vars(math)}
        return str(eval(text(context, self.expression), {}, names))  # a launch file is code already


class EnvironmentVariable(Substitution):
    """The value of an environment variable."""

    def __init__(self, name: SomeText, *, default_value: SomeText = None) -> None:
        self.name, self.default = name, default_value

    def perform(self, context: Context) -> str:
        """The value.

        Raises:
            RuntimeError: It is not set and there is no default.
        """
        name = text(context, self.name)
        value = context.environment.get(name)
        if value is not None:
            return value
        if self.default is None:
            raise RuntimeError(f"environment variable '{name}' does not exist")
        return text(context, self.default)


class FindPackageShare(Substitution):
    """The share folder of a package."""

    def __init__(self, package: SomeText) -> None:
        self.package = package

    def perform(self, context: Context) -> str:
        """The folder."""
        package = text(context, self.package)
        return str(find_prefix(package, context.environment) / "share" / package)


def prefixes(environment: Mapping[str, str]) -> list[str]:
    """Folders that packages are searched in: ``AMENT_PREFIX_PATH``, then this Python's own prefix."""
    listed = [prefix for prefix in environment.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix]
    return listed if sys.prefix in listed else [*listed, sys.prefix]


def find_prefix(package: str, environment: Mapping[str, str]) -> Path:
    """The folder that a package is installed in.

    Raises:
        LookupError: It is in none of :func:`prefixes`.
    """
    searched = prefixes(environment)
    for prefix in searched:
        if (Path(prefix) / "share/ament_index/resource_index/packages" / package).is_file():
            return Path(prefix)
    raise LookupError(f"package '{package}' not found, searching: {searched}")
