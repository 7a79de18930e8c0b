"""`tgrpo convert`: OpenVLA-OFT's component files (`*.pt`) to safetensors, once.

A ``.pt`` file is a pickle. It is read with ``weights_only`` in a process of its own, which may hold little more memory
than the file, write little more than the result, start nothing and run for a limited time.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from tgrpo.errors import CheckpointError, SettingsError
from tgrpo.policies.openvla_oft import COMPONENTS
from tgrpo.record import files
from tgrpo.settings import Strict

CHILD = Path(__file__).with_name("convert_child.py")
SLACK = 2**28
"""Memory and disk beyond the size of the file that reading it may take [bytes]."""
SECONDS = 600
"""Processor time that one file may take [s]."""


class ConvertSettings(Strict, frozen=True):
    """Converts component files of OpenVLA-OFT to safetensors."""

    folder: Annotated[Path, tyro.conf.Positional]
    """Folder with files such as `action_head--150000_checkpoint.pt`."""
    out: Path | None = None
    """Where to write `action_head.safetensors` and so on; the same folder if not given."""


def main(argv: list[str]) -> int:
    """``tgrpo convert``."""
    settings = tyro.cli(ConvertSettings, prog="tgrpo convert", args=argv)
    console = Console()
    for source, target in plan(settings.folder, settings.out or settings.folder).items():
        convert(source, target)
        console.print(f"Wrote {target}.", highlight=False, soft_wrap=True)
    return 0


def plan(folder: Path, out: Path) -> dict[Path, Path]:
    """Which file becomes which.

    Raises:
        SettingsError: There is nothing to convert, a file is no component that this version knows, there are several
            steps of one component, or a result exists.
    """
    found = sorted(folder.glob("*.pt"))
    names = {path: path.name.partition("--")[0] for path in found}
    unknown = [path.name for path, name in names.items() if name not in COMPONENTS]
    if not found or unknown:
        what = f"unknown components: {', '.join(unknown)}" if unknown else "no *.pt files"
        raise SettingsError(f"{folder}: {what}. Known: {', '.join(f'{name}--*_checkpoint.pt' for name in COMPONENTS)}.")
    if len(set(names.values())) < len(found):
        raise SettingsError(
            f"{folder}: several steps of one component ({', '.join(path.name for path in found)}); keep one of each."
        )
    result = {path: out / f"{name}.safetensors" for path, name in names.items()}
    existing = [str(target) for target in result.values() if target.exists()]
    if existing:
        raise SettingsError(f"{', '.join(existing)} exists; remove it to convert again.")
    return result


def convert(source: Path, target: Path) -> None:
    """Converts one file; the result appears only when it is complete.

    Raises:
        CheckpointError: The file is no state dict, or reading it took more than it may.
    """
    size = source.stat().st_size
    target.parent.mkdir(parents=True, exist_ok=True)
    files.require_space(target.parent, size + SLACK)
    files.write_with(target, lambda unfinished: _rewrite(source, unfinished))


def _rewrite(source: Path, target: Path) -> None:
    # By path and isolated: the child imports nothing but the standard library, torch and safetensors.
    command = [sys.executable, "-I", str(CHILD), str(source.resolve()), str(target.resolve()), str(SLACK), str(SECONDS)]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=2 * SECONDS,
            env={"PATH": os.defpath, "OMP_NUM_THREADS": "1"},
        )
    except subprocess.TimeoutExpired as error:
        raise CheckpointError(f"{source}: not converted within {2 * SECONDS} s.") from error
    if done.returncode:
        reason = done.stderr.strip().splitlines()
        raise CheckpointError(f"{source}: not converted: {reason[-1] if reason else f'exit {done.returncode}'}")
