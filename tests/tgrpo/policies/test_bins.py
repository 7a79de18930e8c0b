"""Action tokens against OpenVLA's definition, worked out by hand."""

import numpy as np
import pytest

from tgrpo.policies import bins


def test_edges_and_centres_by_hand():
    # 256 edges from -1 to 1 are 2/255 apart; 255 centres lie between them.
    assert bins.edges()[[0, 1, 255]] == pytest.approx([-1.0, -1 + 2 / 255, 1.0], abs=1e-15)
    assert bins.centres()[[0, 127, 254, 255]] == pytest.approx([-254 / 255, 0.0, 254 / 255, 254 / 255], abs=1e-15)
    assert len(bins.centres()) == 256


@pytest.mark.parametrize(
    ("action", "token"),
    [(-1.0, 0), (-0.999, 0), (-1 + 2.1 / 255, 1), (0.0, 127), (0.0039, 127), (0.004, 128), (0.999, 254), (1.0, 255)],
)
def test_encode_by_hand(action, token):
    assert bins.encode(action) == token


def test_actions_beyond_the_range_are_clipped():
    assert bins.encode([-7.0, 7.0]).tolist() == [0, 255]


def test_openvla_token_ids():
    """OpenVLA's ActionTokenizer: id = 32000 - digitize(a), and back through clip(32000 - id - 1, 0, 254)."""
    actions = np.random.default_rng(0).uniform(-1, 1, 2000)
    ids = 32000 - np.digitize(actions, np.linspace(-1, 1, 256))
    assert np.array_equal(32000 - ids - 1, bins.encode(actions))
    centres = (np.linspace(-1, 1, 256)[:-1] + np.linspace(-1, 1, 256)[1:]) / 2
    decoded = centres[np.clip(32000 - ids - 1, 0, 254)]
    assert np.array_equal(decoded.astype(np.float32), bins.decode(bins.encode(actions)))


def test_round_trip_is_within_half_a_bin():
    actions = np.linspace(-1, 1, 10001)
    assert np.abs(bins.decode(bins.encode(actions)) - actions).max() <= 1 / 255 + 1e-6


def test_tokens_survive_the_round_trip():
    tokens = np.arange(255)
    assert np.array_equal(bins.encode(bins.decode(tokens)), tokens)
    assert bins.decode(np.array(255)) == bins.decode(np.array(254))


def test_no_motion_is_exact():
    assert bins.decode(bins.encode(np.zeros(7))).tolist() == [0.0] * 7


def test_the_gripper_reaches_its_ends():
    assert abs(bins.decode(bins.encode(1.0)) - 1.0) < 0.004
    assert abs(bins.decode(bins.encode(-1.0)) + 1.0) < 0.004


def test_behind_the_end_the_arm_rests_and_the_gripper_stays():
    actions = np.array([[0.1, 1.0], [0.2, -1.0], [0.3, 1.0]])
    found = bins.chunks(actions, np.array([0, 2]), 2)
    assert found.tolist() == [[[0.1, 1.0], [0.2, -1.0]], [[0.3, 1.0], [0.0, 1.0]]]
    assert actions[-1].tolist() == [0.3, 1.0]
