"""The tiny VLA: what it is shown, how it samples, and that its probabilities can be reproduced."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import tgrpo
from tgrpo.errors import CheckpointError, PolicyError, SettingsError
from tgrpo.policies import bins, load, mean_temperature_of, tokens
from tgrpo.policies.simple import RandomPolicy
from tgrpo.policies.tiny import TinyPolicy
from tgrpo.policies.tiny_model import TinyConfig, TinyModel, body_features
from tgrpo.spec import PolicySpec
from tgrpo.types import Observation

CHECKPOINTS = Path(tgrpo.__file__).parent / "checkpoints"


def switches(chunks):
    """How often the gripper changes its mind within each chunk."""
    closed = np.stack([chunk.actions[:, -1] for chunk in chunks]) > 0
    return np.abs(np.diff(closed.astype(int), axis=1)).sum(1)


@pytest.mark.parametrize("exploration", ["token", "chunk"])
@pytest.mark.parametrize("temperature", [0.7, 1.6])
def test_log_probabilities_are_reproduced_in_other_batches(make_tiny, look, exploration, temperature):
    policy = make_tiny(exploration)
    policy.reset(range(6))
    views = [look(i) for i in range(6)]
    chunks = policy.act(views, temperature=temperature)
    with torch.no_grad():
        for rows in (range(6), [3], [5, 0]):
            everything = tokens.log_probs_of_bins(policy.model(*policy.collate([views[i] for i in rows])), temperature)
            chosen = torch.from_numpy(np.stack([chunks[i].tokens for i in rows]))
            acted = np.stack([chunks[i].log_probs for i in rows])
            assert np.abs(tokens.gather(everything, chosen).numpy() - acted).max() < 1e-5


def test_actions_are_the_centres_of_their_bins(make_tiny, look):
    policy = make_tiny()
    policy.reset([0])
    [chunk] = policy.act([look(0)], temperature=1.0)
    assert np.array_equal(chunk.actions, bins.decode(chunk.tokens))


def test_exploration_keeps_every_tokens_own_distribution():
    """4000 draws of each kind: the shares of 6 bins are those of the distribution within 4 standard errors."""
    probabilities = torch.tensor([0.05, 0.1, 0.4, 0.25, 0.15, 0.05])
    n = 4000
    log_probs = probabilities.log().expand(n, 8, 7, 6)
    rng = np.random.default_rng(0)
    for drawn in (8, 1):
        quantiles = torch.from_numpy(np.broadcast_to(rng.random((n, drawn, 7)), (n, 8, 7)).copy())
        chosen = tokens.sample(log_probs, quantiles)
        for place in ((0, 0), (7, 6)):
            shares = np.bincount(chosen[:, place[0], place[1]].numpy(), minlength=6) / n
            error = np.sqrt(probabilities.numpy() * (1 - probabilities.numpy()) / n)
            assert (np.abs(shares - probabilities.numpy()) < 4 * error).all()


def test_quantiles_by_hand():
    log_probs = torch.tensor([0.25, 0.5, 0.25]).log().expand(1, 1, 4, 3)
    quantiles = torch.tensor([[[0.0, 0.24, 0.26, 0.99]]])
    assert tokens.sample(log_probs, quantiles).tolist() == [[[0, 0, 1, 2]]]


def test_a_bin_without_probability_is_never_drawn():
    log_probs = torch.tensor([0.0, 1.0, 0.0]).log().expand(1, 1, 3, 3)
    quantiles = torch.tensor([[[0.0, 0.5, 1 - 1e-12]]], dtype=torch.float64)
    assert tokens.sample(log_probs, quantiles).tolist() == [[[1, 1, 1]]]


def test_decisions_without_sampling_by_hand():
    """Two bins hold 0.7, far from the likeliest: 0.3 * 0 + 0.25 * 4 + 0.25 * 5 + 0.2 * 6 = 3.45; a tie is not met."""
    logits = torch.tensor([0.3, 0.0, 0.0, 0.0, 0.25, 0.25, 0.2]).log()
    assert tokens.decide(logits, 0.0).item() == 0
    assert tokens.decide(logits, 1.0).item() == 3
    assert tokens.decide(torch.full((2, 7, 256), -1.0), 0.5).unique().tolist() == [128]  # 127.5, to even


def test_the_mean_is_decided_alike_in_any_batch(make_tiny, look):
    policy = make_tiny()
    policy.mean_temperature = 0.5
    views = [look(i) for i in range(6)]
    crowded = policy.act(views)
    assert all(
        np.array_equal(policy.act([view])[0].tokens, chunk.tokens) for view, chunk in zip(views, crowded, strict=False)
    )
    with torch.no_grad():
        probabilities = (2 * policy.model(*policy.collate(views))).softmax(-1).numpy()
    assert np.abs((probabilities @ np.arange(256)) - np.stack([chunk.tokens for chunk in crowded])).max() < 0.5001


def test_the_mean_is_part_of_the_checkpoint_and_can_be_said_otherwise(make_tiny, look, tmp_path):
    policy = make_tiny()
    policy.mean_temperature = 0.5
    policy.save(tmp_path)
    assert (load(tmp_path).mean_temperature, mean_temperature_of(tmp_path)) == (0.5, 0.5)
    greedy = load(tmp_path, 0.0)
    assert np.array_equal(greedy.act([look(0)])[0].tokens, make_tiny().act([look(0)])[0].tokens)
    assert mean_temperature_of(CHECKPOINTS / "tiny-libero") == 0.0


def test_a_policy_without_bins_has_nothing_to_decode(tmp_path):
    RandomPolicy(PolicySpec()).save(tmp_path)
    with pytest.raises(SettingsError, match=r"mean_temperature 0.5.*'random'.*Leave it out"):
        load(tmp_path, 0.5)


def test_chunk_exploration_moves_the_gripper_at_most_once(make_tiny, look):
    """The probability of closing rises along the chunk, so one quantile crosses it once."""
    counts = {}
    for exploration in ("token", "chunk"):
        policy = make_tiny(exploration)
        policy.model.forward = lambda *_: ramp(40)
        policy.reset(range(40))
        counts[exploration] = switches(policy.act([look(i) for i in range(40)], temperature=1.0))
    assert counts["chunk"].max() == 1
    assert counts["token"].max() > 1


def ramp(rows):
    """Logits of a gripper that closes with probability 1/9, 2/9, ..., 8/9 along the chunk."""
    logits = torch.full((rows, 8, 7, 256), -30.0)
    share = torch.arange(1, 9) / 9
    logits[..., 0], logits[..., 255] = (1 - share).log()[:, None], share.log()[:, None]
    return logits


@pytest.mark.parametrize("temperature", [1e-6, 0.049, -1.0])
def test_a_temperature_that_explodes_ratios_is_refused(make_tiny, look, temperature):
    policy = make_tiny()
    policy.reset([0])
    with pytest.raises(SettingsError, match=r"at least 0\.05"):
        policy.act([look(0)], temperature=temperature)


def test_prompts_of_different_lengths_do_not_disturb_each_other(make_tiny, look):
    policy = make_tiny()
    short, long = look(0, "turn on the stove"), look(1, "put both the cream cheese box and the butter in the basket")
    with torch.no_grad():
        together = policy.model(*policy.collate([short, long]))
        alone = policy.model(*policy.collate([short]))
    assert torch.allclose(together[0], alone[0], atol=1e-5)


def test_the_instruction_the_picture_and_the_body_matter(make_tiny, look):
    policy, view = make_tiny(), look(0)
    changed = [
        look(0, "turn on the stove"),
        Observation(look(1).images, view.instruction, view.proprio),
        Observation(view.images, view.instruction, view.proprio + np.float32(0.1)),
    ]
    with torch.no_grad():
        logits = policy.model(*policy.collate([view, *changed]))
    assert min(float((logits[0] - other).abs().max()) for other in logits[1:]) > 1e-4


def test_rotations_near_180_degrees_do_not_jump():
    """An axis-angle of pi about x and one of -pi about x are the same rotation."""
    angle = np.pi - 1e-4
    body = torch.zeros(2, 8)
    body[0, 3], body[1, 3] = angle, -angle
    features = body_features(body)
    assert (features[0] - features[1]).abs().max() < 1e-3
    assert (body[0] - body[1]).abs().max() > 6


def test_rotation_columns_by_hand():
    """A quarter turn about z takes x to y and y to -x."""
    body = torch.zeros(1, 8)
    body[0, 5] = np.pi / 2
    assert body_features(body)[0, 3:9] == pytest.approx([0, 1, 0, -1, 0, 0], abs=1e-6)


@pytest.mark.parametrize(
    ("images", "match"),
    [
        ({"agentview": np.zeros((16, 16, 3), np.uint8)}, "robot0_eye_in_hand"),
        ({name: np.zeros((8, 8, 3), np.uint8) for name in ("agentview", "robot0_eye_in_hand")}, r"\(16, 16, 3\)"),
    ],
)
def test_wrong_pictures_are_named(make_tiny, images, match):
    policy = make_tiny()
    policy.reset([0])
    with pytest.raises(PolicyError, match=match):
        policy.act([Observation(images, "turn on the stove", np.zeros(8, np.float32))])


def test_missing_proprioception_is_named(make_tiny, look):
    policy = make_tiny()
    policy.reset([0])
    with pytest.raises(PolicyError, match="proprioception"):
        policy.act([Observation(look(0).images, "turn on the stove")])


def test_default_size_is_small():
    assert 1e6 < sum(p.numel() for p in TinyModel(TinyConfig()).parameters()) < 3e6


def test_half_precision_weights_load(make_tiny, tmp_path):
    policy = make_tiny()
    policy.save(tmp_path, {name: value.half() for name, value in policy.model.state_dict().items()})
    assert all(p.dtype == torch.float32 for p in load(tmp_path).model.parameters())


def test_exploration_is_part_of_the_checkpoint(make_tiny, tmp_path):
    make_tiny("chunk").save(tmp_path)
    assert TinyPolicy.load(tmp_path).exploration == "chunk"


def damage_missing(folder):
    (folder / "model.safetensors").unlink()


def damage_cut(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def damage_shape(folder):
    weights = load_file(folder / "model.safetensors")
    save_file(weights | {"head.bias": torch.zeros(3)}, folder / "model.safetensors")


def damage_name(folder):
    weights = load_file(folder / "model.safetensors")
    weights["tail.bias"] = weights.pop("head.bias")
    save_file(weights, folder / "model.safetensors")


@pytest.mark.parametrize("damage", [damage_missing, damage_cut, damage_shape, damage_name])
def test_damaged_weights_are_one_clear_error(make_tiny, tmp_path, damage):
    make_tiny().save(tmp_path)
    damage(tmp_path)
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        load(tmp_path)


def test_an_unknown_size_is_refused(make_tiny, tmp_path):
    make_tiny().save(tmp_path)
    description = msgspec.json.decode((tmp_path / "policy.json").read_bytes())
    description["config"]["depth"] = 3
    (tmp_path / "policy.json").write_bytes(msgspec.json.encode(description))
    with pytest.raises(SettingsError, match="depth"):
        load(tmp_path)


def test_the_shipped_policy_acts_with_the_probabilities_that_training_computes(look):
    """Sharp logits at a low temperature, where the rounding of odd batches came to 2.3e-5 nat; seeds 0 to 7."""
    policy = load(CHECKPOINTS / "tiny-libero")
    views = [look(i, size=policy.spec.observation.size) for i in range(8)]
    with torch.no_grad():
        everything = tokens.log_probs_of_bins(policy.model(*policy.collate(views)), 0.5)
    for rows in ([0], [1, 2], [3, 4, 5], [0, 1, 4, 6, 7]):
        policy.reset(range(8))
        chunks = policy.act([views[row] for row in rows], temperature=0.5, rows=rows)
        chosen = torch.from_numpy(np.stack([chunk.tokens for chunk in chunks]))
        acted = np.stack([chunk.log_probs for chunk in chunks])
        assert np.abs(tokens.gather(everything[rows], chosen).numpy() - acted).max() < 1e-5
