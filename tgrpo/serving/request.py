"""One question to the policy, and the two kinds of answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import TypeAlias

from tgrpo.types import ActionChunk, Observation
from tgrpo.wire import Code


@dataclass(frozen=True, eq=False)
class Decided:
    """A chunk of actions, and how it came about."""

    chunk: ActionChunk
    version: str
    """Weights that decided it."""
    queue_ms: float
    """Time that the request waited for the model [ms]."""
    infer_ms: float
    """Time that the model took for the whole batch [ms]."""
    batch: int
    """Requests in that batch."""


@dataclass(frozen=True)
class Refused:
    """Why there is no chunk."""

    code: Code
    message: str


Outcome: TypeAlias = Decided | Refused


@dataclass(frozen=True, eq=False)
class Request:
    """A question, from the moment it has been checked until it is answered, exactly once."""

    owner: Hashable
    """Connection that it came from; quotas and turns are counted by it."""
    observe: Callable[[], Observation]
    """Decodes the observation; called in the model's thread."""
    answer: Callable[[Outcome], None]
    """Takes the answer; called from any thread, must not block."""
    deadline: float
    """When an answer stops being of use, on this machine's monotonic clock [s]."""
    seed: int
    temperature: float = 0.0
    arrived: float = field(default_factory=time.monotonic)
    """On the same clock [s]."""
