"""Runs a computation in few different shapes, and on a graphics card as a recording.

A decision is some thousand small kernels; a CUDA graph starts all of them at once. A graph is bound to its shapes, so
batches are filled up to one of a few sizes by repeating their last row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

Function: TypeAlias = Callable[..., tuple[Tensor, ...]]

ROWS = (1, 2, 4, 8, 16, 32, 64)
"""Sizes of batches on a graphics card; larger ones are cut."""


@dataclass(frozen=True, eq=False)
class _Recording:
    graph: torch.cuda.CUDAGraph
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


class Recorder:
    """A function of batches without gradients that depends on shapes only."""

    def __init__(self, function: Function, device: torch.device, rows: Sequence[int] | None = None) -> None:
        """Records nothing yet.

        Args:
            function: Tensors with one row for each item in, a tuple of such tensors out. On a graphics card it must not
                wait for a result.
            device: Where it computes.
            rows: Sizes of batches, the smallest first; by default :data:`ROWS` on a graphics card, elsewhere any size.
        """
        self._function = function
        self._device = device
        self._rows = tuple(ROWS if rows is None and device.type == "cuda" else rows or ())
        self._recordings: dict[tuple[torch.Size, ...], _Recording] = {}
        self._memory: Any = None

    @property
    def rows(self) -> tuple[int, ...]:
        """Sizes of batches; empty for any size."""
        return self._rows

    def forget(self) -> None:
        """Drops all recordings, because memory that they use has moved."""
        self._recordings, self._memory = {}, None

    @torch.no_grad()
    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The function's outputs for a batch of any size."""
        count = len(inputs[0])
        most = self._rows[-1] if self._rows else count
        parts = [self._part(tuple(value[first : first + most] for value in inputs)) for first in range(0, count, most)]
        return parts[0] if len(parts) == 1 else tuple(torch.cat(column) for column in zip(*parts, strict=True))

    def _part(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        count = len(inputs[0])
        size = next((rows for rows in self._rows if rows >= count), count)
        if size > count:
            inputs = tuple(torch.cat([value, value[-1:].expand(size - count, *value.shape[1:])]) for value in inputs)
        if self._device.type == "cuda":
            return tuple(value[:count].clone() for value in self._replay(inputs))
        return tuple(value[:count] for value in self._function(*inputs))

    def _replay(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        key = tuple(value.shape for value in inputs)
        if key not in self._recordings:
            self._recordings[key] = self._record(tuple(value.to(self._device, copy=True) for value in inputs))
        recording = self._recordings[key]
        for kept, value in zip(recording.inputs, inputs, strict=True):
            kept.copy_(value)
        recording.graph.replay()
        return recording.outputs

    def _record(self, inputs: tuple[Tensor, ...]) -> _Recording:
        # Libraries allocate their workspaces in the first passes, which must not be part of the recording.
        aside = torch.cuda.Stream(self._device)
        aside.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(aside):
            for _ in range(2):
                self._function(*inputs)
        torch.cuda.current_stream(self._device).wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        # One at a time is replayed, so all of them may share their memory; other threads may use the card meanwhile.
        with torch.cuda.graph(graph, pool=self._memory, stream=aside, capture_error_mode="thread_local"):
            outputs = self._function(*inputs)
        self._memory = graph.pool()
        return _Recording(graph, inputs, outputs)
