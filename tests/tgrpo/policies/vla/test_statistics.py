"""Un-normalisation and the gripper, by hand."""

import numpy as np
import pytest

from tgrpo.errors import CheckpointError, PolicyError, SettingsError, UnknownNameError
from tgrpo.policies.vla.config import choose_key
from tgrpo.policies.vla.statistics import Statistics, gripper_to_libero

ENTRY = {"action": {"q01": [-2.0, 0.0, 0.0], "q99": [2.0, 1.0, 1.0], "mask": [True, True, False]}}


def statistics(entry=None):
    return Statistics.from_entry(ENTRY if entry is None else entry, "stats")


def test_the_mask_leaves_the_gripper_alone():
    ranges = statistics().action
    assert ranges.expand([[-1, -1, -1], [0, 0, 0.3], [1, 1, 1]]).tolist() == [[-2, 0, -1], [0, 0.5, 0.3], [2, 1, 1]]


def test_the_way_back_clips():
    ranges = statistics().action
    assert ranges.shrink([[-2, 0.5, 0.3], [9, -9, 7]], 0.0).tolist() == [[-1, 0, 0.3], [1, -1, 1]]


def test_a_constant_dimension_needs_the_epsilon():
    entry = {"action": {"q01": [1.0], "q99": [1.0], "mask": [True]}}
    assert np.isfinite(statistics(entry).action.shrink([1.0])).all()


def test_without_a_mask_everything_is_normalised():
    entry = {"action": {"q01": [0.0], "q99": [4.0]}}
    assert statistics(entry).action.expand([0.0]).tolist() == [2.0]


@pytest.mark.parametrize(
    ("opening", "libero"), [(1.0, -1.0), (0.51, -1.0), (0.5, 0.0), (0.49, 1.0), (0.0, 1.0), (-0.99, 1.0), (2.0, -1.0)]
)
def test_gripper(opening, libero):
    """OpenVLA: 0 closed, 1 open. LIBERO: 1 closes, -1 opens. Exactly between, the fingers stay as they are."""
    actions = np.array([[0.25, opening]])
    assert gripper_to_libero(actions).tolist() == [[0.25, libero]]
    assert actions[0, 1] == opening


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_action_that_is_no_number_is_refused(bad):
    with pytest.raises(PolicyError, match="not a number"):
        gripper_to_libero(np.array([bad, 1.0]))


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"action": {"q01": [0.0]}},
        {"action": {"q01": [0.0], "q99": [1.0, 2.0]}},
        {"action": {"q01": ["a"], "q99": [1.0]}},
        [],
    ],
)
def test_damaged_statistics_are_named(entry):
    with pytest.raises(CheckpointError, match="stats"):
        statistics(entry)


def test_statistics_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        statistics().action.low[0] = 1.0


def test_choosing_a_data_set():
    same, other = statistics(), statistics({"action": {"q01": [0.0], "q99": [1.0]}})
    assert choose_key({"libero_goal_no_noops": same}, None) == "libero_goal_no_noops"
    assert choose_key({"libero_goal_no_noops": same, "b": other}, "libero_goal") == "libero_goal_no_noops"
    assert choose_key({"a": same, "a_no_noops": other}, "a") == "a"
    assert choose_key({"a": same, "b": statistics()}, None) == "a"
    with pytest.raises(SettingsError, match="choose a key"):
        choose_key({"a": same, "b": other}, None)
    with pytest.raises(UnknownNameError, match="Did you mean 'libero_goal_no_noops'"):
        choose_key({"libero_goal_no_noops": same}, "libero_gaol")
    with pytest.raises(UnknownNameError, match="data set"):
        choose_key({}, None)
