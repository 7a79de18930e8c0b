"""Advantages of TGRPO: how much better a rollout did than the others of its group, at each step and in total.

Shapes: ``N`` rollouts of a group, ``T`` steps of the algorithm. A step is a decision of the policy, so for a
chunked policy ``T`` counts decisions (``D``) and a reward is the sum over the chunk's executed actions.

Every standard deviation is the sample one, ``1/(N-1)``, over rollouts and never over steps. All of it is computed in
double precision: in single precision three equal returns of 200 already differ from their mean by more than the floor.

Source: arXiv 2506.08440, section 3; the floors and the mask are ours.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

STEP_FLOOR = 1e-3
"""Rewards of one step that spread less than this are noise; for rewards of about 0 to 1."""
TRAJ_FLOOR = 1e-6
"""Returns that spread less than this are equal."""
EPS = 1e-6
"""Added to every standard deviation above its floor."""


def step_advantages(rewards: Tensor, mask: Tensor | None = None, floor: float = STEP_FLOOR) -> Tensor:
    """Compares each rollout with the others of its group at the same step.

    Args:
        rewards: Reward of each rollout at each step ``(N, T)``.
        mask: True where a rollout was still running ``(N, T)``; everywhere by default.
        floor: Standard deviation below which a step carries no signal.

    Returns:
        ``(N, T)``, exactly 0 where masked, where fewer than two rollouts were running, and where the
        standard deviation is below ``floor``.
    """
    values, alive = _checked(rewards, mask)
    return standardised(values, alive, floor).to(rewards.dtype)


def trajectory_advantages(rewards: Tensor, mask: Tensor | None = None, floor: float = TRAJ_FLOOR) -> Tensor:
    """Compares the undiscounted return of each rollout with the others of its group.

    Args:
        rewards: Reward of each rollout at each step ``(N, T)``.
        mask: True where a rollout was still running ``(N, T)``; a rollout that never ran is left out.
        floor: Standard deviation below which the returns count as equal.

    Returns:
        ``(N,)``, exactly 0 for a group without contrast.
    """
    values, alive = _checked(rewards, mask)
    returns = torch.where(alive, values, 0.0).sum(dim=1)
    return standardised(returns, alive.any(dim=1), floor).to(rewards.dtype)


def tgrpo(
    rewards: Tensor,
    a_step: float = 0.3,
    a_traj: float = 0.7,
    mask: Tensor | None = None,
    *,
    step_floor: float = STEP_FLOOR,
    traj_floor: float = TRAJ_FLOOR,
) -> Tensor:
    """Combines the step and the trajectory comparison: ``a_step * A_step + a_traj * A_traj``.

    Args:
        rewards: Reward of each rollout at each step ``(N, T)``.
        a_step: Weight of the comparison at the same step.
        a_traj: Weight of the comparison of returns.
        mask: True where a rollout was still running ``(N, T)``; everywhere by default.
        step_floor: See :func:`step_advantages`.
        traj_floor: See :func:`trajectory_advantages`.

    Returns:
        ``(N, T)``, exactly 0 where masked.

    Raises:
        ValueError: ``rewards`` is not a matrix, or ``mask`` has another shape.

    Example:
        >>> tgrpo(torch.tensor([[0.2, 0.8], [0.2, 0.0], [0.0, 0.0]]))[0]
        tensor([0.9669, 1.1401])
    """
    step = step_advantages(rewards, mask, step_floor)
    trajectory = trajectory_advantages(rewards, mask, traj_floor)
    return combine(step, trajectory, a_step, a_traj, mask)


def combine(step: Tensor, trajectory: Tensor, a_step: float, a_traj: float, mask: Tensor | None = None) -> Tensor:
    """Weighs a comparison of steps ``(N, T)`` against one of whole rollouts ``(N,)``; ``(N, T)``, 0 where masked."""
    combined = a_step * step + a_traj * trajectory[:, None]
    return combined if mask is None else torch.where(mask, combined, 0.0)


def has_contrast(
    rewards: Tensor,
    mask: Tensor | None = None,
    *,
    step_floor: float = STEP_FLOOR,
    traj_floor: float = TRAJ_FLOOR,
) -> bool:
    """Says whether a group ``(N, T)`` has any advantage other than 0, so that an update on it is worth computing."""
    step = step_advantages(rewards, mask, step_floor)
    return bool(step.any() or trajectory_advantages(rewards, mask, traj_floor).any())


def per_decision(rewards: Tensor, executed: Tensor) -> Tensor:
    """Sums the rewards of control steps into the decisions that caused them.

    Args:
        rewards: Reward of each control step of one rollout ``(T,)``.
        executed: Actions executed of each decision's chunk ``(D,)``, with ``executed.sum() == T``.

    Returns:
        ``(D,)`` in the type of ``rewards``.

    Raises:
        ValueError: The counts do not add up to the number of control steps.
    """
    if int(executed.sum()) != len(rewards):
        raise ValueError(
            f"executed actions add up to {int(executed.sum())}, but there are {len(rewards)} rewards; "
            "pass the rewards of every executed control step."
        )
    decisions = torch.arange(len(executed), device=rewards.device).repeat_interleave(executed.to(rewards.device))
    return rewards.new_zeros(len(executed)).index_add(0, decisions, rewards)


def padded(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Stacks rollouts of different lengths.

    Args:
        rows: ``N`` tensors ``(T_i,)``.

    Returns:
        Values ``(N, T)`` filled with 0 at the end, and the mask ``(N, T)`` that is True on real entries.
    """
    values = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
    lengths = torch.tensor([len(row) for row in rows], device=values.device)
    return values, torch.arange(values.shape[1], device=values.device) < lengths[:, None]


def _checked(rewards: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Returns double-precision rewards and a mask of the same shape ``(N, T)``."""
    if rewards.ndim != 2:
        raise ValueError(f"rewards have shape {tuple(rewards.shape)}, expected (N, T): rollouts by steps.")
    alive = torch.ones_like(rewards, dtype=torch.bool) if mask is None else mask
    if alive.shape != rewards.shape or alive.dtype != torch.bool:
        raise ValueError(
            f"mask is {alive.dtype} of shape {tuple(alive.shape)}, expected bool of shape {tuple(rewards.shape)}."
        )
    return rewards.double(), alive


def standardised(values: Tensor, alive: Tensor, floor: float = TRAJ_FLOOR) -> Tensor:
    """Centres and scales over the first dimension: the z-score that every strategy compares by.

    Args:
        values: Double-precision numbers ``(M, ...)`` to compare.
        alive: True for those that take part ``(M, ...)``.
        floor: Standard deviation below which they count as equal.

    Returns:
        ``(M, ...)``, exactly 0 where not alive, where fewer than two are, and below the floor.
    """
    count = alive.sum(dim=0)
    mean = torch.where(alive, values, 0.0).sum(dim=0) / count.clamp(min=1)
    centred = torch.where(alive, values - mean, 0.0)
    std = (centred.square().sum(dim=0) / (count - 1).clamp(min=1)).sqrt()
    informative = (count >= 2) & (std >= floor)
    return torch.where(informative & alive, centred / (std + EPS), 0.0)
