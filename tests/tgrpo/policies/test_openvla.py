"""OpenVLA against the answers of the official code, and everything that could be wrong silently."""

import numpy as np
import pytest
import torch

from tgrpo.errors import CheckpointError, PolicyError, SettingsError, UnknownNameError
from tgrpo.policies import tokens
from tgrpo.policies.openvla import OpenVLA
from tgrpo.policies.vla.prompts import ACTION_IDS, KNOWN_IDS, PAD_ID

HEADS = (4, 4)
LONG = list(KNOWN_IDS)
SHORT = LONG[:3] + LONG[-4:]


@pytest.fixture(scope="module")
def pixels(vla, golden):
    other = golden["img224"].flip(2)
    return vla.preprocess(torch.cat([golden["img224"], other]))


def test_pictures_are_those_of_the_official_processor(vla, golden):
    for picture, wanted in (("img224", "pixel_values"), ("img256", "pixel_values_img256")):
        batch = golden[picture].reshape(-1, *golden[picture].shape[-3:])
        assert torch.equal(vla.preprocess(batch)[:, :, ::8, ::8], golden[wanted])


def test_vision_features_and_projection(vla, golden, pixels):
    with torch.no_grad():
        features = vla.network.see(pixels[:1])
    assert torch.allclose(features[:, ::8], golden["patch_features"], atol=1e-4)
    assert torch.allclose(vla.project(pixels[:1])[:, ::8], golden["projected"], atol=1e-4)


def test_teacher_forced_logits(vla, golden, pixels):
    ids = golden["tf_ids_0"]
    with torch.no_grad():
        logits = vla.action_logits(ids[:, :19], pixels[:1], ids[:, 19:])
    assert (logits - golden["tf_logits_0"]).abs().max() < 1e-4


@pytest.mark.parametrize("marker", [True, False])
def test_greedy_tokens_and_actions_with_and_without_the_lone_space(vla, golden, pixels, marker):
    prompt = golden["greedy_ids_0"][:, : 19 if marker else 18]
    ids = vla.generate(prompt, pixels[:1])
    assert torch.equal(ids, golden["greedy256_ids_0"][:, 19:])
    actions = vla.decode(ids, "libero_spatial")
    assert np.abs(actions[0] - golden["action_0"].numpy()).max() < 1e-12


def test_ids_and_values_of_actions(vla, golden):
    ids = golden["decode_table_ids"].numpy()
    statistics = vla.folder.ranges("libero_spatial").action
    actions = vla.decode(np.tile(ids[:, None], (1, 7)))
    assert np.allclose(actions[:, -1], golden["decode_table_values"], atol=1e-12)
    assert np.allclose(actions[:, 0], statistics.expand(np.tile(golden["decode_table_values"][:, None], 7))[:, 0])


def test_both_ids_of_the_highest_value_mean_the_same_action(vla):
    first, second = (vla.decode(np.full(7, id_)) for id_ in (31744, 31745))
    assert np.array_equal(first, second)
    assert not np.array_equal(second, vla.decode(np.full(7, 31746)))


@pytest.mark.parametrize("id_", [31743, 32000, 2])
def test_an_id_that_is_no_action_is_refused(vla, id_):
    with pytest.raises(PolicyError, match=str(id_)):
        vla.decode(np.array([31800] * 6 + [id_]))


def test_ragged_prompts_give_the_logits_of_single_ones(vla, pixels):
    ids = torch.arange(31800, 31807).expand(2, -1)
    with torch.no_grad():
        together = vla.action_logits([LONG, SHORT], pixels, ids)
        for row, prompt in enumerate((LONG, SHORT)):
            alone = vla.action_logits([prompt], pixels[row : row + 1], ids[row : row + 1])
            assert (together[row] - alone[0]).abs().max() < 1e-4


def test_a_padded_tensor_a_mask_and_lists_are_the_same(vla, pixels):
    padded = torch.tensor([LONG, SHORT + [PAD_ID] * (len(LONG) - len(SHORT))])
    zeros = torch.where(padded == PAD_ID, 0, padded)
    ids = torch.arange(31800, 31807).expand(2, -1)
    with torch.no_grad():
        wanted = vla.action_logits([LONG, SHORT], pixels, ids)
        assert torch.equal(wanted, vla.action_logits(padded, pixels, ids))
        assert torch.equal(wanted, vla.action_logits(zeros, pixels, ids, padded != PAD_ID))


@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.6])
def test_probabilities_of_the_rollout_are_those_of_training(vla, pixels, temperature):
    quantiles = torch.from_numpy(np.random.default_rng(0).random((2, 1, 7)))
    chosen = vla.sample([LONG, SHORT], pixels, temperature=temperature, quantiles=quantiles)
    with torch.no_grad():
        logits = vla.action_logits([LONG, SHORT], pixels, ACTION_IDS.stop - 1 - chosen.bins[:, 0])
    everything = tokens.log_probs_of_bins(logits.flip(-1)[:, None], temperature)
    assert (tokens.gather(everything, chosen.bins) - chosen.log_probs).abs().max() < 1e-4


def test_samples_stay_among_the_actions_and_follow_torchs_seed(vla, pixels):
    draws = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        draws.append(vla.generate([LONG, SHORT], pixels, temperature=1.6))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert all(int(id_) in ACTION_IDS for id_ in torch.stack(draws).flatten())


def test_later_prompt_tokens_do_not_reach_the_patches(vla, pixels):
    """Causal attention, as a contrast to OpenVLA-OFT."""
    first = []
    for last in (3744, 1554):
        ids = torch.tensor([[*LONG[:-1], last]])
        context = vla.network.context(ids, torch.ones_like(ids, dtype=torch.bool), [vla.project(pixels[:1])])
        with torch.no_grad():
            first.append(vla.network.think(context)[0, 1])
    assert torch.equal(*first)


def test_half_precision_keeps_the_rotary_frequencies(official):
    vla = OpenVLA.from_pretrained(official, HEADS, dtype=torch.bfloat16)
    assert vla.network.dtype == torch.bfloat16
    assert vla.network.language_model.model.rotary_emb.inv_freq.dtype == torch.float32
    assert vla.network.language_model.model.rotary_emb.inv_freq[0] == 1


@pytest.mark.parametrize(
    ("prompts", "match"),
    [([[29871]], "<s>"), ([[]], "<s>"), (torch.tensor([[1, PAD_ID, 5]]), "right end")],
)
def test_prompts_that_are_none_are_refused(vla, pixels, prompts, match):
    with pytest.raises(PolicyError, match=match):
        vla.generate(prompts, pixels[:1])


@pytest.mark.parametrize("shape", [(1, 3, 224, 224), (2, 6, 224, 224), (1, 6, 256, 256)])
def test_pictures_of_another_shape_are_refused(vla, shape):
    with pytest.raises(PolicyError, match=r"\(1, 6, 224, 224\)"):
        vla.generate([LONG], torch.zeros(shape))


def test_a_low_temperature_and_wrong_quantiles_are_refused(vla, pixels):
    with pytest.raises(SettingsError, match=r"at least 0\.05"):
        vla.generate([LONG], pixels[:1], temperature=0.01)
    with pytest.raises(PolicyError, match=r"\(1, 1, 7\)"):
        vla.sample([LONG], pixels[:1], temperature=1.0, quantiles=torch.zeros(1, 8, 7))


def test_statistics_are_found_with_and_without_their_ending(vla):
    plain, ending, none = (vla.decode(np.full(7, 31900), key) for key in ("libero_10", "libero_10_no_noops", None))
    assert np.array_equal(plain, ending)
    assert np.array_equal(plain, none)
    with pytest.raises(UnknownNameError, match="libero_spatial"):
        vla.decode(np.full(7, 31900), "libero_goal")


def test_wrong_head_counts_are_refused_or_change_the_answer(official, vla, pixels):
    with pytest.raises(CheckpointError, match="vit_heads"):
        OpenVLA.from_pretrained(official, (16, 7))
    other = OpenVLA.from_pretrained(official, (16, 16), check=False)
    assert not torch.allclose(other.project(pixels[:1]), vla.project(pixels[:1]), atol=1e-2)
