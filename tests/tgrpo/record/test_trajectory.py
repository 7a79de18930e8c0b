"""Recorded episodes as trajectories: the policy's own decisions, as it saw and made them."""

import numpy as np

from tests.tgrpo.record.episodes import action, info, picture, write_session
from tgrpo.record.episode import load
from tgrpo.record.session import closed_episodes
from tgrpo.record.trajectory import trajectory


def read(tmp_path, outcome="success", **shape):
    path = write_session(tmp_path / "session", [(info(), outcome, shape)])
    return trajectory(load(closed_episodes(path)[0]))


def test_decisions_as_they_were_made(tmp_path):
    found = read(tmp_path, steps=10)
    assert found.executed.tolist() == [4, 4, 2]
    assert found.steps == len(found.rewards) == 10
    assert found.success
    assert found.rewards.tolist() == [0.0] * 9 + [1.0]
    np.testing.assert_array_equal(found.observations[1].images["agentview"], picture(4))
    assert found.observations[1].instruction == "put the bowl on the plate"
    assert found.observations[1].proprio.shape == (8,)
    np.testing.assert_allclose(found.chunks[1].actions[0], action(4), atol=1e-6)
    assert found.chunks[0].tokens.shape == found.chunks[0].log_probs.shape == (4, 7)


def test_steps_of_the_human_belong_to_no_decision(tmp_path):
    found = read(tmp_path, steps=12, human=range(2, 8))
    assert found.executed.tolist() == [2, 4]
    assert not found.success
    assert not found.rewards.any()


def test_an_episode_without_decisions(tmp_path):
    found = read(tmp_path, "failure", steps=0)
    assert found.steps == 0
    assert found.observations == []
