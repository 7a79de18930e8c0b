"""Reads one pickle with `weights_only` and writes it as safetensors; run by :mod:`.convert` as a process of its own."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file


def restrict(size: int, slack: int, seconds: int) -> None:
    """Limits this process for good.

    Args:
        size: Of the file to read [bytes].
        slack: Memory and disk beyond that [bytes].
        seconds: Processor time [s].
    """
    used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    limits = {
        # The file, a copy without shared memory, and what is written.
        resource.RLIMIT_AS: used + 3 * size + slack,
        resource.RLIMIT_FSIZE: size + slack,
        resource.RLIMIT_CPU: seconds,
        resource.RLIMIT_NPROC: 0,
        resource.RLIMIT_CORE: 0,
    }
    for kind, limit in limits.items():
        resource.setrlimit(kind, (limit, limit))


def rewrite(source: Path, target: Path) -> None:
    """Writes a state dict as safetensors, without the prefix of distributed training."""
    state = torch.load(source, map_location="cpu", weights_only=True)
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        sys.exit("it holds something else than a dictionary of tensors")
    save_file({str(name).removeprefix("module."): value.clone() for name, value in state.items()}, target)


if __name__ == "__main__":
    restrict(Path(sys.argv[1]).stat().st_size, int(sys.argv[3]), int(sys.argv[4]))
    rewrite(Path(sys.argv[1]), Path(sys.argv[2]))
