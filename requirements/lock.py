"""Writes `requirements/lock-pyXY.txt`: every package of every extra, pinned and hashed, for Linux x86-64.

Usage: `.venv/bin/python requirements/lock.py` (the Python that runs it is the one that is locked).
The input is the ranges in setup.py. Commit the result after `make test` has passed with it.

PyTorch comes as the CPU build, which only PyTorch's own index serves; a lock made without access to a CPU build
for its Python leaves torch out, and `requirements/install.sh` then installs it unhashed.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = "train,record,lerobot-export,sim,serve,teleop,ros-wheels,test"
GPU_ONLY = re.compile(r"(torch|triton|nvidia-.*|cuda-.*)$")
BUILD = ("setuptools", "wheel")


def resolved() -> list[dict[str, Any]]:
    """What pip would install into an empty environment."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
        subprocess.run([*command, "--report", str(report), f"{ROOT}[{EXTRAS}]"], check=True)
        packages: list[dict[str, Any]] = json.loads(report.read_text(encoding="utf-8"))["install"]
    return packages


def entry(package: dict[str, Any]) -> tuple[str, str] | None:
    """Name and lock line of one package; nothing for this project and for GPU builds."""
    name = re.sub(r"[-_.]+", "-", package["metadata"]["name"]).lower()
    release = package["metadata"]["version"]
    if "dir_info" in package["download_info"] or (GPU_ONLY.match(name) and "+cpu" not in release):
        return None
    digest = package["download_info"]["archive_info"]["hashes"]["sha256"]
    return name, f"{name}=={release} --hash=sha256:{digest}\n"


def main() -> None:
    """Writes the lock and the build tools, which are installed first because some packages are built from source."""
    entries = dict(sorted(pair for package in resolved() if (pair := entry(package))))
    tag = f"py{sys.version_info.major}{sys.version_info.minor}"
    header = "# Linux x86-64. Written by requirements/lock.py; do not edit.\n"
    build = "".join(entries.pop(name) for name in BUILD)
    (ROOT / "requirements" / f"lock-{tag}.txt").write_text(header + "".join(entries.values()), encoding="utf-8")
    (ROOT / "requirements" / "build.txt").write_text(header + build, encoding="utf-8")


if __name__ == "__main__":
    main()
