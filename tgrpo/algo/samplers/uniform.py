"""Every initial state in turn: the default, as in TGRPO (arXiv 2506.08440)."""

from __future__ import annotations

from tgrpo.algo.samplers import Request
from tgrpo.algo.sampling import init_state


def choose(request: Request) -> list[int]:
    """The next states of an order that is drawn anew for each round."""
    return [init_state(request.states, request.seed, request.first + group) for group in range(request.count)]
