"""The learner of the tiny VLA trains OpenVLA and OpenVLA-OFT unchanged."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tgrpo.errors import CheckpointError, SettingsError
from tgrpo.learner import Learner, LearnerSettings
from tgrpo.policies import load
from tgrpo.policies.adapters import Adapters
from tgrpo.policies.openvla import OpenVLA
from tgrpo.policies.openvla_oft import OpenVLAOFT
from tgrpo.policies.openvla_policy import VlaPolicy
from tgrpo.policies.simple import RandomPolicy
from tgrpo.policies.trainable import Trainable, load_trainable
from tgrpo.policies.vla.settings import VlaSettings
from tgrpo.types import RolloutGroup, Trajectory

HEADS = (4, 4)
SMALL = {"vit_heads": HEADS, "key": "libero_spatial"}
TEXTS = ("turn on the stove", "pick up the basket")


@pytest.fixture(params=["openvla", "openvla_oft"])
def policy(request, official):
    """A model of its own, because training changes it in place."""
    model = OpenVLA if request.param == "openvla" else OpenVLAOFT
    options = {"check": False} if model is OpenVLA else {}
    return VlaPolicy(
        model.from_pretrained(official, vit_heads=HEADS, **options), VlaSettings(kind=request.param, **SMALL)
    )


@pytest.fixture
def rollouts(look):
    """Two rollouts of two decisions with prompts of different lengths; the first one pays."""

    def play(policy):
        trajectories = []
        for place, reward in enumerate((1.0, 0.0)):
            policy.reset([place])
            views = [look(10 * place + step, TEXTS[place], size=64) for step in range(2)]
            chunks = [policy.act([view], temperature=1.0)[0] for view in views]
            executed = np.full(2, policy.spec.chunk)
            trajectories.append(Trajectory(views, chunks, executed, np.full(executed.sum(), reward)))
        return RolloutGroup("suite", 0, 0, 0, "hash", trajectories)

    return play


def learner(policy, **settings):
    defaults = {"learning_rate": 1e-4, "lora_rank": 4, "lora_alpha": 8, "epochs": 3, "minibatch": 4}
    policy.prepare_training()
    return Learner(policy, LearnerSettings(**defaults | settings), temperature=1.0, seed=0)


def likelihood(policy, group):
    result = []
    for trajectory in group.trajectories:
        inputs = policy.collate(trajectory.observations)
        chosen = torch.from_numpy(np.stack([chunk.tokens for chunk in trajectory.chunks]))
        with torch.no_grad():
            log_probs = policy.logits(inputs, chosen).log_softmax(-1)
        result.append(float(log_probs.gather(-1, chosen[..., None]).mean()))
    return np.array(result)


def test_is_trainable(policy, tmp_path):
    assert isinstance(policy, Trainable)
    policy.save(tmp_path)
    assert load_trainable(tmp_path).spec == policy.spec
    RandomPolicy().save(tmp_path)
    with pytest.raises(SettingsError, match="RandomPolicy, which has nothing to train"):
        load_trainable(tmp_path)


def test_learns_saves_adapters_only_and_loads_again(policy, rollouts, look, tmp_path):
    group, student = rollouts(policy), learner(policy)
    before = likelihood(policy, group)
    frozen = {name: value.clone() for name, value in policy.model.state_dict().items() if ".lora_" not in name}
    update = student.update([group])
    assert update.reproduction_error < 1e-4
    assert update.grad_norm > 0
    change = likelihood(policy, group) - before
    assert change[0] > 0 > change[1]
    assert all(torch.equal(value, policy.model.state_dict()[name]) for name, value in frozen.items())

    student.export(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter.safetensors", "policy.json"]
    stored = load_file(tmp_path / "adapter.safetensors")
    assert all(name.startswith("language_model.model.layers.") and ".lora_" in name for name in stored)
    again = load(tmp_path)
    inputs = policy.collate([look(0, TEXTS[0], size=64)])
    chosen = torch.full((1, policy.spec.chunk, 7), 100)
    with torch.no_grad():
        assert torch.equal(policy.logits(inputs, chosen), again.logits(inputs, chosen))
    with pytest.raises(SettingsError, match="already has adapters"):
        again.prepare_training()


def test_a_learner_that_was_saved_continues_with_the_same_losses(policy, rollouts, tmp_path):
    group, through = rollouts(policy), learner(policy, minibatch=2, epochs=1)
    through.update([group])
    through.save_state(tmp_path, {"iteration": 1})
    expected = through.update([group])
    through.load_state(tmp_path)
    assert through.update([group]) == expected


def test_adapters_off_is_the_base_bit_for_bit(policy, look):
    inputs, chosen = policy.collate([look(0, TEXTS[0], size=64)]), torch.full((1, policy.spec.chunk, 7), 100)
    with torch.no_grad():
        base = policy.logits(inputs, chosen)
        adapters = Adapters(policy.model, "lora", 4, 8, policy.lora_targets)
        for value in adapters.parameters():
            value.add_(0.1)
        assert (policy.logits(inputs, chosen) - base).abs().max() > 1e-2
        with adapters.off():
            assert torch.equal(policy.logits(inputs, chosen), base)


def test_saving_memory_changes_no_gradient(policy, look):
    inputs, chosen = policy.collate([look(0, TEXTS[0], size=64)]), torch.full((1, policy.spec.chunk, 7), 100)
    adapters = Adapters(policy.model, "lora", 4, 8, policy.lora_targets)
    gradients = []
    for _ in range(2):
        for value in adapters.parameters():
            value.grad = None
        policy.logits(inputs, chosen).log_softmax(-1).square().mean().backward()
        gradients.append([value.grad.clone() for value in adapters.parameters()])
        policy.prepare_training()
    assert all(torch.allclose(first, second, atol=1e-6) for first, second in zip(*gradients, strict=True))
    policy.reset([0])
    [chunk] = policy.act([look(0, TEXTS[0], size=64)], temperature=1.0)
    assert np.isfinite(chunk.log_probs).all()


def test_a_base_in_half_precision_has_adapters_in_full(official, rollouts):
    vla = OpenVLA.from_pretrained(official, HEADS, dtype=torch.bfloat16, check=False)
    policy = VlaPolicy(vla, VlaSettings(kind="openvla", **SMALL))
    group, student = rollouts(policy), learner(policy)
    update = student.update([group])
    trained = [value for value in policy.model.parameters() if value.requires_grad]
    assert {value.dtype for value in trained} == {torch.float32}
    assert policy.model.dtype == torch.bfloat16
    # The random logits have a deviation of 17, of which bfloat16 keeps 8 bits; a wrong mask would be off by tens.
    assert update.reproduction_error < 0.5


def test_frozen_features_are_computed_once(policy, rollouts, monkeypatch):
    calls = []
    see = policy.see
    group = rollouts(policy)
    monkeypatch.setattr(policy, "see", lambda inputs: calls.append(len(inputs[0])) or see(inputs))
    learner(policy, epochs=5).update([group])
    assert calls == [4]


def test_what_cannot_be_saved_or_loaded_is_named(policy, tmp_path):
    student = learner(policy, adapter="full")
    with pytest.raises(SettingsError, match="lora"):
        student.export(tmp_path)


def test_a_damaged_adapter_is_one_clear_error(policy, rollouts, tmp_path):
    learner(policy).export(tmp_path)
    file = tmp_path / "adapter.safetensors"
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(CheckpointError, match=r"adapter\.safetensors"):
        load(tmp_path)
    file.unlink()
    with pytest.raises(CheckpointError, match=r"adapter\.safetensors"):
        load(tmp_path)
