"""Trying several chunks in a simulator before executing one.

Source: LOOP (arXiv 2008.10066); a reimplementation of its action selection. In LIBERO the simulator is the exact
model, so this is an upper bound for evaluation and a source of demonstrations (:mod:`tgrpo.algo.distillation`), not a
controller for a robot.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tgrpo.errors import SimulationError
from tgrpo.types import FloatArray


class Shadow(Protocol):
    """A simulator to try things in; :class:`sim.libero.LiberoEnv` is one."""

    def snapshot(self) -> Any:
        """The complete present state."""
        ...

    def restore(self, snapshot: Any) -> None:
        """Goes back to a snapshot."""
        ...

    def step(self, action: NDArray[Any]) -> bool:
        """Executes one action and says whether the task is done."""
        ...

    def state_hash(self) -> str:
        """Names the complete state."""
        ...


def weights(returns: FloatArray, sharpness: float = 1.0) -> FloatArray:
    """Weight of each candidate ``(W,)``: ``softmax(sharpness * return)``, adding up to 1."""
    scaled = sharpness * (returns - returns.max())
    return np.asarray(np.exp(scaled) / np.exp(scaled).sum())


def blended(returns: FloatArray, candidates: FloatArray, sharpness: float = 1.0) -> FloatArray:
    """Weighted mean of candidates ``(W, ...)``; for actions that may be averaged."""
    return np.asarray(np.tensordot(weights(returns, sharpness), candidates, axes=1))


def loss_bound(horizon: int, gamma: float, value_error: float, model_error: float = 0.0) -> float:
    """Bound on what planning ``horizon`` steps ahead loses, ``2 gamma^H eps_v / (1 - gamma^H)`` for an exact model.

    Args:
        horizon: Steps looked ahead, at least 1.
        gamma: Discount, below 1.
        value_error: Largest error of the terminal value.
        model_error: Error that the model adds over the horizon.
    """
    decay = gamma**horizon
    return float(2.0 / (1.0 - decay) * (model_error + decay * value_error))


def try_out(
    shadow: Shadow,
    chunks: Sequence[NDArray[np.float32]],
    reward: Callable[[], float],
    terminal: Callable[[], float] = lambda: 0.0,
    begin: Callable[[], None] = lambda: None,
) -> FloatArray:
    """Return of each chunk from the present state, which is the same afterwards.

    Args:
        shadow: Simulator to try in; an environment of its own, or the main one between two steps.
        chunks: Candidates, each ``(H, 7)``.
        reward: Reward of the present state, called after each action.
        terminal: Value of the state that a chunk ends in.
        begin: Called at the start of each chunk, for a reward that remembers.

    Returns:
        ``(W,)``.

    Raises:
        SimulationError: The simulator did not come back to where it was.
    """
    start, before = shadow.snapshot(), shadow.state_hash()
    returns = []
    for chunk in chunks:
        shadow.restore(start)
        begin()
        total, done = 0.0, False
        for action in chunk:
            done = shadow.step(action)
            total += reward()
            if done:
                break
        returns.append(total + (0.0 if done else terminal()))
    shadow.restore(start)
    if shadow.state_hash() != before:
        raise SimulationError("the state after looking ahead is not the one before; the snapshot is incomplete.")
    return np.array(returns)


def safe(returns: FloatArray, costs: FloatArray, limit: float, fewest: int = 1) -> int:
    """The best candidate whose cost stays below a limit; the cheapest if fewer than ``fewest`` do.

    Args:
        returns: Of each candidate ``(W,)``.
        costs: Worst-case cost of each ``(W,)``.
        limit: Largest cost allowed.
        fewest: Candidates that have to be safe for their returns to matter.
    """
    allowed = costs < limit
    if allowed.sum() < fewest:
        return int(np.argmin(costs))
    return int(np.argmax(np.where(allowed, returns, -np.inf)))
