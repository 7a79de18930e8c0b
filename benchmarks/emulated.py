"""A model that takes the time of a 7B and plays scripts, behind the server that decides for large policies."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tgrpo.policies.served import ServedSettings, decision_seed, write
from tgrpo.serving.core import Core
from tgrpo.serving.model import ServedModel
from tgrpo.serving.server import Server
from tgrpo.spec import ObservationSpec, PolicySpec
from tgrpo.types import ActionChunk, Observation

CHUNK = 8
MOST = 80
"""Decisions of the longest script."""


class Emulated:
    """Takes a fixed time for a batch and a little more for each item; gives each rollout the next chunk of its script.

    A server keeps no episodes. Which decision of which rollout is asked for follows from its seed.

    Attributes:
        spec: One camera.
        scripts: Actions ``(T, 7)`` by seed of the rollout.
        asked: Observations so far.
        batches: Batches so far.
    """

    def __init__(self, size: int, batch_ms: float, item_ms: float, scripts: dict[int, NDArray[np.float32]]) -> None:
        """Prepares the chunks of each rollout.

        Args:
            size: Height and width of the picture [px].
            batch_ms: Time of a batch [ms].
            item_ms: And of each observation in it [ms].
            scripts: Actions ``(T, 7)`` by seed of the rollout; afterwards it rests.
        """
        self.spec = PolicySpec(observation=ObservationSpec(cameras=("agentview",), size=size))
        self.scripts, self.asked, self.batches = scripts, 0, 0
        self._batch, self._item = batch_ms / 1e3, item_ms / 1e3
        self._chunks = {
            decision_seed(seed, number): chunk(script, number)
            for seed, script in scripts.items()
            for number in range(MOST)
        }
        self._rows: list[int] = []

    def reset(self, seeds: Sequence[int], decisions: Sequence[int] | None = None) -> None:
        """Remembers what is asked for."""
        self._rows = list(seeds)

    def act(
        self, observations: Sequence[Observation], *, temperature: float = 0.0, rows: Sequence[int] | None = None
    ) -> list[ActionChunk]:
        """Rests for as long as a model would compute."""
        self.wait(len(observations))
        wanted = range(len(observations)) if rows is None else rows
        rest = chunk(np.zeros((1, 7), np.float32), 1)
        return [ActionChunk(self._chunks.get(self._rows[row], rest)) for row in wanted]

    def wait(self, count: int) -> None:
        """Takes the time of a batch."""
        self.asked, self.batches = self.asked + count, self.batches + 1
        time.sleep(self._batch + self._item * count)


def chunk(script: NDArray[np.float32], number: int) -> NDArray[np.float32]:
    """The next actions ``(8, 7)`` of a script; at its end it rests with the gripper as it is."""
    rest = np.zeros((CHUNK, 7), np.float32)
    rest[:, -1] = script[-1, -1]
    return np.concatenate([script[number * CHUNK : (number + 1) * CHUNK], rest])[:CHUNK].astype(np.float32)


@contextlib.contextmanager
def served(model: Emulated, folder: Path, quota: int) -> Iterator[Path]:
    """Serves it as training does; yields the checkpoint folder that rollout workers load."""
    core = Core(ServedModel(model, "emulated", "1"), max_batch=64, window=0.005, quota=quota, eager=False)
    server = Server(core, quota=quota)
    try:
        write(folder, ServedSettings(kind="served", address=server.address, version="1"))
        yield folder
    finally:
        core.close()
        server.close()
