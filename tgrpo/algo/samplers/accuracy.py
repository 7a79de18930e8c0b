"""Only initial states that are neither hopeless nor solved.

Source: accuracy filter of Reinforced Reasoning for Embodied Planning (arXiv 2505.22050), also in SimpleVLA-RL and
RLinf: groups whose mean success is outside 0.1 to 0.9 are dropped. They drop groups after playing them; as a sampler
the filter saves the rollouts. :func:`informative` is the filter itself, the setting ``group_filter`` applies it.
"""

from __future__ import annotations

from collections.abc import Sequence

from tgrpo.algo.samplers import Request, success_rates, uniform

LOW, HIGH = 0.1, 0.9
"""Success rates of groups that are kept."""
TRIES = 100
"""States that are passed over before any state will do."""


def informative(rate: float, low: float = LOW, high: float = HIGH) -> bool:
    """Whether a success rate says that rollouts will differ."""
    return low <= rate <= high


def kept(rates: Sequence[float]) -> list[int]:
    """Places of the groups to keep, from their success rates."""
    return [place for place, rate in enumerate(rates) if informative(rate)]


def choose(request: Request) -> list[int]:
    """The next informative states, in the order of the uniform sampler; all states where none is informative."""
    rates = success_rates(request.states, request.outcomes)
    if not any(informative(rate) for rate in rates.values()):
        return uniform.choose(request)
    longer = Request(request.states, request.count + TRIES * len(request.states), request.first, request.seed)
    wanted = [state for state in uniform.choose(longer) if informative(rates[state])]
    return wanted[: request.count]
