"""Which rollouts a group consists of: plans that are functions of nothing but what has been played so far.

A collector is a module with ``collect(size)``: a generator that yields which rollouts it wants next, receives what
came of them, and returns the groups to learn from. :mod:`sim.collecting` plays what the collectors of all groups of an
iteration want together, by saving and restoring snapshots of the simulator.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from tgrpo.types import RolloutGroup

Mark: TypeAlias = Any
"""A state that rollouts can start from; only who plays them looks inside."""


class Fan(NamedTuple):
    """Rollouts that are wanted, all from one state."""

    rollouts: int
    start: Mark | None = None
    """Where they start; the initial state if not given."""
    decisions: int | None = None
    """Decisions of each; to the end of the episode if not given."""
    marks: bool = False
    """Whether the states along each are needed."""


@dataclass(frozen=True, eq=False)
class Played:
    """What came of a fan."""

    group: RolloutGroup
    marks: list[list[Mark]]
    """For each rollout the states before its decisions, and the one at its end, if they were needed."""


Collection: TypeAlias = Generator[list[Fan], list[Played], list[RolloutGroup]]
"""Yields fans, receives what came of each, returns the groups to learn from. The first of the first fans starts at the
initial state and runs to the end: its success counts as the success of the initial state."""
