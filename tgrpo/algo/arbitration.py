"""Who moves the arm: a planner in free space, the policy near things, a person whenever they want to.

Source: PLANRL (arXiv 2408.04054); idea of: its learned mode network is replaced by a distance with hysteresis. The
same chain of sources serves corrections by a person. Steps that the policy did not choose are masked out of its loss;
what they earned still counts for the rollout.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tgrpo.types import ActionChunk, Observation

Source: TypeAlias = Literal["human", "safety", "planner", "lookahead", "policy"]
ORDER: tuple[Source, ...] = ("human", "safety", "planner", "lookahead", "policy")
"""Who is asked first."""
ENTER, LEAVE = 0.08, 0.12
"""Distance to the target at which the policy takes over, and at which it hands back [m]."""


class ActionSource(Protocol):
    """Something that may want to act."""

    source: Source

    def propose(self, observation: Observation) -> ActionChunk | None:
        """A chunk of actions, or nothing if it has no say now."""
        ...


@dataclass
class Hysteresis:
    """Whether the arm is near its target, without flicker at the border.

    Attributes:
        near: The present answer.
    """

    enter: float = ENTER
    """[m]"""
    leave: float = LEAVE
    """[m]"""
    near: bool = False

    def update(self, distance: float) -> bool:
        """Takes a new distance [m] and returns whether the policy should act."""
        self.near = distance < (self.leave if self.near else self.enter)
        return self.near


@dataclass
class Approach:
    """A planner that acts until the target is near; implements :class:`ActionSource`."""

    distance: Callable[[Observation], float]
    """To the target [m]."""
    plan: Callable[[Observation], ActionChunk]
    """The next chunk of the way there."""
    mode: Hysteresis
    source: Source = "planner"

    def propose(self, observation: Observation) -> ActionChunk | None:
        """The planner's chunk while the target is far."""
        return None if self.mode.update(self.distance(observation)) else self.plan(observation)


def arbitrate(sources: Sequence[ActionSource], observation: Observation) -> tuple[ActionChunk, Source]:
    """The chunk of the first source, by :data:`ORDER`, that wants to act.

    Raises:
        LookupError: None wants to; put the policy last, it always does.
    """
    for source in sorted(sources, key=lambda each: ORDER.index(each.source)):
        chunk = source.propose(observation)
        if chunk is not None:
            return chunk, source.source
    raise LookupError(f"none of {[source.source for source in sources]} proposed an action; add the policy.")


def by_value(values: Sequence[float], proposals: Sequence[ActionChunk]) -> ActionChunk:
    """The proposal with the highest value, the first of equals: imitation against reinforcement, as in IBRL."""
    return proposals[int(np.argmax(values))]


def own_actions(mask: NDArray[np.bool_], sources: Sequence[Source]) -> NDArray[np.bool_]:
    """Removes the decisions of others from a loss mask.

    Args:
        mask: Executed actions of each decision ``(D, K)``.
        sources: Who decided ``(D,)``.
    """
    own = np.array([source == "policy" for source in sources])
    return np.asarray(mask & own[:, None])


def without_log_probs(chunk: ActionChunk) -> ActionChunk:
    """A chunk that nobody mistakes for the policy's own."""
    return replace(chunk, tokens=None, log_probs=None)
