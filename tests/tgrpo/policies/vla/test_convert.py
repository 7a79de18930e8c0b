"""Pickles of components become safetensors in a process that can do little else."""

import os
import pickle
import re

import pytest
import torch
from safetensors.torch import load_file

from tgrpo import cli
from tgrpo.errors import CheckpointError
from tgrpo.policies.openvla_oft import OpenVLAOFT
from tgrpo.policies.vla import convert


@pytest.fixture
def pickled(tmp_path, components):
    """The components as OpenVLA-OFT saves them, with the prefix of distributed training."""
    for file in components.iterdir():
        state = {f"module.{name}": value for name, value in load_file(file).items()}
        torch.save(state, tmp_path / f"{file.stem}--150000_checkpoint.pt")
    return tmp_path


def test_converted_components_load(pickled, components, official, golden):
    assert cli.main(["convert", str(pickled)]) == 0
    options = {"head": "l1", "proprio": True, "film": True, "vit_heads": (4, 4)}
    mine, theirs = (OpenVLAOFT.from_pretrained(official, folder, **options) for folder in (pickled, components))
    pixels = mine.preprocess(golden["img224"])
    state = torch.zeros(1, 8)
    assert (mine.regress([[1, 5, 6]], pixels, state) == theirs.regress([[1, 5, 6]], pixels, state)).all()


def test_results_can_go_elsewhere_and_are_not_overwritten(pickled, tmp_path, capsys):
    out = tmp_path / "new" / "folder"
    assert cli.main(["convert", str(pickled), "--out", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == sorted(f"{name}.safetensors" for name in convert.COMPONENTS)
    assert cli.main(["convert", str(pickled), "--out", str(out)]) == 2
    assert "exists" in capsys.readouterr().err


class Evil:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_pickle_that_runs_code_is_refused(tmp_path):
    source, trace = tmp_path / "action_head--1_checkpoint.pt", tmp_path / "executed"
    torch.save({"weight": Evil(trace)}, source)
    with pytest.raises(CheckpointError, match="not converted"):
        convert.convert(source, tmp_path / "action_head.safetensors")
    source.write_bytes(pickle.dumps(Evil(trace)))
    with pytest.raises(CheckpointError, match="not converted"):
        convert.convert(source, tmp_path / "action_head.safetensors")
    assert not trace.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == [source.name]


def test_a_file_that_grows_in_memory_is_refused(tmp_path, monkeypatch):
    """A few bytes that ask for more than the limit: an expanded tensor, which is copied whole."""
    monkeypatch.setattr(convert, "SLACK", 2**27)
    source = tmp_path / "action_head--1_checkpoint.pt"
    torch.save({"weight": torch.zeros(1).expand(2**32)}, source)
    assert source.stat().st_size < 10_000
    with pytest.raises(CheckpointError, match=r"memory|alloc"):
        convert.convert(source, tmp_path / "action_head.safetensors")


def test_something_else_than_tensors_is_refused(tmp_path):
    source = tmp_path / "action_head--1_checkpoint.pt"
    torch.save({"epoch": 3}, source)
    with pytest.raises(CheckpointError, match="dictionary of tensors"):
        convert.convert(source, tmp_path / "action_head.safetensors")


@pytest.mark.parametrize(
    ("names", "match"),
    [
        ([], "no .*pt files"),
        (["noisy_action_projector--1_checkpoint.pt"], "unknown components: noisy_action_projector"),
        (["action_head--1_checkpoint.pt", "action_head--2_checkpoint.pt"], "several steps"),
    ],
)
def test_what_cannot_be_converted_is_named(tmp_path, capsys, names, match):
    for name in names:
        torch.save({}, tmp_path / name)
    assert cli.main(["convert", str(tmp_path)]) == 2
    assert re.search(match, capsys.readouterr().err.replace("\n", " "))
