"""What the gateways share: strict arrays from foreign encodings, and asking the core while a connection waits."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tgrpo.errors import WireError
from tgrpo.payload import check_shown
from tgrpo.serving.core import Core
from tgrpo.serving.request import Outcome, Refused, Request
from tgrpo.types import Observation

DTYPES = {"|u1": "uint8", "<f4": "float32", "<f8": "float64"}
"""Types that an array may have, as numpy writes them."""
GRACE_S = 1.0
"""How long a connection waits beyond the deadline for the core to say that it has passed [s]."""


def array(data: bytes, dtype: str, shape: Sequence[int]) -> NDArray[Any]:
    """An array from the parts of a foreign message.

    Raises:
        WireError: The type is not one that pictures and numbers have, or the size does not fit.
    """
    if dtype not in DTYPES:
        raise WireError(f"arrays of the type {dtype[:16]!r} are not taken. Valid: {', '.join(DTYPES)}.")
    if not 1 <= len(shape) <= 3 or not all(0 < size <= 8192 for size in shape):
        raise WireError(f"arrays of the shape {tuple(shape)[:8]} are not taken.")
    if len(data) != math.prod(shape) * np.dtype(dtype).itemsize:
        raise WireError(f"{len(data)} bytes for an array {dtype} {tuple(shape)}.")
    return np.frombuffer(data, dtype).reshape(shape)


def proprio(values: NDArray[Any] | None) -> NDArray[np.float32] | None:
    """Proprioception in the type that policies take."""
    return None if values is None else values.astype(np.float32)


def ask(core: Core, owner: Hashable, observation: Observation, deadline_ms: float) -> Outcome:
    """Asks for a chunk and waits for it; greedy, because these clients cannot give a seed.

    Args:
        core: Decides.
        owner: The connection, for quotas.
        observation: What is shown.
        deadline_ms: Time until an answer is of no use [ms].
    """
    try:
        check_shown(observation, core.model.policy.spec)
    except WireError as error:
        core.counters.add("invalid")
        return Refused("invalid", str(error))
    future: Future[Outcome] = Future()
    until = monotonic() + deadline_ms / 1000.0
    core.submit(Request(owner, lambda: observation, future.set_result, until, seed=0))
    try:
        return future.result(deadline_ms / 1000.0 + GRACE_S)
    except FutureTimeout:
        return Refused("expired", "the model did not answer in time.")
