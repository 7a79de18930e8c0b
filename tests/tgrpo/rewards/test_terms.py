"""Reward terms at values worked out by hand."""

from __future__ import annotations

import pytest

from tgrpo.rewards import terms


def test_near_and_amount() -> None:
    assert terms.near(0.0, 0.1) == 1.0
    assert terms.near(0.1, 0.1) == pytest.approx(0.238406, abs=1e-6)
    assert terms.near(9.0, 0.1) == pytest.approx(0.0, abs=1e-9)
    assert [terms.amount(value, 2.0) for value in (-1.0, 0.0, 1.0, 2.0, 5.0)] == [0.0, 0.0, 0.5, 1.0, 1.0]


def test_ratchet() -> None:
    assert [terms.level(reached, 3) for reached in (0, 1, 2, 3)] == [2, 2, 2, 3]
    assert terms.level(0, 0) == 0
    assert terms.fraction(0.5, 3, 3) == 0.5
    assert terms.fraction(0.5, 1, 3) == pytest.approx(0.5)
    assert terms.fraction(0.5, 0, 2) == pytest.approx(0.25)


def test_weighted_mean() -> None:
    assert terms.weighted_mean([1.0, 0.0], [3.0, 1.0]) == 0.75
    assert terms.weighted_mean([], []) == 0.0


def test_success_repays_what_was_missed() -> None:
    assert terms.success(steps=100, paid=40.0, bonus=1.0, repay=1.0, horizon=0) == 61.0
    assert terms.success(steps=100, paid=40.0, bonus=1.0, repay=0.5, horizon=200) == 81.0
    assert terms.success(steps=100, paid=40.0, bonus=2.0, repay=0.0, horizon=0) == 2.0
