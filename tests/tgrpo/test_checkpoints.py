"""The checkpoints that ship with the package: intact, small, and with their provenance."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import tgrpo
from tgrpo import policies
from tgrpo.record.files import verify_folder
from tgrpo.types import Observation

CHECKPOINTS = sorted(p for p in (Path(tgrpo.__file__).parent / "checkpoints").iterdir() if p.is_dir())
LARGEST = 12_000_000  # [bytes]


def test_at_least_the_default_ships() -> None:
    assert "tiny-libero" in [folder.name for folder in CHECKPOINTS]


@pytest.mark.parametrize("folder", CHECKPOINTS, ids=lambda folder: folder.name)
def test_intact_and_small(folder: Path) -> None:
    assert {"policy.json", "model.safetensors", "training.json"} <= set(verify_folder(folder))
    assert sum(file.stat().st_size for file in folder.iterdir()) < LARGEST


@pytest.mark.parametrize("folder", CHECKPOINTS, ids=lambda folder: folder.name)
def test_says_how_it_was_made(folder: Path) -> None:
    record = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    assert record["provenance"]["git"]["dirty"] is False
    assert "sft" in record["provenance"]["command"]
    assert sum(record["demonstrations"].values()) > 0


@pytest.mark.parametrize("folder", CHECKPOINTS, ids=lambda folder: folder.name)
def test_acts(folder: Path) -> None:
    policy = policies.load(folder)
    spec = policy.spec
    picture = np.zeros((spec.observation.size, spec.observation.size, 3), np.uint8)
    seen = Observation(dict.fromkeys(spec.observation.cameras, picture), "pick up the milk", np.zeros(8, np.float32))
    policy.reset([0])
    [chunk] = policy.act([seen])
    assert chunk.actions.shape == (spec.chunk, spec.action.dims)
    assert np.abs(chunk.actions).max() <= 1.0
