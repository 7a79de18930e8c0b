"""Lag and jerk of motions whose lag and jerk are known."""

import numpy as np
import pytest

from tgrpo.record import motion

TIMES = np.arange(0, 6, 0.02)


def path(times, delay=0.0):
    moved = times - delay
    return np.column_stack([0.1 * np.sin(1.3 * moved), 0.05 * np.sin(2.1 * moved + 1), np.full_like(moved, 0.2)])


@pytest.mark.parametrize("delay", [0.0, 0.02, 0.08, 0.133, 0.4])
def test_lag_is_found_between_the_samples(delay):
    assert motion.lag(TIMES, path(TIMES), path(TIMES, delay)) == pytest.approx(delay, abs=0.004)


def test_lag_with_noise_and_uneven_times():
    rng = np.random.default_rng(3)
    times = np.sort(TIMES + rng.normal(0, 0.002, len(TIMES)))
    measured = path(times, 0.12) + rng.normal(0, 1e-4, (len(times), 3))
    assert motion.lag(times, path(times), measured) == pytest.approx(0.12, abs=0.02)


def test_no_lag_is_claimed_for_an_arm_that_does_not_follow():
    rng = np.random.default_rng(4)
    still = np.full((len(TIMES), 3), 0.2)
    assert motion.lag(TIMES, path(TIMES), still) is None
    assert motion.lag(TIMES, path(TIMES), np.cumsum(rng.normal(0, 0.01, still.shape), axis=0)) is None
    assert motion.lag(TIMES[:10], path(TIMES[:10]), path(TIMES[:10])) is None
    assert motion.lag(TIMES, np.full_like(still, np.nan), still) is None


def test_jerk_of_a_cubic():
    cubic = np.column_stack([0.5 * TIMES**3, TIMES**2, -TIMES])
    assert motion.jerk(TIMES, cubic) == pytest.approx(3.0, rel=1e-6)


def test_jerk_of_a_sine_is_close_and_grows_with_shaking():
    sine = np.column_stack([0.1 * np.sin(3 * TIMES), 0 * TIMES, 0 * TIMES])
    smooth = motion.jerk(TIMES, sine)
    assert smooth == pytest.approx(0.1 * 27 / np.sqrt(2), rel=0.05)
    shaking = sine + 0.002 * np.sin(40 * TIMES)[:, None]
    assert motion.jerk(TIMES, shaking) > 3 * smooth


def test_too_short_for_jerk():
    assert motion.jerk(TIMES[:4], path(TIMES[:4])) is None
    assert motion.jerk(TIMES[:1], path(TIMES[:1])) is None
