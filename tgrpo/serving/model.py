"""The policy that answers, with its version, and what may take its place."""

from __future__ import annotations

import hashlib
import json
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


def load(folder: Path) -> ServedModel:
    """Loads a checkpoint folder and asks it once, so that the first client does not pay for a cold start.

    Raises:
        CheckpointError: The folder is no checkpoint or damaged.
        PolicyError: The policy does not answer.
    """
    version = version_of(folder)
    policy = policies.load(folder)
    normalisation = str(getattr(policy, "normalisation", UNSCALED))
    name = folder.resolve().name[:64]
    model = ServedModel(policy, name, f"{name[:48]}@{version}", normalisation)
    policy.reset([0])
    policy.act([blank(model)])
    return model


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
