"""The tiny VLA as a policy: small enough to train on two CPU cores, with the interface of the 7B."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from tgrpo.errors import CheckpointError, PolicyError
from tgrpo.policies import bins, blocks, tokens
from tgrpo.policies.adapters import Adapters
from tgrpo.policies.base import MeanTemperature
from tgrpo.policies.prompt import encode_prompt
from tgrpo.policies.streams import Exploration, Streams
from tgrpo.policies.tiny_model import LORA_TARGETS, TinyConfig, TinyModel
from tgrpo.settings import Strict, from_builtins
from tgrpo.spec import PolicySpec
from tgrpo.types import ActionChunk, Observation

WEIGHTS = "model.safetensors"


class _Description(Strict, frozen=True):
    """Content of ``policy.json``."""

    kind: Literal["tiny"]
    exploration: Exploration
    config: TinyConfig
    mean_temperature: MeanTemperature = 0.0


class TinyPolicy:
    """Decides chunks of 8 actions in one forward pass.

    Attributes:
        model: The network; its parameters are what training changes.
        exploration: How the tokens of a sampled chunk hang together. ``token`` draws each one on its own.
            ``chunk`` draws one quantile for each action dimension and uses it for all ``K`` actions: each
            token keeps its own distribution, but a chunk leans one way as a whole and its gripper switches
            at most once. ``episode`` leans one way for a whole rollout.
        mean_temperature: At which it takes the mean of its bins without sampling; 0 takes the most likely ones.
        lora_targets: Names of the linear layers that get an adapter.
        merges: Exported policies have their adapters merged.
        drifts: Rollouts compute exactly what updates do.
        micro_batch: A minibatch always fits into memory.
    """

    lora_targets = LORA_TARGETS
    merges = True
    drifts = False
    micro_batch = 0

    def __init__(
        self, model: TinyModel, exploration: Exploration = "token", mean_temperature: MeanTemperature = 0.0
    ) -> None:
        self.model = model.eval()
        self.exploration = exploration
        self.mean_temperature = mean_temperature
        self._streams = Streams()

    @property
    def spec(self) -> PolicySpec:
        """Conventions of the actions and observations."""
        return self.model.config.spec

    def reset(self, seeds: Sequence[int], decisions: Sequence[int] | None = None) -> None:
        """Starts one episode for each row, with its own stream of random numbers."""
        self._streams.reset(seeds, decisions)

    @torch.no_grad()
    def act(
        self, observations: Sequence[Observation], *, temperature: float = 0.0, rows: Sequence[int] | None = None
    ) -> list[ActionChunk]:
        """Decides one chunk for each observation; see :class:`tgrpo.policies.base.Policy`."""
        # A convolution of a single picture takes another path, so there are always two.
        inputs = (blocks.whole(part, 2) for part in self.collate(observations))
        logits = self.model(*inputs)[: len(observations)]
        if temperature == 0.0:
            chosen, log_probs = tokens.decide(logits, self.mean_temperature), [None] * len(observations)
        else:
            everything = tokens.log_probs_of_bins(logits, temperature)
            wanted = range(len(observations)) if rows is None else rows
            chunk, dims = self.spec.chunk, self.spec.action.dims
            chosen = tokens.sample(everything, self._streams.quantiles(wanted, chunk, dims, self.exploration))
            log_probs = list(tokens.gather(everything, chosen).numpy())
        picked = chosen.numpy()
        return [
            ActionChunk(bins.decode(row, self.spec.bins), row, log_prob)
            for row, log_prob in zip(picked, log_probs, strict=True)
        ]

    def collate(self, observations: Sequence[Observation]) -> tuple[Tensor, Tensor, Tensor]:
        """Tensors of a batch: pictures ``(B, C, H, W, 3)``, prompt ids ``(B, P)``, proprioception ``(B, 8)``.

        Raises:
            PolicyError: A camera is missing or a picture has another size than the policy was trained on.
        """
        spec = self.spec.observation
        shape = (spec.size, spec.size, 3)
        for name in spec.cameras:
            for observation in observations:
                found = observation.images[name].shape if name in observation.images else None
                if found != shape:
                    raise PolicyError(f"camera {name!r}: the policy needs a picture of shape {shape}, got {found}.")
        pictures = np.stack([[observation.images[name] for name in spec.cameras] for observation in observations])
        prompts = [_prompt(observation.instruction, self.model.config.vocabulary) for observation in observations]
        longest = max(map(len, prompts))
        padded = np.array([[*prompt, *[0] * (longest - len(prompt))] for prompt in prompts])
        proprio = np.stack([_proprio(observation) for observation in observations])
        return torch.from_numpy(pictures), torch.from_numpy(padded), torch.from_numpy(proprio)

    def prepare_training(self) -> None:
        """Nothing is left to do; see :class:`tgrpo.policies.trainable.Trainable`, also for what follows."""

    def layers_to_shard(self) -> None:
        """It is whole in every process."""

    def gather(self) -> None:
        """There is nothing to gather."""

    def release(self) -> None:
        """There is nothing to let go of."""

    def see(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """Vision tokens ``(B, tokens, E)`` of a batch."""
        return self.model.see(*inputs[:2])

    def logits(
        self,
        inputs: tuple[Tensor, ...],
        chosen: Tensor,
        *,
        vision: Tensor | None = None,
        weights: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Logits ``(B, K, A, V)``; all tokens are decided at once, so ``chosen`` is not looked at."""
        logits: Tensor = torch.func.functional_call(self.model, dict(weights or {}), (*inputs, vision))
        return logits

    def save_trained(self, folder: Path, adapters: Adapters) -> None:
        """Writes the policy with its adapters merged: a folder that loads anywhere without peft."""
        self.save(folder, adapters.merged_weights())

    def save(self, folder: Path, weights: Mapping[str, Tensor] | None = None) -> None:
        """Writes ``policy.json`` and ``model.safetensors`` into an existing folder.

        Args:
            folder: Where to.
            weights: All weights by name; the model's own by default.
        """
        description = _Description("tiny", self.exploration, self.model.config, self.mean_temperature)
        (folder / "policy.json").write_bytes(msgspec.json.format(msgspec.json.encode(description), indent=1))
        tensors = self.model.state_dict() if weights is None else weights
        save_file({name: value.contiguous() for name, value in tensors.items()}, folder / WEIGHTS)

    @classmethod
    def load(cls, folder: Path) -> TinyPolicy:
        """Reads what :meth:`save` wrote; weights stored in half precision become float32.

        Raises:
            CheckpointError: The files are missing or damaged, or the weights do not fit the configuration.
            SettingsError: The configuration is not one.
        """
        source = str(folder / "policy.json")
        try:
            data = msgspec.json.decode((folder / "policy.json").read_bytes())
            weights = {name: value.float() for name, value in load_file(folder / WEIGHTS).items()}
        except (OSError, msgspec.DecodeError, SafetensorError) as error:
            raise CheckpointError(f"{folder}: the checkpoint is incomplete or damaged: {error}") from error
        description = from_builtins(data, _Description, source=source)
        model = TinyModel(description.config)
        try:
            model.load_state_dict(weights)
        except RuntimeError as error:
            raise CheckpointError(f"{folder / WEIGHTS}: {error}") from error
        return cls(model, description.exploration, description.mean_temperature)


@lru_cache(maxsize=256)
def _prompt(instruction: str, vocabulary: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(encode_prompt(instruction, vocabulary))


def _proprio(observation: Observation) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    if observation.proprio is None:
        raise PolicyError("the policy needs proprioception (8,): position [m], axis-angle [rad], fingers [m].")
    return np.asarray(observation.proprio, np.float32)
