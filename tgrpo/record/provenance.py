"""Where a result comes from: code, packages, machine, command and seeds, as one JSON."""

from __future__ import annotations

import datetime
import hashlib
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import tgrpo
from tgrpo.record import files

SCHEMA = "tgrpo/provenance/1"
_ROOT = Path(tgrpo.__file__).resolve().parents[1]
_TIMEOUT = 10.0  # [s]


def collect(seeds: Mapping[str, int] | None = None, root: Path = _ROOT) -> dict[str, Any]:
    """Describes this process: everything that a result could depend on.

    Args:
        seeds: Name to value of each seed in use.
        root: The checkout, or where the packages are installed.

    Returns:
        A JSON-ready dict. ``git`` is None outside a checkout, ``gpu`` is empty where torch is not loaded or sees none.
    """
    return {
        "schema": SCHEMA,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "version": tgrpo.__version__,
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "seeds": dict(seeds or {}),
        "git": git_state(root),
        "locks": lock_hashes(root),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": {"model": cpu_model(), "cores": len(os.sched_getaffinity(0))},
        "gpu": gpus(),
        "packages": packages(),
    }


def save(folder: Path, provenance: Mapping[str, Any], root: Path = _ROOT) -> None:
    """Writes ``provenance.json`` and, for a checkout with changes, ``provenance.diff`` with those changes.

    Raises:
        CheckpointError: The disk is full.
    """
    files.write_json(folder / "provenance.json", dict(provenance))
    git = provenance.get("git")
    if git and git["diff_sha256"]:
        files.write_text(folder / "provenance.diff", git_diff(root))


def git_state(root: Path) -> dict[str, Any] | None:
    """Commit of a checkout, and what has changed since.

    Args:
        root: Folder that contains the ``tgrpo`` package.

    Returns:
        ``commit``, ``dirty``, ``diff_sha256`` (None without changes) and ``untracked`` file names; None outside git.
    """
    # An installed package may lie inside someone else's repository, whose commit would mean nothing.
    if _git(root, "ls-files", "--error-unmatch", "tgrpo/__init__.py") is None:
        return None
    commit = _git(root, "rev-parse", "HEAD")
    if commit is None:
        return None
    diff = git_diff(root)
    untracked = (_git(root, "ls-files", "--others", "--exclude-standard") or "").splitlines()
    return {
        "commit": commit.strip(),
        "dirty": bool(diff or untracked),
        "diff_sha256": hashlib.sha256(diff.encode()).hexdigest() if diff else None,
        "untracked": untracked,
    }


def git_diff(root: Path) -> str:
    """Changes of the tracked files since the last commit; empty outside git."""
    return _git(root, "diff", "HEAD") or ""


def lock_hashes(root: Path) -> dict[str, str]:
    """SHA-256 of each dependency lock in ``requirements/``."""
    locks = sorted((root / "requirements").glob("*.txt"))
    return {lock.name: hashlib.sha256(lock.read_bytes()).hexdigest() for lock in locks}


def cpu_model() -> str:
    """Name of the processor as Linux tells it, or its architecture."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def gpus() -> list[str]:
    """Names of the CUDA devices that torch sees; torch is asked only if this process has loaded it anyway."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    return [str(torch.cuda.get_device_name(index)) for index in range(torch.cuda.device_count())]


def packages() -> dict[str, str]:
    """Version of every installed distribution, by lower-case name."""
    found = {str(item.metadata["Name"]).lower(): item.version for item in metadata.distributions()}
    return dict(sorted(found.items()))


def _git(root: Path, *arguments: str) -> str | None:
    """Output of a git command, or None if it failed or git is not there."""
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=_TIMEOUT, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
