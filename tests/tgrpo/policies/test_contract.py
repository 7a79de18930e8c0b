"""What every policy must keep to, whatever it is made of."""

import numpy as np
import pytest

from tgrpo.errors import CheckpointError, PolicyError, SettingsError
from tgrpo.policies import Policy, load
from tgrpo.policies.simple import RandomPolicy, ReplayPolicy

RECORDING = np.random.default_rng(5).uniform(-1, 1, (21, 7)).round(3)
NAMES = ["tiny token", "tiny chunk", "random", "replay"]


@pytest.fixture(params=NAMES)
def policy(request, make_tiny):
    return {
        "tiny token": lambda: make_tiny("token"),
        "tiny chunk": lambda: make_tiny("chunk"),
        "random": RandomPolicy,
        "replay": lambda: ReplayPolicy(RECORDING),
    }[request.param]()


def episode(policy, look, seed, others=(), temperature=1.0):
    """Three decisions of one row, between rows with other seeds and other pictures."""
    seeds = [*others, seed]
    policy.reset(seeds)
    chunks = []
    for step in range(3):
        observations = [look(100 * row + step + 7) for row in range(len(others))] + [look(step)]
        chunks.append(policy.act(observations, temperature=temperature)[-1])
    return chunks


def test_follows_the_protocol(policy):
    assert isinstance(policy, Policy)
    assert policy.spec.action.dims == 7
    assert policy.spec.chunk == 8


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_shapes_types_and_ranges(policy, look, temperature):
    policy.reset([1, 2, 3])
    chunks = policy.act([look(i) for i in range(3)], temperature=temperature)
    assert len(chunks) == 3
    for chunk in chunks:
        assert chunk.actions.shape == (8, 7)
        assert chunk.actions.dtype == np.float32
        assert np.abs(chunk.actions).max() <= 1.0
        if chunk.tokens is not None:
            assert chunk.tokens.shape == (8, 7)
            assert 0 <= chunk.tokens.min() <= chunk.tokens.max() < policy.spec.bins
        if chunk.log_probs is not None:
            assert chunk.log_probs.shape == (8, 7)
            assert chunk.log_probs.max() <= 0


def test_same_seed_same_episode_in_any_batch(policy, look):
    alone, crowded = (episode(policy, look, 42, others) for others in ((), (1, 2, 3)))
    for mine, theirs in zip(alone, crowded, strict=True):
        assert np.array_equal(mine.actions, theirs.actions)
        if mine.log_probs is not None:
            assert np.allclose(mine.log_probs, theirs.log_probs, atol=1e-5)


def test_rows_may_drop_out_of_a_batch(policy, look):
    policy.reset([1, 2, 3])
    policy.act([look(0), look(1), look(2)], temperature=1.0)
    [late] = policy.act([look(9)], temperature=1.0, rows=[2])
    policy.reset([3])
    policy.act([look(2)], temperature=1.0)
    [alone] = policy.act([look(9)], temperature=1.0)
    assert np.array_equal(late.actions, alone.actions)


def test_a_row_continues_where_another_process_left_it(policy, look):
    stayed = episode(policy, look, 42, (1,))
    policy.reset([1, 42], [5, 2])
    [moved] = policy.act([look(2)], temperature=1.0, rows=[1])
    assert np.array_equal(moved.actions, stayed[2].actions)


def test_greedy_needs_no_luck(policy, look):
    first, second = (episode(policy, look, seed, temperature=0.0) for seed in (1, 2))
    for mine, theirs in zip(first, second, strict=True):
        assert np.array_equal(mine.actions, theirs.actions)


def test_save_and_load(policy, look, tmp_path):
    policy.save(tmp_path)
    again = load(tmp_path)
    assert again.spec == policy.spec
    for mine, theirs in zip(episode(policy, look, 3), episode(again, look, 3), strict=True):
        assert np.array_equal(mine.actions, theirs.actions)


def test_a_row_that_was_not_reset_is_refused(policy, look):
    policy.reset([1])
    with pytest.raises(PolicyError, match="reset"):
        policy.act([look(0), look(1)], temperature=1.0)


def test_replay_plays_open_loop_and_then_rests(look):
    policy = ReplayPolicy(RECORDING)
    chunks = episode(policy, look, 0)
    assert np.array_equal(np.concatenate([c.actions for c in chunks])[:21], RECORDING.astype(np.float32))
    assert np.array_equal(chunks[-1].actions[5:, :6], np.zeros((3, 6)))
    assert (chunks[-1].actions[5:, 6] == np.float32(RECORDING[-1, 6])).all()


def test_replay_refuses_a_recording_of_another_robot():
    with pytest.raises(SettingsError, match=r"\(T, 7\)"):
        ReplayPolicy(np.zeros((4, 6)))


@pytest.mark.parametrize(
    ("content", "error", "match"),
    [
        (None, CheckpointError, "no policy.json"),
        ("{", CheckpointError, "damaged"),
        ("[]", CheckpointError, "damaged"),
        ('{"kind": "gigantic"}', SettingsError, "tiny, random, replay"),
        ('{"kind": "replay"}', SettingsError, "actions"),
        ('{"kind": "tiny"}', CheckpointError, "incomplete"),
    ],
)
def test_what_is_not_a_checkpoint_is_named(tmp_path, content, error, match):
    if content is not None:
        (tmp_path / "policy.json").write_text(content)
    with pytest.raises(error, match=match):
        load(tmp_path)
