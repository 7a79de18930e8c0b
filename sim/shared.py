"""One copy of a large policy for training and rollouts: workers only simulate, the trainer's process decides.

The policy in training is served to the workers by the policy server that robots use, which puts their observations
together into batches. Adapters change in place between two iterations, when no worker asks. Workers on other machines
of a cluster have keys, made for the run, and what they send and hear is encrypted.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from types import TracebackType

from sim.cluster.connect import LOOPBACK
from tgrpo import keys
from tgrpo.learner import Learner
from tgrpo.policies.served import ServedSettings, write
from tgrpo.policies.trainable import Trainable
from tgrpo.record import files
from tgrpo.serving.core import Core
from tgrpo.serving.model import UNSCALED, ServedModel
from tgrpo.serving.server import Server, ServerKeys

WINDOW = 0.005
"""Longest time that a rollout's observation waits for those of others [s]; little beside a decision of the 7B."""
MAX_BATCH = 64


class SharedPolicy:
    """Serves the policy in training to rollout workers while it lasts."""

    def __init__(self, policy: Trainable, rollouts: int, host: str = LOOPBACK) -> None:
        """Starts the server.

        Args:
            policy: In training; nobody may train it while workers play.
            rollouts: Most rollouts that one worker plays side by side.
            host: Address of the interface to listen on; with keys if it is not the loopback one.
        """
        self._policy = policy
        self._folder = tempfile.TemporaryDirectory(prefix="tgrpo-shared-")
        self._keys: keys.ClientKeys | None = None
        admitted: ServerKeys | None = None
        if host != LOOPBACK:
            self._keys, admitted = _key_pairs(Path(self._folder.name))
        self._core = Core(self._model("start"), max_batch=MAX_BATCH, window=WINDOW, quota=rollouts, eager=False)
        self._server = Server(self._core, host=host, quota=rollouts, keys=admitted)

    def publish(self, folder: Path, version: str) -> None:
        """Gives the weights as they are now a version, and writes a checkpoint that refers to them.

        Args:
            folder: It exists; ``tgrpo.policies.load`` finds the policy there while this server runs.
            version: Of the weights.
        """
        self._core.swap(self._model(version))
        encrypted = self._keys is not None
        served = ServedSettings(kind="served", address=self._server.address, version=version, encrypted=encrypted)
        write(folder, served, self._keys)

    def close(self) -> None:
        """Stops serving."""
        self._core.close()
        self._server.close()
        self._folder.cleanup()

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


def _key_pairs(folder: Path) -> tuple[keys.ClientKeys, ServerKeys]:
    """New keys of a server and of all workers of its run, in a folder that only its owner can open."""
    server, server_public = keys.make("server", folder)
    worker, _ = keys.make("worker", folder / "clients")
    return keys.ClientKeys(worker, server_public), ServerKeys(server, folder / "clients")


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
