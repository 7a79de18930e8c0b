"""What a policy must offer so that the learner can train it, whatever network it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from tgrpo.errors import SettingsError
from tgrpo.policies import load
from tgrpo.policies.adapters import Adapters
from tgrpo.policies.base import MeanTemperature, Policy
from tgrpo.policies.streams import Exploration
from tgrpo.types import Observation


@runtime_checkable
class Trainable(Policy, Protocol):
    """A policy with a network whose decisions have probabilities.

    Attributes:
        model: The network; adapters go in here.
        lora_targets: Regular expression of the names of the linear layers that get an adapter.
        merges: Whether an exported policy has its adapters merged into its weights. Training then computes with merged
            weights, too; otherwise adapters stay beside their layers in both, and the base is never copied.
        micro_batch: Decisions whose activations fit into memory at a time; 0 if that is no matter.
        exploration: How the tokens of a sampled chunk hang together.
        mean_temperature: At which it takes the mean of its bins without sampling; 0 takes the most likely ones.
    """

    model: nn.Module
    lora_targets: str
    merges: bool
    micro_batch: int
    exploration: Exploration
    mean_temperature: MeanTemperature

    @property
    def drifts(self) -> bool:
        """Whether rollouts may round differently than updates, so that their log-probabilities differ."""

    def layers_to_shard(self) -> tuple[nn.Module, Sequence[nn.Module]] | None:
        """The module that calls a large network's layers, and the layers, to shard over processes; else None."""

    def gather(self) -> None:
        """Gets all that is needed to decide from the other processes, once layers are sharded; it takes all of them."""

    def release(self) -> None:
        """Lets go of what :meth:`gather` got, and whatever else only decisions need."""

    def prepare_training(self) -> None:
        """Gets ready for gradients.

        Raises:
            SettingsError: The policy has no probabilities to train.
        """

    def collate(self, observations: Sequence[Observation]) -> tuple[Tensor, ...]:
        """Tensors of a batch, each with one row for each observation, on the CPU."""

    def see(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """What the vision towers make of a batch; it can be kept while they are frozen."""

    def logits(
        self,
        inputs: tuple[Tensor, ...],
        chosen: Tensor,
        *,
        vision: Tensor | None = None,
        weights: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Logits of all bins at each token of given chunks: ``(B, K, A, V)``, on the device of ``chosen``.

        Args:
            inputs: From :meth:`collate`.
            chosen: Tokens ``(B, K, A)``; a network that decides one token after another reads them.
            vision: From :meth:`see`; computed by default.
            weights: To put in the place of the network's own; only a policy that ``merges`` gets any.
        """

    def save(self, folder: Path) -> None:
        """Writes the policy as it was before training into an existing folder."""

    def save_trained(self, folder: Path, adapters: Adapters) -> None:
        """Writes the policy with what was trained into an existing folder, so that ``load`` finds it."""


def load_trainable(folder: str | Path) -> Trainable:
    """Loads a policy that can be trained.

    Raises:
        SettingsError: The policy has nothing to train.
        CheckpointError: It cannot be read.
    """
    policy = load(folder)
    if not isinstance(policy, Trainable):
        raise SettingsError(f"{folder} is a {type(policy).__name__}, which has nothing to train.")
    policy.prepare_training()
    return policy
