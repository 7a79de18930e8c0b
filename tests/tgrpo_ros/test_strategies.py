"""When the policy is asked and what is sent, by hand."""

import numpy as np
import pytest

from tgrpo.errors import SettingsError, UnknownNameError
from tgrpo_ros.strategies import Strategy


def chunk(*values):
    """A chunk whose actions are (value, value)."""
    return np.repeat(np.array(values, np.float32)[:, None], 2, axis=1)


def test_open_loop_asks_when_the_chunk_has_ended():
    strategy = Strategy("open_loop", 0.1, execute=1)
    assert strategy.due(0.0)
    assert np.array_equal(strategy.combine(chunk(1, 2, 3, 4), 5.0, 5.0), chunk(1, 2, 3, 4))
    assert not strategy.due(5.39)
    assert strategy.due(5.4)


def test_receding_horizon_asks_early_and_sends_the_rest_to_bridge_the_time_of_thinking():
    strategy = Strategy("receding_horizon", 0.1, execute=2)
    assert len(strategy.combine(chunk(1, 2, 3, 4), 5.0, 5.0)) == 4
    assert not strategy.due(5.19)
    assert strategy.due(5.2)


@pytest.mark.parametrize(("name", "sent"), [("open_loop", 4), ("receding_horizon", 2), ("temporal_ensembling", 2)])
def test_a_scene_that_waits_gets_no_spare_actions(name, sent):
    strategy = Strategy(name, 0.1, execute=2)
    strategy.spare = False
    assert len(strategy.combine(chunk(1, 2, 3, 4), 5.0, 5.0)) == sent


def test_executing_more_than_a_chunk_has_means_all_of_it():
    strategy = Strategy("receding_horizon", 0.1, execute=99)
    strategy.combine(chunk(1, 2), 5.0, 5.0)
    assert strategy.due(5.2)


def test_ensembling_averages_what_is_said_about_the_same_instant():
    strategy = Strategy("temporal_ensembling", 0.1, execute=1, decay=np.log(2.0))  # each newer one weighs half
    assert np.array_equal(strategy.combine(chunk(0, 3, 6), 1.0, 1.0), chunk(0, 3, 6))
    # At 1.1 the old one says 3 and the new one 9: (1 * 3 + 1/2 * 9) / 1.5 = 5. At 1.2: (6 + 6) / 1.5 = 8. Then only 15.
    assert strategy.combine(chunk(9, 12, 15), 1.1, 1.1) == pytest.approx(chunk(5, 8, 15))
    # At 1.2: (6 + 12/2 + 24/4) / 1.75; the first one has ended, so from 1.3 on the second one is the oldest.
    third = strategy.combine(chunk(24, 30, 0), 1.2, 1.2)
    assert third[0, 0] == pytest.approx(18 / 1.75)
    assert third[1, 0] == pytest.approx((15 + 30 / 2) / 1.5)
    assert third[2, 0] == pytest.approx(0.0)


def test_equal_weights_without_decay_and_chunks_that_have_ended_are_forgotten():
    strategy = Strategy("temporal_ensembling", 0.1, execute=1, decay=0.0)
    strategy.combine(chunk(0, 2), 1.0, 1.0)
    assert strategy.combine(chunk(4, 4), 1.1, 1.1)[0, 0] == pytest.approx(3.0)
    assert strategy.combine(chunk(7, 7), 9.0, 9.0) == pytest.approx(chunk(7, 7))


def test_clearing_forgets_chunks_and_asks_at_once():
    strategy = Strategy("temporal_ensembling", 0.1, execute=2, decay=0.0)
    strategy.combine(chunk(0, 0, 0), 1.0, 1.0)
    strategy.clear()
    assert strategy.due(1.0)
    assert strategy.combine(chunk(4, 4, 4), 1.1, 1.1) == pytest.approx(chunk(4, 4, 4))


def test_late_answers_count_from_their_first_execution():
    strategy = Strategy("receding_horizon", 0.1, execute=2)
    strategy.combine(chunk(1, 2, 3), 5.0, 5.5)
    assert not strategy.due(5.6)
    assert strategy.due(5.7)


def test_wrong_settings():
    with pytest.raises(UnknownNameError, match="Did you mean 'open_loop'"):
        Strategy("open_lop", 0.1, execute=1)
    with pytest.raises(SettingsError, match="at least 1"):
        Strategy("open_loop", 0.1, execute=0)
