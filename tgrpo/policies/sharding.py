"""Several processes, one card each: the base is sharded over them, the work of an update is divided.

Under ``torchrun``, after ``torch.distributed.init_process_group()``. If wanted, FSDP2 shards the frozen base layer by
layer and gathers one layer at a time; adapters are small and stay whole in every process, so that checkpoints and
optimisers need to know nothing of it. Without a process group everything here does nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, distributed, nn

from tgrpo.errors import WorkerError


class LostProcessError(WorkerError):
    """Another process of the group is gone."""


def world() -> int:
    """Number of processes."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    """Number of this process, from 0."""
    return distributed.get_rank() if world() > 1 else 0


@contextmanager
def together() -> Iterator[None]:
    """Around what takes all processes.

    Raises:
        LostProcessError: Another one is gone.
    """
    try:
        yield
    except RuntimeError as error:  # all that torch says of a connection that broke
        raise LostProcessError(
            "another process of this run ended; if it could, it said why. Continue with --resume."
        ) from error


def shard(root: nn.Module, layers: Iterable[nn.Module], whole: Sequence[nn.Parameter]) -> None:
    """Shards the weights of some layers over all processes.

    Args:
        root: Its forward pass calls the layers one after another.
        layers: Their weights are sharded; all of them compute in their own forward passes.
        whole: Parameters that stay whole in every process: what is trained.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    first = next(root.parameters())
    mesh = init_device_mesh(first.device.type, (world(),))
    kept = set(whole)
    for layer in layers:
        fully_shard(layer, mesh=mesh, ignored_params=kept & set(layer.parameters()))
    # The root has no weights of its own to shard, but lets one layer be gathered while the last one computes.
    sharded_already = {value for value in root.parameters() if is_sharded(value)}
    fully_shard(root, mesh=mesh, ignored_params=set(root.parameters()) - sharded_already)


def is_sharded(weight: Tensor) -> bool:
    """Whether this process has only a part of a weight."""
    return type(weight.data) is not Tensor


def gathered(weight: Tensor) -> Tensor:
    """A weight without gradients, whole: itself, or a copy of what the processes have, which takes all of them."""
    return cast(Any, weight.data).full_tensor() if is_sharded(weight) else weight.data


def divide(rows: Tensor, most: int) -> list[tuple[Tensor, bool]]:
    """Micro-batches of this process for some rows, and whether each counts.

    Every process gets equally many, because gathering a layer takes all of them; who has too few rows repeats one that
    does not count.

    Args:
        rows: Row numbers ``(B,)`` of a minibatch, the same in every process.
        most: Rows of the largest micro-batch.
    """
    longest = -(-len(rows) // world())
    pieces = rows[rank() :: world()].tensor_split(-(-longest // most))
    return [(piece, True) if len(piece) else (rows[:1], False) for piece in pieces]


@torch.no_grad()
def shared(rows: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
    """Results for some rows ``(B, ...)``, each row computed by one process for all of them.

    Args:
        rows: Row numbers ``(B,)``, the same in every process.
        compute: Results for some of them, in their order.
    """
    if world() == 1:
        return compute(rows)
    mine = rows[rank() :: world()]
    # Every process computes equally many, because gathering a layer or a result takes all of them.
    mine = torch.cat([mine, rows[: -(-len(rows) // world()) - len(mine)]])
    own = compute(mine).contiguous()
    parts = [torch.empty_like(own) for _ in range(world())]
    with together():
        distributed.all_gather(parts, own)
    return torch.stack(parts, 1).flatten(0, 1)[: len(rows)]


@torch.no_grad()
def add_up(parameters: Sequence[nn.Parameter]) -> None:
    """Adds the gradients of all processes up, in place."""
    if world() == 1:
        return
    gradients = [torch.zeros_like(value) if value.grad is None else value.grad for value in parameters]
    joined = torch.cat([gradient.flatten() for gradient in gradients])
    with together():
        distributed.all_reduce(joined)
    for value, part in zip(parameters, joined.split([value.numel() for value in parameters]), strict=True):
        value.grad = part.view_as(value)


def combine(sums: Mapping[str, float], largest: Mapping[str, float], device: torch.device) -> dict[str, float]:
    """Figures of all processes: the first are added up, of the others the largest counts."""
    if world() == 1:
        return {**sums, **largest}
    added, most = (torch.tensor(list(part.values()), device=device) for part in (sums, largest))
    with together():
        distributed.all_reduce(added)
        distributed.all_reduce(most, distributed.ReduceOp.MAX)
        return dict(zip([*sums, *largest], [*added.tolist(), *most.tolist()], strict=True))
