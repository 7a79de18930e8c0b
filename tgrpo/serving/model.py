"""The policy that answers, with its version, and what may take its place."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from tgrpo import policies
from tgrpo.errors import SpecError
from tgrpo.policies import Policy
from tgrpo.record import files
from tgrpo.types import Observation
from tgrpo.wire import contract_of

UNSCALED = "none"


@dataclass(frozen=True, eq=False)
class ServedModel:
    """A policy and what the model card says about it."""

    policy: Policy
    name: str
    version: str
    normalisation: str = UNSCALED

    @cached_property
    def contract(self) -> str:
        """Digest of the conventions that clients have agreed to."""
        return contract_of(self.policy.spec, self.normalisation)


def load(folder: Path, most: int = 1) -> ServedModel:
    """Loads a checkpoint folder and asks it once, so that the first client does not pay for a cold start.

    Args:
        folder: The checkpoint.
        most: Largest batch to get ready for.

    Raises:
        CheckpointError: The folder is no checkpoint or damaged.
        PolicyError: The policy does not answer.
    """
    model = _model(folder, None)
    warm_up = getattr(model.policy, "warm_up", None)
    if warm_up is not None:
        warm_up(most)
    _ask(model)
    return model


def replacement(folder: Path, old: ServedModel, most: int = 1) -> tuple[ServedModel, Callable[[], None]]:
    """A checkpoint in the place of another: only its adapter if both share a base, else loaded beside the old one.

    Args:
        folder: The checkpoint.
        old: What is served.
        most: Largest batch to get ready for.

    Returns:
        The new model, and what to do at the moment when it takes over; if that fails, the old one is as it was.

    Raises:
        CheckpointError: The folder is no checkpoint or damaged.
        PolicyError: The policy does not answer.
    """
    read_adapter = getattr(old.policy, "read_adapter", None)
    take = None if read_adapter is None else read_adapter(folder)
    if take is None:
        return load(folder, most), lambda: None
    model = _model(folder, old.policy)

    def change() -> None:
        undo = take()
        try:
            _ask(model)
        except BaseException:
            undo()
            raise

    return model, change


def _model(folder: Path, policy: Policy | None) -> ServedModel:
    """A checkpoint under its name and version; loaded unless its policy is given."""
    version, name = version_of(folder), folder.resolve().name[:64]
    loaded = policies.load(folder) if policy is None else policy
    return ServedModel(loaded, name, f"{name[:48]}@{version}", str(getattr(loaded, "normalisation", UNSCALED)))


def _ask(model: ServedModel) -> None:
    model.policy.reset([0])
    model.policy.act([blank(model)])


def version_of(folder: Path) -> str:
    """Twelve digits that change with any byte of a checkpoint.

    Raises:
        CheckpointError: The folder has a manifest, and one of its files is not what the manifest says.
    """
    manifest = folder / files.MANIFEST
    if manifest.exists():
        files.verify_folder(folder)
        return str(json.loads(manifest.read_text(encoding="utf-8"))["seal"])[:12]
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.glob("*") if path.is_file()):
        with path.open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    return digest.hexdigest()[:12]


def blank(model: ServedModel) -> Observation:
    """An observation of nothing, of the kind that the policy expects."""
    spec = model.policy.spec.observation
    black = np.zeros((spec.size, spec.size, 3), np.uint8)
    proprio = np.zeros(8, np.float32) if spec.proprio else None
    return Observation(dict.fromkeys(spec.cameras, black), "", proprio)


def check_replacement(old: ServedModel, new: ServedModel) -> None:
    """Refuses a policy that would mean something else to the clients that are connected.

    Raises:
        SpecError: The conventions differ.
    """
    if new.contract != old.contract:
        raise SpecError(
            f"{new.version} has other conventions than {old.version}: {new.policy.spec} with normalisation "
            f"{new.normalisation!r}, instead of {old.policy.spec} with {old.normalisation!r}. Start another server."
        )
