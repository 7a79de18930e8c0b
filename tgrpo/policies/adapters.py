"""What is trained of a network: low-rank adapters of its linear layers, or every weight.

The policy that training started from stays available either way: it is the network with its adapters switched
off, or a frozen copy of the weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch
from torch import Tensor, nn

from tgrpo.errors import CheckpointError

if TYPE_CHECKING:
    from peft.tuners.lora import LoraLayer

AdapterKind: TypeAlias = Literal["lora", "full"]
NAME = "tgrpo"


class Adapters:
    """The trainable part of a network, changed in place.

    Attributes:
        trains_vision: Whether training changes what the vision towers see; if not, their output can be kept.
        rank: Of the low-rank adapters; None if every weight is trained.
        alpha: Scale of the adapters times ``rank``.
        targets: Regular expression of the names of the layers that have one.
    """

    def __init__(self, model: nn.Module, kind: AdapterKind, rank: int, alpha: int, targets: str) -> None:
        """Freezes the network and adds adapters, or keeps a frozen copy of it.

        Args:
            model: The network, changed in place.
            kind: What is trained.
            rank: Rank of the low-rank adapters.
            alpha: Their output is scaled by ``alpha / rank``.
            targets: Regular expression of the names of the linear layers that get an adapter.
        """
        self._model = model
        self._reference: dict[str, Tensor] = {}
        self.trains_vision = kind == "full"
        self.rank = None if kind == "full" else rank
        self.alpha = alpha
        self.targets = targets
        if kind == "full":
            self._reference = {name: value.detach().clone() for name, value in model.named_parameters()}
            self._trained = dict(model.named_parameters())
        else:
            from peft import LoraConfig, inject_adapter_in_model

            model.requires_grad_(requires_grad=False)
            config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules=targets)
            inject_adapter_in_model(config, model, adapter_name=NAME)
            self._trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
            for value in self._trained.values():
                # An optimiser step would be lost in the rounding of half precision, in which a base may be.
                value.data = value.data.float()

    def parameters(self) -> list[nn.Parameter]:
        """The weights that training changes."""
        return list(self._trained.values())

    def state(self) -> dict[str, Tensor]:
        """A copy of the trained weights by name."""
        return {name: value.detach().clone() for name, value in self._trained.items()}

    @torch.no_grad()
    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Sets the trained weights from :meth:`state`.

        Raises:
            CheckpointError: The state belongs to another network or other adapters.
        """
        shapes = {name: value.shape for name, value in self._trained.items()}
        given = {name: value.shape for name, value in state.items()}
        if given != shapes:
            odd = sorted(name for name, _ in given.items() ^ shapes.items())[:3]
            raise CheckpointError(f"the checkpoint trains other weights than these settings do, for example {odd}.")
        for name, value in self._trained.items():
            value.copy_(state[name])

    @torch.no_grad()
    def reset(self) -> None:
        """Makes low-rank adapters add nothing: the network is its base, with adapters that can be changed in place."""
        for name, value in self._trained.items():
            if ".lora_B." in name:
                value.zero_()

    @contextmanager
    def off(self) -> Iterator[None]:
        """While this lasts, the network is the one that training started from."""
        if self._reference:
            trained = self.state()
            self.restore(self._reference)
            try:
                yield
            finally:
                self.restore(trained)
        else:
            layers = self._layers()
            for layer in layers:
                layer.enable_adapters(enabled=False)
            try:
                yield
            finally:
                for layer in layers:
                    layer.enable_adapters(enabled=True)

    @contextmanager
    def merged(self) -> Iterator[dict[str, Tensor]]:
        """Weights to put in the place of the network's own, for ``torch.func.functional_call``; gradients reach them.

        Merging before the forward pass, as an exported policy has it, repeats that policy's arithmetic: adapters that
        are added behind each layer differ from it by rounding, which the logits of unlikely bins magnify. While this
        lasts, the adapters are off.
        """
        layers = {name: layer for name, layer in self._model.named_modules() if hasattr(layer, "get_delta_weight")}
        weights = {
            f"{name}.base_layer.weight": layer.base_layer.weight + layer.get_delta_weight(NAME)
            for name, layer in layers.items()
        }
        if self._reference:
            yield weights
            return
        with self.off():
            yield weights

    def merged_weights(self) -> dict[str, Tensor]:
        """All weights of the network as it is now, under their names without adapters."""
        weights = {
            name.replace(".base_layer.", "."): value.detach()
            for name, value in self._model.state_dict().items()
            if ".lora_" not in name
        }
        for name, layer in self._model.named_modules():
            if hasattr(layer, "get_delta_weight"):
                weights[f"{name}.weight"] = weights[f"{name}.weight"] + layer.get_delta_weight(NAME).detach()
        return weights

    def _layers(self) -> list[LoraLayer]:
        from peft.tuners.lora import LoraLayer

        return [layer for layer in self._model.modules() if isinstance(layer, LoraLayer)]
