"""All rollouts of a group start at the initial state, as in TGRPO (arXiv 2506.08440)."""

from __future__ import annotations

from tgrpo.algo.collectors import Collection, Fan


def collect(size: int) -> Collection:
    """One group of ``size`` rollouts."""
    (played,) = yield [Fan(size)]
    return [played.group]
