"""All rollouts of a group start at the initial state, as in TGRPO (arXiv 2506.08440)."""

from __future__ import annotations


def starts(count: int) -> list[int]:
    """Decision of the main line that each of ``count`` rollouts starts at: 0 for all."""
    return [0] * count
