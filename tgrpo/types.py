"""The data that passes between simulator, policy, rewards and learner.

Shape letters, the same in every module:

* ``G`` groups, ``N`` rollouts of a group, ``T`` control steps, ``D`` decisions (policy queries) of an episode;
* ``B`` batch, ``K`` actions of a chunk, ``A`` action dimensions (7), ``V`` bins per action dimension (256);
* ``H, W`` image height and width [px].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float64]
Image: TypeAlias = NDArray[np.uint8]
"""An upright RGB picture, shape ``(H, W, 3)``."""

Quantities: TypeAlias = Mapping[str, FloatArray]
"""Named quantities of one instant that rewards are computed from; see :mod:`tgrpo.rewards`."""


@dataclass(frozen=True, eq=False)
class Observation:
    """What a policy sees when it is asked for a chunk of actions.

    Example:
        ``Observation({"agentview": image}, "put the bowl on the plate", proprio)``
    """

    images: Mapping[str, Image]
    """Camera name to upright RGB picture ``(H, W, 3)``."""
    instruction: str
    """The task in words, as LIBERO's ``task.language`` has it."""
    proprio: NDArray[np.float32] | None = None
    """Proprioception ``(8,)``: end-effector position ``(3,)`` [m], axis-angle ``(3,)`` [rad], fingers ``(2,)`` [m]."""


@dataclass(frozen=True, eq=False)
class ActionChunk:
    """``K`` consecutive actions decided in one forward pass, and how likely they were."""

    actions: NDArray[np.float32]
    """``(K, A)`` in the policy's :class:`~tgrpo.spec.ActionSpec`."""
    tokens: NDArray[np.int64] | None = None
    """``(K, A)`` bin of each action dimension, in ``[0, V)``; None for policies without tokens."""
    log_probs: NDArray[np.float32] | None = None
    """``(K, A)`` log-probability of each token at the temperature it was sampled with [nat]."""


@dataclass(frozen=True, eq=False)
class Trajectory:
    """One rollout, as the learner needs it."""

    observations: list[Observation]
    """``D`` observations, one for each decision."""
    chunks: list[ActionChunk]
    """``D`` chunks, one for each decision."""
    executed: NDArray[np.int64]
    """``(D,)`` actions of each chunk that were executed before the episode ended, 1 to ``K``."""
    rewards: FloatArray
    """``(T,)`` reward of each control step, with ``T == executed.sum()``."""
    terms: Mapping[str, FloatArray] = field(default_factory=dict)
    """Reward term name to its ``(T,)`` contribution; they add up to ``rewards``."""
    stages: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """``(T,)`` stage the task was in after each control step, 0-based."""
    success: bool = False
    """The task was completed, at the last control step."""
    source: Literal["policy", "replay"] = "policy"
    """Whether the policy in training played it, or an earlier one whose success is replayed."""

    @property
    def steps(self) -> int:
        """Number of control steps ``T``."""
        return int(self.executed.sum())


@dataclass(frozen=True, eq=False)
class RolloutGroup:
    """Rollouts of one task from one identical simulator state."""

    suite: str
    task: int
    init_state: int
    """Index of LIBERO's initial state."""
    seed: int
    """Seed of the environment: fixture poses."""
    state_hash: str
    """Hash of the settled simulator state that all rollouts started from."""
    trajectories: list[Trajectory]
    seconds: float = 0.0
    """Wall time that the rollouts took [s]."""
