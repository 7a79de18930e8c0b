"""TGRPO from an OpenVLA folder: the trainer's process decides for workers that only simulate."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from sim import train
from sim.cluster.versions import Cache, Shelf
from sim.control import Control
from sim.shared import SharedPolicy
from sim.training import Training
from tgrpo import keys
from tgrpo.errors import DeadlineError, HandshakeError, PolicyError, SettingsError
from tgrpo.keys import ClientKeys
from tgrpo.policies import load
from tgrpo.policies.adapters import Adapters
from tgrpo.policies.served import SECRET, SERVER, ServedPolicy, ServedSettings, decision_seed
from tgrpo.policies.trainable import load_trainable
from tgrpo.record.metrics import read_metrics
from tgrpo.record.run_folder import RunFolder
from tgrpo.settings import from_builtins

_path = Path(__file__).resolve().parents[1] / "tgrpo" / "policies" / "conftest.py"
_spec = importlib.util.spec_from_file_location("policy_parts", _path)
parts = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(parts)

TEXT = "turn on the stove"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The tiny OpenVLA of the golden data in the official format, with a tokenizer that knows more words."""
    folder = tmp_path_factory.mktemp("openvla")
    parts.save_talkative(folder)
    return folder


def view(seed):
    return parts.observation(seed, TEXT, size=256)


def test_workers_get_what_the_policy_itself_decides(folder, tmp_path):
    policy = load_trainable(folder)
    with SharedPolicy(policy, 3) as shared:
        shared.publish(tmp_path, "first")
        served = load(tmp_path)
        assert served.spec == policy.spec
        served.reset([5, 6, 7])
        for number, rows in enumerate(([0, 1, 2], [0, 2])):
            views = [view(10 * number + row) for row in rows]
            found = served.act(views, temperature=1.0, rows=rows)
            policy.reset([decision_seed(5 + row, number) for row in rows])
            for mine, wanted in zip(found, policy.act(views, temperature=1.0), strict=True):
                assert np.array_equal(mine.tokens, wanted.tokens)
                assert np.allclose(mine.log_probs, wanted.log_probs, atol=1e-4)
        greedy = served.act([view(0)], rows=[1])[0]
        assert greedy.log_probs is None
        with pytest.raises(PolicyError, match="row 3 was not reset"):
            served.act([view(0)], rows=[3])


def test_trained_adapters_decide_after_they_were_published_and_no_rollout_mixes_versions(folder, tmp_path):
    policy = load_trainable(folder)
    adapters = Adapters(policy.model, "lora", 4, 8, policy.lora_targets)
    with SharedPolicy(policy, 2) as shared:
        for name in ("first", "second"):
            (tmp_path / name).mkdir()
        shared.publish(tmp_path / "first", "first")
        before = load(tmp_path / "first")
        before.reset([0])
        [old] = before.act([view(0)])
        with torch.no_grad():
            for value in adapters.parameters():
                value.add_(0.05)
        shared.publish(tmp_path / "second", "second")
        after = load(tmp_path / "second")
        after.reset([0])
        [new] = after.act([view(0)])
        policy.reset([0])
        assert np.array_equal(new.tokens, policy.act([view(0)])[0].tokens)
        assert not np.array_equal(new.tokens, old.tokens)
        with pytest.raises(PolicyError, match="not with 'first'"):
            before.act([view(0)])


def test_other_machines_have_keys_that_travel_with_each_version(folder, tmp_path):
    policy = load_trainable(folder)
    store = []

    def put(data):
        store.append(data)
        return len(store) - 1

    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    with SharedPolicy(policy, 2, "127.0.0.2") as shared:
        shared.publish(tmp_path / "here", "first")
        there = Cache(tmp_path / "there", store.__getitem__).folder(Shelf(put).version(tmp_path / "here"))
        assert (there / SECRET).stat().st_mode & 0o777 == 0o600
        served = load(there)
        served.reset([5])
        [chunk] = served.act([view(0)])
        policy.reset([decision_seed(5, 0)])
        assert np.array_equal(chunk.tokens, policy.act([view(0)])[0].tokens)
        # Neither without keys nor with others, nor with keys of another run.
        settings = ServedSettings(kind="served", address=shared._server.address, version="first", deadline_ms=500.0)
        with pytest.raises(HandshakeError, match="wants keys"):
            ServedPolicy(settings)
        stranger, _ = keys.make("stranger", tmp_path)
        with pytest.raises(HandshakeError):
            ServedPolicy(settings, ClientKeys(stranger, there / SERVER))
        (there / SECRET).chmod(0o644)
        with pytest.raises(SettingsError, match="others can read"):
            load(there)


def test_on_this_machine_alone_there_are_no_keys(folder, tmp_path):
    with SharedPolicy(load_trainable(folder), 2) as shared:
        shared.publish(tmp_path, "first")
    assert [path.name for path in tmp_path.iterdir()] == ["policy.json"]


def test_without_its_server_the_policy_says_so_in_time():
    with pytest.raises(DeadlineError, match="no connection"):
        ServedPolicy(ServedSettings(kind="served", address="tcp://127.0.0.1:9", version="x", deadline_ms=50.0))


def test_policy_openvla_checkpoint_folder_is_the_only_difference(folder):
    given = train.parse(["--policy", "openvla", "--checkpoint", str(folder), "--group-size", "2"])
    assert given.settings().policy == str(folder)
    with pytest.raises(SettingsError, match="kind 'openvla', not 'openvla_oft'"):
        train.parse(["--policy", "openvla_oft", "--checkpoint", str(folder)]).settings()


def test_one_iteration_in_libero(folder, pool, tmp_path):
    words = f"--policy openvla --checkpoint {folder} --suite libero_spatial --task 2 --iterations 1 --groups 1"
    words += " --group-size 2 --max-steps 2 --train-states 0-0 --held-out-states 1-1 --evaluate-every 0 --workers 2"
    words += " --temperature 1.0 --learner.lora-rank 2 --learner.epochs 1 --learner.learning-rate 1e-3 --mode fast"
    settings = train.parse(words.split()).settings()
    with train._begun(tmp_path / "run", settings) as run:
        job = Training(from_builtins(run.read_settings(), type(settings)), run, Control(), Console(quiet=True))
        summary = job.execute(pool)
    assert summary["finished"]
    [row] = read_metrics(tmp_path / "run")
    assert (row["episodes"], row["environment_steps"]) == (2, 4)
    assert row["reproduction_error"] < 1e-4
    assert row["kl"] is None
    assert row["grad_norm"] > 0
    newest = RunFolder(tmp_path / "run").latest_checkpoint()
    trained = load(newest)
    start = load(folder)
    for policy in (trained, start):
        policy.reset([0])
    stored = [value for name, value in trained.model.state_dict().items() if "lora_B" in name]
    assert stored
    assert any(value.abs().max() > 0 for value in stored)
    assert trained.vla.folder.path == start.vla.folder.path.resolve()
