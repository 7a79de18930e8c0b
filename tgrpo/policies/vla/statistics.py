"""From what the network answers to what LIBERO executes: un-normalisation and the gripper.

OpenVLA maps the 1st and 99th percentile of each action dimension to -1 and 1 (arXiv 2406.09246, section 3.2); the
mask says which dimensions were. In its training data the gripper is 0 for closed and 1 for open.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tgrpo.errors import CheckpointError, PolicyError
from tgrpo.types import FloatArray

OFT_EPSILON = 1e-8
"""OpenVLA-OFT adds this to the width of each range, OpenVLA does not."""


@dataclass(frozen=True, eq=False)
class Range:
    """Percentiles of one vector of a data set."""

    low: FloatArray
    """``(A,)`` 1st percentile."""
    high: FloatArray
    """``(A,)`` 99th percentile."""
    mask: NDArray[np.bool_]
    """``(A,)`` which dimensions are normalised; the others stay as they are."""

    def __post_init__(self) -> None:
        for values in (self.low, self.high, self.mask):
            values.setflags(write=False)

    def __eq__(self, other: object) -> bool:
        """Whether another range has the same numbers."""
        if not isinstance(other, Range):
            return NotImplemented
        pairs = ((self.low, other.low), (self.high, other.high), (self.mask, other.mask))
        return all(np.array_equal(mine, theirs) for mine, theirs in pairs)

    __hash__ = None  # type: ignore[assignment]

    def expand(self, values: ArrayLike, epsilon: float = 0.0) -> FloatArray:
        """Values ``(..., A)`` in ``[-1, 1]`` in the data set's own units."""
        inner = np.asarray(values, np.float64)
        scaled = 0.5 * (inner + 1) * (self.high - self.low + epsilon) + self.low
        return np.where(self.mask, scaled, inner)

    def shrink(self, values: ArrayLike, epsilon: float = OFT_EPSILON) -> FloatArray:
        """Values ``(..., A)`` in the data set's own units to ``[-1, 1]``, clipped."""
        outer = np.asarray(values, np.float64)
        inner = 2 * (outer - self.low) / (self.high - self.low + epsilon) - 1
        return np.clip(np.where(self.mask, inner, outer), -1.0, 1.0)


@dataclass(frozen=True)
class Statistics:
    """Ranges of one data set."""

    action: Range
    proprio: Range | None

    @classmethod
    def from_entry(cls, entry: Any, source: str) -> Statistics:
        """Reads one entry of ``norm_stats`` or ``dataset_statistics.json``.

        Raises:
            CheckpointError: A field is missing or has another length than the others.
        """
        try:
            action = _range(entry["action"], source)
            proprio = _range(entry["proprio"], source) if entry.get("proprio") else None
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(f"{source}: damaged statistics: {error!r}.") from error
        return cls(action, proprio)


def gripper_to_libero(actions: FloatArray) -> FloatArray:
    """Actions ``(..., A)`` with OpenVLA's gripper (0 closed, 1 open) as LIBERO has it: -1 open, 1 closed, 0 between.

    Raises:
        PolicyError: An action is not a number.
    """
    if not np.isfinite(actions).all():
        raise PolicyError(f"the policy decided an action that is not a number: {actions.tolist()}.")
    result: FloatArray = actions.copy()
    result[..., -1] = -np.sign(2 * result[..., -1] - 1)
    return result


def _range(entry: dict[str, Any], source: str) -> Range:
    low, high = (np.asarray(entry[name], np.float64) for name in ("q01", "q99"))
    mask = np.asarray(entry.get("mask", np.ones(low.shape)), bool)
    if not low.shape == high.shape == mask.shape or low.ndim != 1:
        raise CheckpointError(f"{source}: q01, q99 and mask have the shapes {low.shape}, {high.shape}, {mask.shape}.")
    return Range(low, high, mask)
