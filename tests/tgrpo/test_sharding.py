"""Two processes, each with half of the base, learn what one does."""

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.aborted import second_try
from tgrpo.policies import sharding

SCRIPT = Path(__file__).parent / "sharded_process.py"
_spec = importlib.util.spec_from_file_location("sharded_process", SCRIPT)
process = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(process)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "openvla"
    folder.mkdir()
    for file in (process.parts.DATA / "openvla_tiny").glob("*.json"):
        if file.name != "shapes.json":
            (folder / file.name).write_bytes(file.read_bytes())
    save_file(process.parts.tiny_weights(), folder / "model.safetensors")
    process.parts.llama_like_tokenizer().save(str(folder / "tokenizer.json"))
    return folder


def record(folder, file):
    """Rollouts of the policy as it is."""
    policy = process.load_policy(folder)
    policy.reset([0, 1])
    chunks = [policy.act(list(seen), temperature=1.0) for seen in zip(*process.views(), strict=True)]
    parts = {"tokens": [[c.tokens for c in step] for step in chunks]}
    parts["log_probs"] = [[c.log_probs for c in step] for step in chunks]
    np.savez(file, **{name: np.swapaxes(np.array(values), 0, 1) for name, values in parts.items()})


@second_try
def test_two_processes_learn_what_one_does(folder, tmp_path):
    rollouts = tmp_path / "rollouts.npz"
    record(folder, rollouts)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(SCRIPT)]
    root = str(SCRIPT.parents[2])
    ran = subprocess.run(
        [*command, str(folder), str(rollouts), str(tmp_path)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=540,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    wanted, weights, learner = process.updated(folder, rollouts)
    chunks = process.decided(learner)
    again = asdict(process.update_of(learner, rollouts))
    stored = [load_file(tmp_path / f"{rank}.safetensors") for rank in range(2)]
    told = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert all(abs(one["share"] - 0.5) < 0.01 for one in told)
    assert all("sharded over processes" in one["refused"] for one in told)
    assert all(torch.equal(stored[0][name], stored[1][name]) for name in weights)
    assert max(float(value.abs().max()) for name, value in weights.items() if "lora_B" in name) > 1e-4
    assert all(torch.allclose(stored[0][name], value, atol=2e-5) for name, value in weights.items())
    for one in stored:  # gathered, each process decides as one alone does
        assert torch.equal(one["tokens"], chunks["tokens"])
        assert torch.allclose(one["log_probs"], chunks["log_probs"], atol=1e-3)
    # and the next update is one of sharded weights again
    for which, figures in (("first", wanted), ("second", again)):
        for name, value in figures.items():
            assert told[0][which][name] == pytest.approx(value, rel=1e-3, abs=1e-5), (which, name)


@pytest.mark.parametrize(("rows", "most"), [(7, 2), (1, 4), (8, 2), (5, 3)])
def test_every_process_gets_equally_many_micro_batches_and_each_row_counts_once(monkeypatch, rows, most):
    monkeypatch.setattr(sharding, "world", lambda: 3)
    counted, numbers = [], set()
    for rank in range(3):
        monkeypatch.setattr(sharding, "rank", lambda rank=rank: rank)
        pieces = sharding.divide(torch.arange(rows), most)
        numbers.add(len(pieces))
        assert all(0 < len(piece) <= most for piece, _ in pieces)
        counted += [row for piece, counts in pieces if counts for row in piece.tolist()]
    assert len(numbers) == 1
    assert sorted(counted) == list(range(rows))
