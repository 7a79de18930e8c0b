"""OpenVLA and OpenVLA-OFT as policies: what every policy keeps to, and LIBERO's conventions."""

import json

import msgspec
import numpy as np
import pytest
import torch

from tgrpo.errors import CheckpointError, PolicyError, SettingsError
from tgrpo.policies import Policy, bins, load
from tgrpo.policies.openvla_policy import VlaPolicy
from tgrpo.policies.vla.pictures import evaluation_view
from tgrpo.policies.vla.settings import VlaSettings
from tgrpo.settings import to_builtins
from tgrpo.spec import check_sees
from tgrpo.types import Observation

SMALL = {"vit_heads": (4, 4), "key": "libero_spatial"}


def describe(folder, **settings):
    description = VlaSettings(**{"kind": "openvla"} | SMALL | settings)
    (folder / "policy.json").write_text(json.dumps(to_builtins(description)))
    return folder


@pytest.fixture(params=["openvla", "openvla_oft"])
def policy(request, vla, oft):
    return VlaPolicy(vla if request.param == "openvla" else oft, VlaSettings(kind=request.param, **SMALL))


@pytest.fixture
def view(look):
    return lambda seed, instruction="turn on the stove": look(seed, instruction, size=64)


def test_follows_the_protocol(policy):
    assert isinstance(policy, Policy)
    spec = policy.spec
    assert (spec.observation.cameras, spec.observation.size) == (("agentview",), 256)
    assert (spec.observation.flip, spec.action.gripper) == ("left_right", "close_positive")
    assert spec.chunk == policy.vla.chunk
    assert policy.normalisation == "libero_spatial"
    # It mirrors its pictures itself, so a robot that shows them upright fits.
    check_sees(spec.observation, msgspec.structs.replace(spec.observation, flip="none"))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_shapes_types_and_ranges(policy, view, temperature):
    policy.reset([1, 2])
    chunks = policy.act([view(0), view(1, "pick up the basket")], temperature=temperature)
    shape = (policy.spec.chunk, 7)
    for chunk in chunks:
        assert chunk.actions.shape == chunk.tokens.shape == shape
        assert (chunk.actions.dtype, chunk.tokens.dtype) == (np.float32, np.int64)
        assert np.abs(chunk.actions).max() <= 1
        assert set(chunk.actions[:, 6]) <= {-1.0, 0.0, 1.0}
        assert (chunk.log_probs is None) == (temperature == 0)
        if temperature:
            assert chunk.log_probs.shape == shape
            assert chunk.log_probs.dtype == np.float32


def test_same_seed_same_episode_in_any_batch(policy, view):
    policy.reset([7, 42])
    [_, crowded] = policy.act([view(5, "pick up the basket"), view(1)], temperature=1.0)
    [late] = policy.act([view(2)], temperature=1.0, rows=[1])
    policy.reset([42])
    for mine, step in ((crowded, 1), (late, 2)):
        [alone] = policy.act([view(step)], temperature=1.0)
        assert np.array_equal(mine.tokens, alone.tokens)
        assert np.allclose(mine.log_probs, alone.log_probs, atol=1e-4)


def test_the_mean_of_the_bins_is_a_setting(policy, view, tmp_path):
    """One token after another each later logit depends on the tokens before, and so is computed from the means here."""
    policy.reset([0])
    [greedy] = policy.act([view(0)])
    policy.mean_temperature = 1.0
    [mean] = policy.act([view(0)])
    with torch.no_grad():
        logits = policy.logits(policy.collate([view(0)]), torch.from_numpy(mean.tokens)[None])[0]
    wanted = (logits.double().softmax(-1) * torch.arange(256)).sum(-1)
    assert np.abs(wanted.numpy() - mean.tokens).max() < 0.501
    assert not np.array_equal(greedy.tokens, mean.tokens)
    policy.save(tmp_path)
    assert load(tmp_path).mean_temperature == 1.0
    policy.mean_temperature = 0.0
    assert np.array_equal(policy.act([view(0)])[0].tokens, greedy.tokens)


def test_a_head_that_regresses_has_no_bins(changed, components):
    folder = describe(changed, kind="openvla_oft", head="l1", components=str(components), mean_temperature=1.0)
    with pytest.raises(SettingsError, match="'l1' does not have"):
        load(folder)
    describe(folder, kind="openvla_oft", head="l1", components=str(components))
    with pytest.raises(SettingsError, match="'l1' does not have"):
        load(folder, 1.0)


def test_a_row_that_was_not_reset_is_refused(policy, view):
    policy.reset([1])
    with pytest.raises(PolicyError, match="reset"):
        policy.act([view(0), view(1)])


def test_actions_are_those_of_the_tokens_in_libero_s_units(policy, view):
    """Bins as everywhere in the project, the range of the data set, then the gripper: open is -1."""
    policy.reset([3])
    [chunk] = policy.act([view(0)], temperature=1.6)
    values = bins.decode(chunk.tokens).astype(float)
    ranges = policy.vla.folder.ranges("libero_spatial").action
    wanted = 0.5 * (values + 1) * (ranges.high - ranges.low) + ranges.low
    assert np.allclose(chunk.actions[:, :6], wanted[:, :6], atol=1e-6)
    assert np.array_equal(chunk.actions[:, 6], np.where(values[:, 6] > 0.5, -1.0, 1.0))


def test_what_the_policy_looks_at_is_mirrored(policy, view):
    [pictures, ids, seen, proprio] = policy.collate([view(0), view(1, "pick up the basket")])
    for row in range(2):
        wanted = evaluation_view(view(row).images["agentview"][:, ::-1])
        assert np.array_equal(pictures[row, 0].numpy(), wanted)
    assert pictures.dtype == torch.uint8
    assert seen.sum(1).tolist() == [
        len(policy.vla.encode(text)) for text in ("turn on the stove", "pick up the basket")
    ]
    assert ids.shape == seen.shape
    assert proprio.shape == (2, 0)


def test_the_crop_is_a_setting(vla, view):
    policy = VlaPolicy(vla, VlaSettings(kind="openvla", crop=False, **SMALL))
    pictures = policy.collate([view(0)])[0]
    assert np.array_equal(pictures[0, 0].numpy(), evaluation_view(view(0).images["agentview"][:, ::-1], crop=False))


@pytest.mark.parametrize(
    "images", [{}, {"agentview": np.zeros((64, 64), np.uint8)}, {"agentview": np.zeros((64, 64, 3), np.float32)}]
)
def test_wrong_pictures_are_named(policy, images):
    policy.reset([0])
    with pytest.raises(PolicyError, match="agentview"):
        policy.act([Observation(images, "turn on the stove")])


def test_an_official_folder_loads(changed, view, vla):
    """The tiny model has other heads than the 7B, which a description beside the weights says."""
    policy = load(describe(changed))
    policy.reset([0])
    [chunk] = policy.act([view(0)])
    pixels = vla.preprocess(evaluation_view(view(0).images["agentview"][:, ::-1])[None])
    ids = vla.generate([vla.encode("turn on the stove")], pixels).numpy()
    assert np.array_equal(chunk.tokens, 31999 - ids)


def test_an_official_folder_needs_no_description(official):
    policy = load(official)
    assert (policy.settings, policy.spec.chunk) == (VlaSettings(kind="openvla"), 1)


def test_everything_of_oft_in_one_folder(changed, components, view):
    for file in components.iterdir():
        (changed / file.name).symlink_to(file)
    with pytest.raises(SettingsError, match=r"nothing in it tells how it was trained.*num_images"):
        load(changed)
    policy = load(describe(changed, kind="openvla_oft", head="l1", num_images=2, proprio=True, film=True))
    assert policy.spec.observation.cameras == ("agentview", "robot0_eye_in_hand")
    assert policy.spec.observation.proprio
    policy.reset([0])
    [chunk] = policy.act([view(0)])
    assert chunk.actions.shape == (8, 7)
    assert chunk.tokens is None
    with pytest.raises(SettingsError, match="cannot sample"):
        policy.act([view(0)], temperature=1.0)
    with pytest.raises(PolicyError, match="proprioception"):
        policy.act([Observation(view(0).images, "turn on the stove")])
    with pytest.raises(SettingsError, match="no probabilities"):
        policy.prepare_training()


def test_a_saved_policy_refers_to_its_base(policy, view, tmp_path):
    policy.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["policy.json"]
    again = load(tmp_path)
    assert again.spec == policy.spec
    chunks = []
    for one in (policy, again):
        one.reset([5])
        chunks += one.act([view(0)], temperature=1.0)
    assert np.array_equal(chunks[0].tokens, chunks[1].tokens)


@pytest.mark.parametrize(
    ("settings", "error", "match"),
    [
        ({"key": "libero_goal"}, SettingsError, "libero_goal"),
        ({"base": "nowhere"}, CheckpointError, "nowhere"),
        ({"kind": "openvla_oft", "head": "l1"}, CheckpointError, "tgrpo convert"),
    ],
)
def test_descriptions_that_do_not_fit_are_refused(changed, settings, error, match):
    with pytest.raises(error, match=match):
        load(describe(changed, **settings))


@pytest.mark.parametrize(
    ("text", "match"),
    [('{"kind": "openvla", "heads": 3}', "heads"), ('{"kind": "openvla", "num_images": 4}', "num_images")],
)
def test_unknown_settings_are_refused(changed, text, match):
    (changed / "policy.json").write_text(text)
    with pytest.raises(SettingsError, match=match):
        load(changed)


def test_statistics_of_another_robot_are_refused(changed):
    entry = {"action": {"q01": [0.0] * 14, "q99": [1.0] * 14}}
    (changed / "dataset_statistics.json").write_text(json.dumps({"aloha": entry}))
    with pytest.raises(CheckpointError, match="14"):
        load(describe(changed, key=None))
