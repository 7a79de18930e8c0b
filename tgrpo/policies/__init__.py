"""Policies: the protocol, and what a checkpoint folder loads as."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tgrpo.errors import CheckpointError, SettingsError, UnknownNameError
from tgrpo.policies.base import MeanTemperature
from tgrpo.policies.base import Policy as Policy

KINDS = ("tiny", "random", "replay", "openvla", "openvla_oft", "served")
CHECKPOINTS = Path(__file__).resolve().parent.parent / "checkpoints"
"""Where the checkpoints that ship with the package lie."""


def shipped(name: str) -> Path:
    """Folder of a checkpoint given by folder or by the name of one that ships with the package.

    Raises:
        UnknownNameError: There is neither.
    """
    inside = CHECKPOINTS / name
    if not Path(name).exists() and not inside.is_dir():
        names = sorted(folder.name for folder in CHECKPOINTS.glob("*") if folder.is_dir())
        raise UnknownNameError("policy", name, [*names, "any checkpoint folder"])
    return Path(name) if Path(name).exists() else inside


def load(folder: str | Path, mean_temperature: MeanTemperature | None = None) -> Policy:
    """Loads the policy of a checkpoint folder.

    Args:
        folder: A folder with a ``policy.json``, or an official one of OpenVLA.
        mean_temperature: At which it takes the mean of its bins without sampling; as it says itself by default.

    Raises:
        CheckpointError: The folder is not a checkpoint or its weights are damaged.
        UnknownNameError: It holds a kind of policy that this version does not know.
        SettingsError: It is of a kind that has no bins here to decode in another way.
    """
    policy = _load(Path(folder))
    if mean_temperature is None:
        return policy
    if not hasattr(policy, "mean_temperature"):
        raise SettingsError(
            f"mean_temperature {mean_temperature:g}: a policy of the kind {kind_of(Path(folder))!r} has no bins to "
            "take the mean of. Leave it out; for a served policy, write it in the policy.json of its checkpoint."
        )
    policy.mean_temperature = mean_temperature
    return policy


def _load(path: Path) -> Policy:
    kind = kind_of(path)
    if kind == "tiny":
        from tgrpo.policies.tiny import TinyPolicy

        return TinyPolicy.load(path)
    if kind in ("openvla", "openvla_oft"):
        from tgrpo.policies.openvla_policy import VlaPolicy

        return VlaPolicy.load(path)
    if kind == "served":
        from tgrpo.policies.served import ServedPolicy

        return ServedPolicy.load(path)
    if kind in KINDS:
        from tgrpo.policies.simple import RandomPolicy, ReplayPolicy

        return RandomPolicy.load(path) if kind == "random" else ReplayPolicy.load(path)
    raise UnknownNameError("kind of policy", kind, KINDS)


def mean_temperature_of(path: Path) -> MeanTemperature:
    """At which a checkpoint takes the mean of its bins without sampling, without loading it.

    Raises:
        CheckpointError: The folder is not a checkpoint.
    """
    temperature: MeanTemperature = _description(path).get("mean_temperature", 0.0)
    return temperature


def kind_of(path: Path) -> Any:
    """What ``policy.json`` says; a folder without one may be an official one of OpenVLA.

    Raises:
        CheckpointError: The folder is not a checkpoint.
    """
    return _description(path)["kind"]


def _description(path: Path) -> dict[str, Any]:
    """Content of ``policy.json``, which has a kind."""
    if not (path / "policy.json").exists() and (path / "config.json").exists():
        return {"kind": "openvla"}
    try:
        told: dict[str, Any] = json.loads((path / "policy.json").read_text(encoding="utf-8"))
        return told | {"kind": told["kind"]}  # without one it is damaged
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CheckpointError(f"{path} is not a checkpoint: it has no policy.json.") from error
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path / 'policy.json'} is damaged: {error!r}.") from error
