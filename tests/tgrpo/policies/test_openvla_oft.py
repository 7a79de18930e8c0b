"""OpenVLA-OFT: bidirectional attention, what stands where in the sequence, and each of its options.

The reference is a Llama written out here from its equations, one row at a time, without cache, mask or padding.
"""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional

from tgrpo.errors import CheckpointError, PolicyError, SettingsError, UnknownNameError
from tgrpo.policies import tokens
from tgrpo.policies.openvla_oft import OpenVLAOFT
from tgrpo.policies.vla.prompts import KNOWN_IDS, SPACE_ID, STOP_ID

HEADS, WIDTH, LAYERS = (4, 4), 128, 3
LONG = list(KNOWN_IDS)
SHORT = LONG[:3] + LONG[-4:]


def norm(x, weight):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * weight


def rotated(x, heads):
    """Rotary embedding of ``(S, E)``, as Llama pairs dimensions: the first half of a head with the second."""
    parts = x.unflatten(-1, (heads, -1))
    half = parts.shape[-1] // 2
    angles = torch.arange(len(x))[:, None] * 10000.0 ** (-torch.arange(half) / half)
    cos, sin = angles.cos()[:, None], angles.sin()[:, None]
    first, second = parts[..., :half], parts[..., half:]
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


def plain_llama(weights, x, heads=4):
    """Last hidden states of ``(S, E)``; every place sees every place."""
    for layer in range(LAYERS):
        get = lambda name, layer=layer: weights[f"language_model.model.layers.{layer}.{name}.weight"]  # noqa: E731
        y = norm(x, get("input_layernorm"))
        q, k = (rotated(y @ get(f"self_attn.{name}_proj").T, heads) for name in "qk")
        v = (y @ get("self_attn.v_proj").T).unflatten(-1, (heads, -1))
        scores = torch.einsum("qhd,khd->hqk", q, k) / q.shape[-1] ** 0.5
        mixed = torch.einsum("hqk,khd->qhd", scores.softmax(-1), v).flatten(1)
        x = x + mixed @ get("self_attn.o_proj").T
        y = norm(x, get("post_attention_layernorm"))
        x = x + (functional.silu(y @ get("mlp.gate_proj").T) * (y @ get("mlp.up_proj").T)) @ get("mlp.down_proj").T
    return norm(x, weights["language_model.model.norm.weight"])


def plain_hidden(weights, prompt, patches, *, stop=True):
    """The 56 hidden states of one row; ``patches`` ``(any, E)`` go in behind the first token."""
    table = weights["language_model.model.embed_tokens.weight"]
    words = table[torch.tensor([*prompt, SPACE_ID])]
    tail = [torch.zeros(56, WIDTH)] + ([table[STOP_ID][None]] if stop else [])
    hidden = plain_llama(weights, torch.cat([words[:1], patches, words[1:], *tail]))
    first = len(patches) + len(words) - 1
    return hidden[first : first + 56]


@pytest.fixture(scope="module")
def weights(official):
    return load_file(official / "model.safetensors")


@pytest.fixture(scope="module")
def pictures(golden):
    return torch.stack([golden["img224"][0], golden["img224"][0].flip(1)])


@pytest.fixture(scope="module")
def load(official, components):
    def build(**options):
        return OpenVLAOFT.from_pretrained(official, components, vit_heads=HEADS, **options)

    return build


@pytest.mark.parametrize("stop", [True, False], ids=["official and SimpleVLA-RL", "RLinf"])
def test_hidden_states_of_ragged_prompts(load, weights, pictures, stop):
    oft = load(append_stop_token=stop)
    pixels = oft.preprocess(pictures)
    with torch.no_grad():
        hidden = oft.chunk_hidden([LONG, SHORT], pixels)
        patches = oft.network.project(oft.network.see(pixels))
        for row, prompt in enumerate((LONG, SHORT)):
            assert (hidden[row] - plain_hidden(weights, prompt, patches[row], stop=stop)).abs().max() < 1e-4


def test_logits_are_those_of_the_256_ids_in_order(oft, weights, pictures):
    pixels = oft.preprocess(pictures[:1])
    with torch.no_grad():
        hidden, logits = oft.chunk_hidden([LONG], pixels), oft.action_logits([LONG], pixels)
    wanted = hidden[0] @ weights["language_model.lm_head.weight"].T
    assert logits.shape == (1, 8, 7, 256)
    assert torch.allclose(logits[0].flatten(0, 1), wanted[:, 31744:32000], atol=1e-4)


def test_the_last_prompt_token_reaches_the_first_patch(oft, pictures):
    """The opposite of OpenVLA's causal attention; transformers would silently fall back to that."""
    first = []
    for last in (3744, 1554):
        ids = torch.tensor([[*LONG[:-1], last, SPACE_ID]])
        with torch.no_grad():
            patches = oft.network.project(oft.network.see(oft.preprocess(pictures[:1])))
            context = oft.network.context(ids, torch.ones_like(ids, dtype=torch.bool), [patches])
            first.append(oft.network.think(context, bidirectional=True)[0, 1])
    assert (first[0] - first[1]).abs().max() > 1e-3


def test_two_pictures_and_proprioception(load, weights, components, pictures):
    oft = load(num_images=2, proprio=True)
    pixels = oft.preprocess(pictures[None])
    state = np.linspace(-0.8, 0.8, 8)
    projector = load_file(components / "proprio_projector.safetensors")
    token = functional.gelu(projector["fc1.weight"] @ torch.from_numpy(state).float() + projector["fc1.bias"])
    token = projector["fc2.weight"] @ token + projector["fc2.bias"]
    with torch.no_grad():
        single = [oft.network.project(oft.network.see(oft.preprocess(picture[None])))[0] for picture in pictures]
        hidden = oft.chunk_hidden([LONG], pixels, state[None])
    wanted = plain_hidden(weights, LONG, torch.cat([*single, token[None]]))
    assert (hidden[0] - wanted).abs().max() < 1e-4


def test_l1_head(load, components, pictures):
    oft = load(head="l1")
    pixels = oft.preprocess(pictures)
    head = load_file(components / "action_head.safetensors")

    def part(name):
        return head[f"model.{name}.weight"], head[f"model.{name}.bias"]

    with torch.no_grad():
        hidden = oft.chunk_hidden([LONG, SHORT], pixels)
        x = hidden.reshape(2, 8, 7 * WIDTH)
        x = functional.linear(functional.layer_norm(x, (7 * WIDTH,), *part("layer_norm1")), *part("fc1")).relu()
        for block in range(2):
            y = functional.layer_norm(x, (WIDTH,), *part(f"mlp_resnet_blocks.{block}.ffn.0"))
            x = x + functional.linear(y, *part(f"mlp_resnet_blocks.{block}.ffn.1")).relu()
        wanted = functional.linear(functional.layer_norm(x, (WIDTH,), *part("layer_norm2")), *part("fc2")).numpy()
    values = oft.regress([LONG, SHORT], pixels)
    assert np.abs(values - wanted).max() < 1e-5
    actions = oft.predict([LONG, SHORT], pixels, "libero_spatial")
    ranges = oft.folder.ranges("libero_spatial").action
    assert np.allclose(
        actions[..., :6], 0.5 * (values[..., :6] + 1) * (ranges.high - ranges.low + 1e-8)[:6] + ranges.low[:6]
    )
    assert np.array_equal(actions[..., 6], values[..., 6])


def test_film_follows_the_instruction_block_by_block(load, oft, components, pictures):
    """The first block by hand; a scale and shift of zero would leave the features as they are."""
    film = load(film=True)
    tower, plain = film.network.vision_backbone.featurizer, oft.network.vision_backbone.featurizer
    stored = load_file(components / "vision_backbone.safetensors")
    language, x = torch.randn(1, WIDTH), torch.randn(1, 5, 64)
    scale, shift = (
        stored[f"vision_backbone.featurizer.blocks.0.{name}.weight"] @ language[0] for name in ("scale", "shift")
    )
    with torch.no_grad():
        block = plain.blocks[0]
        y = x + block.ls1(block.attn(block.norm1(x)))
        y = y * (1 + scale) + shift
        y = y + block.ls2(block.mlp(block.norm2(y)))
        assert torch.allclose(tower.blocks[0](x, language), y, atol=1e-5)
        for layer in (layer for block in tower.blocks for layer in (block.scale, block.shift)):
            layer.weight.zero_()
        other = film.network.vision_backbone.fused_featurizer
        for layer in (layer for block in other.blocks for layer in (block.scale, block.shift)):
            layer.weight.zero_()
        pixels = film.preprocess(pictures[:1])
        assert torch.allclose(film.chunk_hidden([LONG], pixels), oft.chunk_hidden([LONG], pixels), atol=1e-5)


@pytest.mark.parametrize("stop", [True, False])
def test_film_sees_the_mean_of_all_words(load, weights, pictures, monkeypatch, stop):
    film = load(film=True, append_stop_token=stop)
    seen = []
    see = film.network.vision_backbone.forward
    monkeypatch.setattr(
        film.network.vision_backbone, "forward", lambda p, language: seen.append(language) or see(p, language)
    )
    with torch.no_grad():
        film.chunk_hidden([LONG, SHORT], film.preprocess(pictures))
    for row, prompt in enumerate((LONG, SHORT)):
        ids = [*prompt, SPACE_ID, *([STOP_ID] if stop else [])]
        wanted = weights["language_model.model.embed_tokens.weight"][torch.tensor(ids)].mean(0)
        assert torch.allclose(seen[0][row], wanted, atol=1e-5)


def test_probabilities_of_the_rollout_are_those_of_training(oft, pictures):
    pixels = oft.preprocess(pictures)
    quantiles = torch.from_numpy(np.random.default_rng(0).random((2, 8, 7)))
    chosen = oft.sample([LONG, SHORT], pixels, temperature=1.6, quantiles=quantiles)
    with torch.no_grad():
        logits = torch.cat([oft.action_logits([LONG], pixels[:1]), oft.action_logits([SHORT], pixels[1:])])
    everything = tokens.log_probs_of_bins(logits.flip(-1), 1.6)
    assert (tokens.gather(everything, chosen.bins) - chosen.log_probs).abs().max() < 1e-4
    assert np.array_equal(oft.sample([LONG], pixels[:1]).bins, logits[:1].flip(-1).argmax(-1))


def test_predictions_are_the_centres_of_the_likeliest_bins(oft, pictures):
    pixels = oft.preprocess(pictures[:1])
    bins = oft.sample([LONG], pixels).bins.numpy()
    centres = (-1 + 2 * (np.minimum(bins, 254) + 0.5) / 255).astype(float)
    assert np.allclose(oft.predict([LONG], pixels, "libero_spatial"), oft.expand(centres, "libero_spatial"), atol=1e-12)


def test_proprioception_is_normalised_and_clipped(load):
    oft = load(proprio=True)
    state = oft.normalise_proprio([[-0.9, 0.9, 0.0, 5.0, -5.0, 0.45, 0.0, 0.0]])
    assert state[0] == pytest.approx([-1, 1, 0, 1, -1, 0.5, 0, 0], abs=1e-7)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"head": "diffusion"}, UnknownNameError, "discrete, l1"),
        ({"num_images": 3}, SettingsError, "1 .* or 2"),
        ({"head": "l1", "components": None}, CheckpointError, "tgrpo convert"),
        ({"proprio": True, "components": None}, CheckpointError, "proprio_projector"),
        ({"film": True, "components": None}, CheckpointError, "vision_backbone"),
    ],
)
def test_options_that_do_not_fit_are_refused(official, components, options, error, match):
    with pytest.raises(error, match=match):
        OpenVLAOFT.from_pretrained(official, **{"components": components, "vit_heads": HEADS} | options)


def test_what_the_head_cannot_do_is_refused(load, oft, pictures):
    pixels = oft.preprocess(pictures[:1])
    with pytest.raises(SettingsError, match="l1"):
        oft.regress([LONG], pixels)
    with pytest.raises(SettingsError, match="discrete"):
        load(head="l1").sample([LONG], pixels)
    with pytest.raises(PolicyError, match="takes none"):
        oft.chunk_hidden([LONG], pixels, np.zeros((1, 8)))
    with pytest.raises(PolicyError, match="8 numbers"):
        load(proprio=True).chunk_hidden([LONG], pixels)
