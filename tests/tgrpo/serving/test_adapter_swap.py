"""Adapters of one base replace each other in place, between two batches; everything else keeps the old."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tgrpo.errors import CheckpointError
from tgrpo.policies import load as load_policy
from tgrpo.policies.adapters import Adapters
from tgrpo.serving import control
from tgrpo.serving.model import load

_path = Path(__file__).resolve().parents[1] / "policies" / "conftest.py"
_spec = importlib.util.spec_from_file_location("policy_parts", _path)
parts = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(parts)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served") / "base"
    folder.mkdir()
    parts.save_talkative(folder)
    return folder


@pytest.fixture(scope="module")
def trained(base):
    """Checkpoints of two trained adapters, and one of another rank."""
    folders = []
    for place, rank in enumerate((4, 4, 2)):
        policy = load_policy(base)
        adapters = Adapters(policy.model, "lora", rank, 8, policy.lora_targets)
        generator = torch.Generator().manual_seed(place)
        with torch.no_grad():
            for value in adapters.parameters():
                value.add_(torch.randn(value.shape, generator=generator) * 0.1)
        folders.append(base.parent / f"trained{place}")
        folders[-1].mkdir()
        policy.save_trained(folders[-1], adapters)
    return folders


@pytest.fixture
def owned(make_core, base, tmp_path):
    core = make_core(load(base))
    made = control.Control(core, tmp_path / "run" / "serve.sock")
    yield core, tmp_path / "run" / "serve.sock"
    made.close()


def tokens(policy):
    policy.reset([0])
    return policy.act([parts.observation(3, "turn on the stove", size=64)])[0].tokens


def test_adapters_replace_each_other_on_one_base(owned, base, trained):
    core, path = owned
    policy, start = core.model.policy, tokens(core.model.policy)
    answers = []
    for folder in (trained[0], trained[1], base, trained[0]):
        version = control.swap(folder, path, 60)
        assert core.model.policy is policy
        assert version == core.model.version
        assert version.startswith(f"{folder.name}@")
        answers.append(tokens(core.model.policy))
        assert np.array_equal(answers[-1], tokens(load_policy(folder)))
    assert np.array_equal(answers[2], start)
    assert not np.array_equal(answers[0], start)
    assert not np.array_equal(answers[0], answers[1])


def test_an_adapter_of_another_rank_comes_with_a_base_of_its_own(owned, trained):
    core, path = owned
    control.swap(trained[0], path, 60)
    policy = core.model.policy
    control.swap(trained[2], path, 60)
    assert core.model.policy is not policy
    assert np.array_equal(tokens(core.model.policy), tokens(load_policy(trained[2])))


@pytest.mark.parametrize("harm", ["cut", "nan", "other weights", "does not answer"])
def test_a_bad_adapter_leaves_the_old_one_in_place(owned, trained, tmp_path, harm, monkeypatch):
    core, path = owned
    control.swap(trained[0], path, 60)
    old, version = tokens(core.model.policy), core.model.version
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "policy.json").write_bytes((trained[1] / "policy.json").read_bytes())
    weights = load_file(trained[1] / "adapter.safetensors")
    if harm == "nan":
        next(iter(weights.values())).view(-1)[0] = float("nan")
    if harm == "other weights":
        weights.popitem()
    save_file(weights, bad / "adapter.safetensors")
    if harm == "cut":
        file = bad / "adapter.safetensors"
        file.write_bytes(file.read_bytes()[:-9])
    if harm == "does not answer":
        monkeypatch.setattr(core.model.policy, "act", lambda *_, **__: 1 / 0)
    with pytest.raises(CheckpointError, match="keeps its policy"):
        control.swap(bad, path, 60)
    monkeypatch.undo()
    assert core.model.version == version
    assert np.array_equal(tokens(core.model.policy), old)
