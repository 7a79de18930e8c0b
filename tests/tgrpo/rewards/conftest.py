"""A small world of named quantities, and a stage file with round numbers."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
import numpy as np
import pytest
import yaml

from tgrpo.rewards import StageFile
from tgrpo.types import FloatArray

BLOCK = """
schema: tgrpo/stages/1
suite: test
task: block_in_bin
language: put the block in the bin
goal: [["in", block, bin]]
subgoals:
  - &block
    object: block
    target: bin
    held: [["block/contact >= 2"]]
    stages:
      - name: approach
        reached: [["block/distance < 0.05"]]
        kept: [["block/distance < 0.08"]]
        shaping: [{quantity: block/distance, scale: 0.1}]
      - name: grasp
        reached: [["held(block) >= 1"], ["lift(block) > 0.02", "block/distance < 0.05"]]
        kept: [["block/contact >= 1"]]
        shaping: [{quantity: block/contact, shape: amount, scale: 2}]
      - name: move
        reached: [["held(block) >= 1", "distance_xy(block,bin) < 0.1"]]
        kept: [["distance_xy(block,bin) < 0.15"]]
        shaping: [{quantity: lift(block), shape: amount, scale: 0.1}]
      - name: place
        reached: [["predicate/in(block,bin) >= 1"]]
        shaping: [{quantity: "distance(block,bin)", scale: 0.1}]
"""


@dataclass
class World:
    """Hand, things and contacts; :meth:`quantities` names them as the simulator does."""

    eef: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.3])
    things: dict[str, list[float]] = field(default_factory=lambda: {"block": [0.0, 0.0, 0.0], "bin": [0.5, 0.0, 0.0]})
    contact: dict[str, int] = field(default_factory=lambda: {"block": 0})
    placed: dict[str, bool] = field(default_factory=lambda: {"in(block,bin)": False})

    def quantities(self) -> dict[str, FloatArray]:
        values: dict[str, object] = {"eef/position": self.eef, "success": float(all(self.placed.values()))}
        for name, position in self.things.items():
            values[f"{name}/position"] = position
        for name, fingers in self.contact.items():
            values[f"{name}/distance"] = np.linalg.norm(np.subtract(self.things[name], self.eef))
            values[f"{name}/contact"] = fingers
        for name, holds in self.placed.items():
            values[f"predicate/{name}"] = float(holds)
        return {name: np.asarray(value, np.float64) for name, value in values.items()}

    def carry(self, name: str, position: list[float]) -> None:
        """Puts hand and thing at a position, the thing between both fingers."""
        self.eef, self.things[name] = list(position), list(position)
        self.contact[name] = 2


def stage_file(text: str) -> StageFile:
    return msgspec.convert(yaml.safe_load(text), StageFile)


@pytest.fixture
def block() -> StageFile:
    return stage_file(BLOCK)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def new_world() -> type[World]:
    return World


@pytest.fixture
def two() -> StageFile:
    """The block's stages, and the same for a can."""
    data = yaml.safe_load(BLOCK)
    other = yaml.safe_load(yaml.safe_dump(data["subgoals"][0]).replace("block", "can"))
    return msgspec.convert({**data, "subgoals": [*data["subgoals"], other]}, StageFile)


@pytest.fixture
def two_world() -> World:
    return World(
        things={"block": [0.0, 0.0, 0.0], "can": [0.0, 0.4, 0.0], "bin": [0.5, 0.0, 0.0]},
        contact={"block": 0, "can": 0},
        placed={"in(block,bin)": False, "in(can,bin)": False},
    )
