"""Quadratic credit for the stages that a rollout completed: later stages count more.

Source: Reinforced Reasoning for Embodied Planning (arXiv 2505.22050), accuracy reward ``C (C + 1) / (T (T + 1))`` of
the correct prefix of a plan; idea of, because here the plan is the stage file and its order is enforced by the stage
machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tgrpo.algo.advantages import trajectory_advantages
from tgrpo.algo.signals import Options, Signals


def credit(completed: int, total: int) -> float:
    """``C (C + 1) / (T (T + 1))``, 0 to 1.

    Args:
        completed: Length of the correct prefix ``C``.
        total: Length of the whole plan ``T``, at least 1.
    """
    return completed * (completed + 1) / (total * (total + 1))


def prefix_length(done: Sequence[str], plan: Sequence[str]) -> int:
    """Entries at the start of ``done`` that are those of ``plan``; what comes after a wrong one does not count."""
    length = 0
    for mine, wanted in zip(done, plan, strict=False):
        if mine != wanted:
            break
        length += 1
    return length


def scalarise(groups: list[Signals], options: Options) -> list[Signals]:
    """Compares the credit of whole rollouts; step rewards stay as they are.

    Credits are standardised, so it does not matter that the group's best stage takes the place of the task's last one.
    """
    result = []
    for group in groups:
        best = max(1, int(group.reached.max()))
        credits = group.rewards.new_tensor([[credit(int(stage), best)] for stage in group.reached])
        result.append(replace(group, trajectory=trajectory_advantages(credits)))
    return result
