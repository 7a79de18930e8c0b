"""One copy of a large policy for training and rollouts: workers only simulate, the trainer's process decides.

The policy in training is served to the workers of the same machine by the policy server that robots use, which puts
their observations together into batches. Adapters change in place between two iterations, when no worker asks.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from types import TracebackType

from tgrpo.learner import Learner
from tgrpo.policies.served import ServedSettings, write
from tgrpo.policies.trainable import Trainable
from tgrpo.record import files
from tgrpo.serving.core import Core
from tgrpo.serving.model import UNSCALED, ServedModel
from tgrpo.serving.server import Server

WINDOW = 0.005
"""Longest time that a rollout's observation waits for those of others [s]; little beside a decision of the 7B."""
MAX_BATCH = 64


class SharedPolicy:
    """Serves the policy in training to rollout workers while it lasts."""

    def __init__(self, policy: Trainable, rollouts: int) -> None:
        """Starts the server, on this machine's loopback interface.

        Args:
            policy: In training; nobody may train it while workers play.
            rollouts: Most rollouts that one worker plays side by side.
        """
        self._policy = policy
        self._core = Core(self._model("start"), max_batch=MAX_BATCH, window=WINDOW, quota=rollouts, eager=False)
        self._server = Server(self._core, quota=rollouts)

    def publish(self, folder: Path, version: str) -> None:
        """Gives the weights as they are now a version, and writes a checkpoint that refers to them.

        Args:
            folder: It exists; ``tgrpo.policies.load`` finds the policy there while this server runs.
            version: Of the weights.
        """
        self._core.swap(self._model(version))
        write(folder, ServedSettings(kind="served", address=self._server.address, version=version))

    def close(self) -> None:
        """Stops serving."""
        self._core.close()
        self._server.close()

    def __enter__(self) -> SharedPolicy:
        """Returns itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops serving."""
        self.close()

    def _model(self, version: str) -> ServedModel:
        return ServedModel(self._policy, "training", version, str(getattr(self._policy, "normalisation", UNSCALED)))


def acting(folder: Path, learner: Learner, shared: SharedPolicy | None) -> Path:
    """The policy in training as workers load it; its folder is written unless it is there.

    Args:
        folder: Named by the version of the weights; folders beside it are older versions and are removed.
        learner: Has the policy in training.
        shared: Serves it, if it is too large to copy.
    """
    if not folder.exists():
        shutil.rmtree(folder.parent, ignore_errors=True)
        with files.disk_guard(folder):
            folder.mkdir(parents=True)
            if shared is None:
                learner.export(folder)
            else:
                shared.publish(folder, folder.name)
    return folder
