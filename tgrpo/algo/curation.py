"""Which successes to imitate and which tasks to train on, from the graph of stages that rollouts went through.

Source: TopoCurate (arXiv 2603.01714); idea of: its formulas are not published, all definitions here are ours. Its
nodes are merged turns of a dialogue, ours are stages and events of a rollout (``grasp``, ``drop``, ...), which the
stage machine gives for free.

A path is one rollout as a sequence of node names; ``V(n)`` is the success rate of the rollouts that visited node ``n``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

Edge: TypeAlias = tuple[str, str]


class Path(NamedTuple):
    """One rollout."""

    nodes: tuple[str, ...]
    success: bool


@dataclass(frozen=True)
class Weights:
    """How much each quality of a success counts in :func:`choose`."""

    recovery: float = 1.0
    """For each way back from a node that is no better than the start."""
    efficiency: float = 1.0
    """For being short."""
    diversity: float = 1.0
    """For the share of its edges that no success chosen before has."""


def node_values(paths: Sequence[Path]) -> dict[str, float]:
    """``V(n)`` of each node that was visited."""
    visits: dict[str, list[bool]] = {}
    for path in paths:
        for node in set(path.nodes):
            visits.setdefault(node, []).append(path.success)
    return {node: sum(results) / len(results) for node, results in visits.items()}


def edges(path: Path) -> set[Edge]:
    """Steps from one node to the next."""
    return set(zip(path.nodes[:-1], path.nodes[1:], strict=True))


def recoveries(path: Path, values: dict[str, float]) -> int:
    """Ways out of trouble: steps ``a -> b`` of a success with ``V(a) <= V(start)`` and ``V(b) > V(a)``.

    Leaving the start itself is not a recovery.

    Args:
        path: The rollout; a failure has none.
        values: From :func:`node_values`.
    """
    if not path.success:
        return 0
    start = path.nodes[0]
    steps = zip(path.nodes[:-1], path.nodes[1:], strict=True)
    return sum(a != start and values[a] <= values[start] and values[b] > values[a] for a, b in steps)


def efficiency(path: Path, paths: Sequence[Path]) -> float:
    """Length of the shortest success over the length of this one, in nodes, 0 to 1; 0 for a failure."""
    lengths = [len(other.nodes) for other in paths if other.success]
    return min(lengths) / len(path.nodes) if path.success else 0.0


def error_branch_ratio(paths: Sequence[Path]) -> float:
    """Share of the branch nodes from which one way is worse and another better than the node: where there is to learn.

    Returns:
        0 to 1; 0 without any branch.
    """
    values = node_values(paths)
    following: dict[str, set[str]] = {}
    for path in paths:
        for before, after in edges(path):
            following.setdefault(before, set()).add(after)
    branches = {node: after for node, after in following.items() if len(after) > 1}
    errors = [
        min(values[child] for child in after) < values[node] < max(values[child] for child in after)
        for node, after in branches.items()
    ]
    return sum(errors) / len(errors) if errors else 0.0


def choose(paths: Sequence[Path], budget: int, weights: Weights = Weights()) -> list[int]:
    """Picks successes to imitate, the best first; each changes what counts as new.

    Args:
        paths: All rollouts of a task.
        budget: Successes to pick.
        weights: What to look for.

    Returns:
        Places in ``paths``, at most ``budget``.
    """
    values = node_values(paths)
    left = [place for place, path in enumerate(paths) if path.success]
    covered: set[Edge] = set()
    chosen: list[int] = []

    def score(place: int) -> float:
        path, own = paths[place], edges(paths[place])
        new = len(own - covered) / len(own) if own else 0.0
        return (
            weights.recovery * recoveries(path, values)
            + weights.efficiency * efficiency(path, paths)
            + weights.diversity * new
        )

    while left and len(chosen) < budget:
        best = max(left, key=lambda place: (score(place), -place))
        left.remove(best)
        chosen.append(best)
        covered |= edges(paths[best])
    return chosen
