"""A search tree over decisions: siblings of a node are a group.

Source: PROPA (arXiv 2511.10279), Monte-Carlo tree search whose values are process rewards; a reimplementation of the
search from its description. Its published loop gives unvisited children priority, as here. On the credit chain the tree
costs about three times the simulator's steps of a flat group and estimates advantages no better.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from tgrpo.algo.advantages import standardised
from tgrpo.algo.collectors import Collection, Fan, Mark
from tgrpo.types import RolloutGroup, Trajectory

WIDTH = 4
"""Alternatives that :func:`collect` samples at a node."""

State = TypeVar("State")


@dataclass(eq=False)
class Node(Generic[State]):
    """One state of the tree, with the statistics of the rollouts through it."""

    state: State
    parent: Node[State] | None = None
    children: list[Node[State]] = field(default_factory=list)
    visits: int = 0
    total: float = 0.0

    @property
    def value(self) -> float:
        """Mean result of the rollouts through this node; 0 before the first."""
        return self.total / self.visits if self.visits else 0.0


def uct(value: float, visits: int, parent_visits: int, exploration: float = 1.0) -> float:
    """Upper confidence bound of a child: ``Q + C sqrt(ln N_parent / N)``; infinite before its first visit.

    The published code has ``sqrt(2 ln N_parent / N)``, which is ``exploration = sqrt(2)``.
    """
    return math.inf if visits == 0 else value + exploration * math.sqrt(math.log(parent_visits) / visits)


def select(root: Node[State], exploration: float = 1.0) -> Node[State]:
    """Follows the largest bounds down to a node without children."""
    node = root
    while node.children:
        total = max(node.visits, 1)
        node = max(node.children, key=lambda child: uct(child.value, child.visits, total, exploration))
    return node


def back_up(node: Node[State], result: float) -> None:
    """Counts one rollout's result at a node and all above it."""
    above: Node[State] | None = node
    while above is not None:
        above.visits += 1
        above.total += result
        above = above.parent


def grow(
    root: Node[State],
    expand: Callable[[State], list[State]],
    simulate: Callable[[State], float],
    iterations: int,
    exploration: float = 1.0,
) -> None:
    """Searches: select, expand, play the first child to the end, count the result.

    Args:
        root: Where to start; grows in place.
        expand: Successors of a state, sampled from the policy; empty at the end of an episode.
        simulate: Plays from a state to the end and returns the result, 0 to 1.
        iterations: Rollouts to play.
        exploration: Weight of the uncertainty.
    """
    for _ in range(iterations):
        leaf = select(root, exploration)
        leaf = open_up(leaf, expand(leaf.state))
        back_up(leaf, simulate(leaf.state))


def open_up(leaf: Node[State], states: Sequence[State]) -> Node[State]:
    """Gives a node children; returns the first, or the node itself at the end of an episode."""
    leaf.children = [Node(state, leaf) for state in states]
    return leaf.children[0] if leaf.children else leaf


def sibling_advantages(values: list[float]) -> Tensor:
    """Compares the values of a node's children with each other ``(W,)``."""
    row = torch.tensor(values, dtype=torch.float64)
    return standardised(row, torch.ones_like(row, dtype=torch.bool))


def best_path(root: Node[State]) -> list[State]:
    """States along the most valuable visited children: what imitation on successes starts from."""
    path, node = [root.state], root
    while any(child.visits for child in node.children):
        node = node.children[int(np.argmax([child.value if child.visits else -math.inf for child in node.children]))]
        path.append(node.state)
    return path


@dataclass(frozen=True, eq=False)
class Taken:
    """A decision of the policy, as a state of the tree."""

    mark: Mark | None = None
    """Where the simulator stood after it; nothing at the root."""
    rollout: Trajectory | None = None
    """The decision alone; nothing at the root."""
    siblings: RolloutGroup | None = None
    """The group that it was sampled in."""

    @property
    def over(self) -> bool:
        """Whether the episode ended with it."""
        return self.rollout is not None and (self.rollout.success or not len(self.rollout.executed))


def result(rollout: Trajectory) -> float:
    """1 for a success; ``s / (s + 1)`` for a failure that got to stage ``s``."""
    highest = float(rollout.stages.max()) if len(rollout.stages) else 0.0
    return 1.0 if rollout.success else highest / (highest + 1.0)


def collect(size: int) -> Collection:
    """A search of ``size`` rollouts; the visited alternatives at each node are a group of single decisions.

    A decision is paid with the mean result of the rollouts through it, at its last control step. Unlike in
    :func:`grow`, a node is played to the end before it gets children: every alternative costs control steps here.
    """
    root = Node(Taken())
    (line,) = yield [Fan(1)]
    back_up(root, result(line.group.trajectories[0]))
    for _ in range(size - 1):
        leaf = select(root)
        if leaf.visits and not leaf.state.over:
            (sampled,) = yield [Fan(WIDTH, leaf.state.mark, decisions=1, marks=True)]
            steps = zip(sampled.group.trajectories, sampled.marks, strict=True)
            leaf = open_up(leaf, [Taken(marks[-1], rollout, sampled.group) for rollout, marks in steps])
        reached = leaf.state.rollout
        if not leaf.state.over:
            (played,) = yield [Fan(1, leaf.state.mark)]
            reached = played.group.trajectories[0]
        back_up(leaf, result(reached) if reached is not None else 0.0)
    return list(_groups(root))


def _groups(node: Node[Taken]) -> Iterator[RolloutGroup]:
    """The siblings below a node that were visited, where they are more than one."""
    seen = [child for child in node.children if child.visits]
    if len(seen) > 1 and seen[0].state.siblings is not None:
        paid = [_paid(child.state.rollout, child.value) for child in seen if child.state.rollout is not None]
        yield replace(seen[0].state.siblings, trajectories=paid)
    for child in seen:
        yield from _groups(child)


def _paid(rollout: Trajectory, value: float) -> Trajectory:
    rewards = np.zeros(len(rollout.rewards))
    rewards[-1:] = value
    return replace(rollout, rewards=rewards, terms={"value": rewards})
