"""Decisions as fast as the machine gives them: packed weights, fixed memory, few shapes, recordings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from torch import Tensor

from tgrpo.policies.vla import prompts
from tgrpo.policies.vla.network import Network
from tgrpo.policies.vla.recorder import Recorder

Decide: TypeAlias = Callable[..., tuple[Tensor, ...]]
"""A trunk, prompt ids ``(B, P)``, their mask and further inputs of the batch to outputs of the batch."""


class Engine:
    """Decides with one network, whose adapters may change at any time between two decisions."""

    def __init__(self, network: Network, decide: Decide, rows: Sequence[int] | None = None) -> None:
        """Packs the network's weights, in place.

        Args:
            network: The weights.
            decide: What to compute; on a graphics card it is recorded, so it must depend on shapes only.
            rows: Sizes of batches; see :class:`Recorder`.

        Raises:
            SettingsError: The weights are sharded over several processes.
        """
        trunk = self._trunk = network.trunk
        self._moves = trunk.moves
        self._recorder = Recorder(lambda *inputs: decide(trunk, *inputs), network.device, rows)

    @property
    def rows(self) -> tuple[int, ...]:
        """Sizes of batches that are computed; empty for any size."""
        return self._recorder.rows

    def __call__(self, ids: Tensor, seen: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        """The outputs for a batch.

        Args:
            ids: Prompt ids ``(B, P)``, padded at the right end.
            seen: ``(B, P)`` False for padding.
            others: What else there is, one row for each of the batch.
        """
        if self._moves != self._trunk.refresh():
            self._moves = self._trunk.moves
            self._recorder.forget()
        return self._recorder(*prompts.widened(ids, seen), *others)
