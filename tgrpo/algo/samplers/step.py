"""More rollouts where the policy sometimes succeeds, fewer where it always does.

Source: STEP (arXiv 2511.13091), task sampling with a cache of hard tasks; idea of: its constants are not published, and
unlike it we keep failures as negative samples. A task with success rate 0 stays out of the cache, so combine it with
success replay where many groups fail entirely.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tgrpo.algo.samplers import Request, success_rates, uniform

STEEPNESS = 10.0
"""Of the chance to be replaced, over the success rate."""
MIDDLE = 0.6
"""Success rate at which half of the copies are replaced; states below it are worth replacing others by."""


def replaced(rate: float, steepness: float = STEEPNESS, middle: float = MIDDLE) -> float:
    """Chance that a copy of a task with this success rate gives way, 0 to 1."""
    return float(1.0 / (1.0 + np.exp(-steepness * (rate - middle))))


def kept(rate: float, copies: int, reserved: int = 1) -> float:
    """Expected number of copies that stay."""
    return reserved + (copies - reserved) * (1.0 - replaced(rate))


def reallocate(copies: list[int], rates: Mapping[int, float], rng: np.random.Generator, reserved: int = 1) -> list[int]:
    """Replaces copies of easy tasks by hard ones that can be solved.

    Args:
        copies: A task for each unit of the budget.
        rates: Success rate of each task.
        rng: Draws what gives way to what.
        reserved: Copies of each task that never give way.

    Returns:
        As many tasks; unchanged where no task is hard and solvable.
    """
    hard = sorted(task for task, rate in rates.items() if 0 < rate < MIDDLE)
    if not hard:
        return list(copies)
    seen: dict[int, int] = {}
    result = []
    for task in copies:
        seen[task] = seen.get(task, 0) + 1
        gives_way = seen[task] > reserved and rng.random() < replaced(rates[task])
        result.append(hard[int(rng.integers(len(hard)))] if gives_way else task)
    return result


def choose(request: Request) -> list[int]:
    """Starts from every state in turn and replaces the easy ones; those come back in the next round."""
    rates = success_rates(request.states, request.outcomes)
    return reallocate(uniform.choose(request), rates, request.rng, reserved=0)
