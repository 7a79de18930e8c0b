"""The engine decides what the network decides without it, in every size of batch and with every adapter."""

import numpy as np
import pytest
import torch
from transformers.models.llama.configuration_llama import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaModel

from tgrpo.errors import CheckpointError
from tgrpo.policies.adapters import Adapters
from tgrpo.policies.openvla import OpenVLA
from tgrpo.policies.openvla_oft import OpenVLAOFT
from tgrpo.policies.openvla_policy import VlaPolicy
from tgrpo.policies.vla.engine import Engine
from tgrpo.policies.vla.prompts import KNOWN_IDS, ids_of
from tgrpo.policies.vla.recorder import Recorder
from tgrpo.policies.vla.trunk import Trunk, additive

HEADS = (4, 4)
PROMPTS = [list(KNOWN_IDS), list(KNOWN_IDS[:5] + KNOWN_IDS[9:]), list(KNOWN_IDS[:3] + KNOWN_IDS[-4:])]
TARGETS = VlaPolicy.lora_targets


@pytest.fixture(params=[OpenVLA, OpenVLAOFT])
def model(request, official):
    """A model of its own, because adapters change it in place."""
    return request.param.from_pretrained(official, vit_heads=HEADS, check=False)


@pytest.fixture
def pixels():
    return torch.rand(3, 6, 224, 224, generator=torch.Generator().manual_seed(3)) * 4 - 2


def uncached(model, chosen, rows, pixels):
    """Logits of single passes of the training code for what was chosen ``(B, K, A, V)``."""
    with torch.no_grad():
        if isinstance(model, OpenVLAOFT):
            parts = [model.action_logits([PROMPTS[row]], pixels[row : row + 1]) for row in rows]
        else:
            ids = ids_of(chosen.bins[:, 0])
            parts = [
                model.action_logits([PROMPTS[row]], pixels[row : row + 1], ids[place : place + 1])[:, None]
                for place, row in enumerate(rows)
            ]
    return torch.cat(parts).flip(-1)


@pytest.mark.parametrize("rows", [(0, 1, 2), (0, 1, 2, 0, 1, 2), (2,)])
@pytest.mark.parametrize("sizes", [(), (1, 2, 4)])
def test_every_size_of_batch_decides_like_single_passes(model, pixels, rows, sizes):
    model.engine = Engine(model.network, model._decide, sizes)
    quantiles = torch.from_numpy(np.random.default_rng(0).random((len(rows), model.chunk, 7)))
    chosen = model.sample([PROMPTS[row] for row in rows], pixels[list(rows)], temperature=1.0, quantiles=quantiles)
    logits = uncached(model, chosen, rows, pixels)
    assert (chosen.logits - logits).abs().max() < 1e-4
    wanted = logits.log_softmax(-1).gather(-1, chosen.bins[..., None])[..., 0]
    assert (chosen.log_probs - wanted).abs().max() < 1e-4


def test_adapters_count_as_they_are_at_each_decision(model, pixels):
    chosen = [model.sample(PROMPTS, pixels)]
    adapters = Adapters(model.network, "lora", 4, 8, TARGETS)
    generator = torch.Generator().manual_seed(1)
    for _ in range(2):
        with torch.no_grad():
            for value in adapters.parameters():
                value.add_(torch.randn(value.shape, generator=generator) * 0.05)
        chosen.append(model.sample(PROMPTS, pixels))
        assert (chosen[-1].logits - uncached(model, chosen[-1], range(3), pixels)).abs().max() < 1e-4
    with adapters.off():
        off = model.sample(PROMPTS, pixels)
    assert torch.equal(off.logits, chosen[0].logits)
    assert torch.equal(model.sample(PROMPTS, pixels).logits, chosen[2].logits)
    assert all((one.logits - chosen[0].logits).abs().max() > 0.1 for one in chosen[1:])


def test_adapters_of_some_layers_only(model, pixels):
    adapters = Adapters(model.network, "lora", 2, 8, r".*layers\.1\..*(v_proj|down_proj)")
    with torch.no_grad():
        for value in adapters.parameters():
            value.add_(0.03)
    chosen = model.sample(PROMPTS, pixels)
    assert (chosen.logits - uncached(model, chosen, range(3), pixels)).abs().max() < 1e-4


def test_recordings_stay_valid_while_adapters_keep_their_memory(official):
    model = OpenVLA.from_pretrained(official, HEADS, check=False)
    trunk = model.network.trunk
    assert trunk.refresh() == 0
    adapters = Adapters(model.network, "lora", 4, 8, TARGETS)
    assert trunk.refresh() == 1
    with torch.no_grad():
        adapters.parameters()[0].add_(1.0)
    assert trunk.refresh() == 1
    with adapters.off():
        assert trunk.refresh() == 2


def test_there_is_one_copy_of_the_weights(official):
    model = OpenVLA.from_pretrained(official, HEADS, check=False)
    llama = model.network.language_model.model
    before = [value.clone() for value in llama.parameters()]
    trunk = Trunk(llama)
    assert all(torch.equal(one, other) for one, other in zip(before, llama.parameters(), strict=True))
    storages = {value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() for value in llama.parameters()}
    assert sum(storages.values()) == sum(value.numel() * 4 for value in before)
    x, places = torch.randn(1, 5, 128), torch.arange(5)[None]
    with torch.no_grad():
        first = trunk(x, places, None)
        llama.layers[0].self_attn.v_proj.weight.mul_(2)
        second, wanted = trunk(x, places, None), llama(inputs_embeds=x).last_hidden_state
    assert (first - second).abs().max() > 1e-3
    assert torch.allclose(second, wanted, atol=1e-5)


@pytest.mark.parametrize("key_heads", [4, 2, 1])
def test_trunk_against_transformers_in_one_pass_and_token_by_token(key_heads):
    config = LlamaConfig(
        vocab_size=10,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=key_heads,
    )
    torch.manual_seed(0)
    llama = LlamaModel(config).eval()
    trunk, x, places = Trunk(llama), torch.randn(2, 6, 32), torch.arange(6).expand(2, -1)
    seen = torch.ones(2, 6, dtype=torch.bool)
    with torch.no_grad():
        wanted = llama(inputs_embeds=x).last_hidden_state
        cache = trunk.cache(2, 6)
        steps = [trunk(x[:, :3], places[:, :3], None, cache)]
        for place in range(3, 6):
            one = slice(place, place + 1)
            steps.append(trunk(x[:, one], places[:, one], additive(seen[:, : place + 1], x.dtype), cache, place))
        assert torch.allclose(trunk(x, places, None), wanted, atol=1e-5)
    assert torch.allclose(torch.cat(steps, 1), wanted, atol=1e-5)


def test_a_mask_that_lies_is_noticed_at_loading(official, monkeypatch):
    """Decisions with a cache that drops the past look plausible; only the comparison with single passes tells."""
    call = Trunk.__call__

    def forgetful(self, x, places, mask, cache=None, start=0):
        if mask is not None and cache is not None:
            mask = torch.full_like(mask, float("-inf"))
            mask[..., -1] = 0.0
        return call(self, x, places, mask, cache, start)

    monkeypatch.setattr(Trunk, "__call__", forgetful)
    with pytest.raises(CheckpointError, match=r"\(with a cache\) .* \(without one\)"):
        OpenVLA.from_pretrained(official, HEADS)
    OpenVLA.from_pretrained(official, HEADS, check=False)


def test_attention_that_looks_back_only_is_noticed_at_loading(official, monkeypatch):
    call = Trunk.__call__
    monkeypatch.setattr(Trunk, "__call__", lambda self, x, places, mask, *rest: call(self, x, places, None, *rest))
    with pytest.raises(CheckpointError, match="do not compute the same"):
        OpenVLAOFT.from_pretrained(official, vit_heads=HEADS)


def test_batches_have_few_sizes():
    sizes = []

    def double(value):
        sizes.append(len(value))
        return (value * 2,)

    recorder = Recorder(double, torch.device("cpu"), rows=(1, 4, 8))
    for count in (1, 2, 4, 5, 8, 19):
        batch = torch.arange(float(count))
        [result] = recorder(batch)
        assert torch.equal(result, 2 * batch)
    assert sizes == [1, 4, 4, 8, 8, 8, 8, 4]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_recordings_decide_like_the_processor(official, pixels):
    for kind in (OpenVLA, OpenVLAOFT):
        slow = kind.from_pretrained(official, vit_heads=HEADS)
        fast = kind.from_pretrained(official, vit_heads=HEADS, device="cuda")
        adapters = [Adapters(model.network, "lora", 4, 8, TARGETS) for model in (slow, fast)]
        for change in (0.0, 0.02, 0.04):
            with torch.no_grad():
                for one in adapters:
                    for value in one.parameters():
                        value.add_(change)
            for rows in (1, 3, 2):
                wanted, found = (model.sample(PROMPTS[:rows], pixels[:rows]) for model in (slow, fast))
                assert torch.equal(wanted.bins, found.bins.cpu())
                assert (wanted.logits - found.logits.cpu()).abs().max() < 1e-2
