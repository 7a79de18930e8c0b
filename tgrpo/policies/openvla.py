"""OpenVLA (arXiv 2406.09246): seven action tokens, one after another.

The official checkpoints are read by the names of their weights, without their code. ``docs/openvla.md`` says what is
checked.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from tgrpo.policies.base import MeanTemperature
from tgrpo.policies.vla import prompts
from tgrpo.policies.vla.decision import DIMS, Chosen, choose, drawn, temperatures_of
from tgrpo.policies.vla.engine import Engine
from tgrpo.policies.vla.folder import HEADS, Folder, Loading, checked_pictures
from tgrpo.policies.vla.pictures import example_pictures
from tgrpo.policies.vla.prompts import Prompts
from tgrpo.policies.vla.trunk import Trunk, additive
from tgrpo.types import FloatArray


class OpenVLA:
    """Pictures and prompts in, action tokens out; every method takes a batch of ragged prompts.

    Attributes:
        folder: What was loaded.
        network: The weights.
        mean_temperature: At which it takes the mean of its bins without sampling, 0 for the most likely ones; an engine
            that is there already keeps what it was made with.

    Example:
        >>> vla = OpenVLA.from_pretrained("openvla-7b-finetuned-libero-spatial")  # doctest: +SKIP
        >>> ids = vla.generate([vla.encode("turn on the stove")], vla.preprocess(picture[None]))  # doctest: +SKIP
        >>> vla.decode(ids, "libero_spatial")  # doctest: +SKIP
    """

    chunk = 1
    """Actions of one decision ``K``."""
    num_images = 1
    """Pictures of one observation ``I``."""
    uses_proprio = False
    """Whether proprioception is an input."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.network = folder.network
        self.mean_temperature: MeanTemperature = 0.0

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        vit_heads: tuple[int, int] = HEADS,
        *,
        dtype: torch.dtype | None = None,
        device: str = "cpu",
        check: bool = True,
    ) -> OpenVLA:
        """Loads an official folder.

        Args:
            folder: With ``config.json`` and safetensors; ``tokenizer.json`` is only needed for :meth:`encode`.
            vit_heads: Attention heads of both towers.
            dtype: Of the weights; None keeps the stored one.
            device: Where they go.
            check: Compare cached with uncached logits once, which costs a few forward passes.

        Raises:
            CheckpointError: Something is missing, damaged or unknown, or a check failed; the message names it.
        """
        result = cls(Folder.read(Path(folder), Loading(vit_heads, dtype, device)))
        if check:
            result.check_cache()
        return result

    def encode(self, instruction: str) -> list[int]:
        """Token ids of the prompt for an instruction.

        Raises:
            CheckpointError: The folder has no tokenizer.
        """
        return self.folder.encode(instruction)

    def preprocess(self, images_uint8: NDArray[np.uint8] | Tensor) -> Tensor:
        """Pictures ``(B, H, W, 3)`` as the towers want them ``(B, 6, 224, 224)``, like the official processor.

        What the LIBERO evaluation does before that is :func:`tgrpo.policies.vla.pictures.evaluation_view`.
        """
        return self.folder.normaliser(images_uint8)

    @torch.no_grad()
    def project(self, pixel_values: Tensor) -> Tensor:
        """Pictures ``(B, 6, 224, 224)`` as tokens of the language model ``(B, 256, E)``."""
        return self.network.project(self.network.see(pixel_values))

    def action_logits(
        self,
        prompt_ids: Prompts,
        pixel_values: Tensor,
        action_ids: NDArray[np.int64] | Tensor,
        prompt_mask: Tensor | None = None,
    ) -> Tensor:
        """Logits of the 256 action ids, in their order, at each place of given actions: ``(B, A, V)``.

        Args:
            prompt_ids: One list for each row, or ``(B, P)`` padded at the right end.
            pixel_values: ``(B, 6, 224, 224)``.
            action_ids: ``(B, A)`` what was chosen; the last one does not matter.
            prompt_mask: ``(B, P)`` what is not padding; by default what is not the padding id.
        """
        ids, seen = prompts.padded(prompt_ids, prompt_mask)
        features = self.network.see(checked_pictures(pixel_values, len(ids), self.num_images))
        return self.teacher_forced(ids, seen, features, torch.as_tensor(action_ids))

    def teacher_forced(self, ids: Tensor, seen: Tensor, features: Tensor, action_ids: Tensor) -> Tensor:
        """As :meth:`action_logits`, from padded prompts ``(B, P)`` and vision features ``(B, 256, F)``."""
        context = self.network.context(ids, seen, [self.network.project(features)])
        hidden = self.network.think(context.followed_by(self.network.embed(action_ids[:, :-1])))
        length = context.seen.shape[1]
        return self.network.action_scores(torch.cat([context.last(hidden[:, :length]), hidden[:, length:]], 1))

    @torch.no_grad()
    def sample(
        self,
        prompt_ids: Prompts,
        pixel_values: Tensor,
        *,
        temperature: float = 0.0,
        quantiles: Tensor | None = None,
        prompt_mask: Tensor | None = None,
    ) -> Chosen:
        """Chooses one action token after another, with cached keys and values.

        Args:
            prompt_ids: As for :meth:`action_logits`.
            pixel_values: ``(B, 6, 224, 224)``.
            temperature: 0 does not sample.
            quantiles: Uniform numbers ``(B, 1, A)`` that samples are made of; from torch's generator by default.
            prompt_mask: As for :meth:`action_logits`.

        Raises:
            SettingsError: The temperature is too low to sample.
        """
        ids, seen = prompts.padded(prompt_ids, prompt_mask)
        pixels = checked_pictures(pixel_values, len(ids), self.num_images)
        quantiles = drawn(quantiles, len(ids), self.chunk)
        bins, logits, log_probs = self.engine(ids, seen, pixels, quantiles, temperatures_of(temperature, len(ids)))
        return Chosen(bins, logits, log_probs if temperature else None)

    @cached_property
    def engine(self) -> Engine:
        """What decides; made when it is first needed."""
        return Engine(self.network, self._decide)

    def _decide(
        self, trunk: Trunk, ids: Tensor, seen: Tensor, pixels: Tensor, quantiles: Tensor, temperatures: Tensor
    ) -> tuple[Tensor, ...]:
        """Bins ``(B, 1, A)``, logits ``(B, 1, A, V)`` and log-probabilities ``(B, 1, A)``, one token after another."""
        network = self.network
        quantiles, temperatures = quantiles.to(network.device), temperatures.to(network.device)
        context = network.context(ids, seen, [network.project(network.see(pixels))])
        rows, length = context.seen.shape
        cache = trunk.cache(rows, length + DIMS - 1)
        # Padding lies behind the prompt, where causal attention does not look; later tokens do, so they need a mask.
        hidden = context.last(trunk(context.embeddings, context.places, None, cache))
        mask = additive(functional.pad(context.seen, (0, DIMS - 1), value=True), network.dtype)
        decided: list[tuple[Tensor, ...]] = []
        for place in range(DIMS):
            if place:
                token = network.embed(prompts.ids_of(decided[-1][0][:, :, 0]))
                end = length + place
                hidden = trunk(token, context.lengths[:, None] + place - 1, mask[..., :end], cache, end - 1)
            logits = network.action_scores(hidden).flip(-1)[:, :, None]
            bins, log_probs = choose(logits, temperatures, quantiles[:, :, place : place + 1], self.mean_temperature)
            decided.append((bins, logits, log_probs))
        return tuple(torch.cat(part, 2) for part in zip(*decided, strict=True))

    def generate(self, prompt_ids: Prompts, pixel_values: Tensor, temperature: float = 0.0) -> Tensor:
        """Ids of the seven action tokens ``(B, A)``, only ever among the 256 that stand for actions.

        Args:
            prompt_ids: As for :meth:`action_logits`.
            pixel_values: ``(B, 6, 224, 224)``.
            temperature: 0 is greedy; above, samples are drawn from torch's generator.
        """
        return prompts.ids_of(self.sample(prompt_ids, pixel_values, temperature=temperature).bins[:, 0])

    def decode(self, action_ids: NDArray[np.int64] | Tensor, key: str | None = None) -> FloatArray:
        """Actions ``(..., A)`` in the units of a data set; the gripper stays as the data set has it.

        Args:
            action_ids: ``(..., A)``.
            key: Name of the data set, also without its ``_no_noops`` ending; None if it makes no difference.

        Raises:
            UnknownNameError: There are no statistics of that name.
            PolicyError: An id does not stand for an action.
        """
        ids = np.asarray(torch.as_tensor(action_ids).cpu())
        return self.expand(prompts.values_of(prompts.bins_of(ids)), key)

    def expand(self, values: FloatArray, key: str | None = None) -> FloatArray:
        """Values ``(..., A)`` in ``[-1, 1]`` in the units of a data set; see :meth:`decode`."""
        return self.folder.ranges(key).action.expand(values)

    def check_cache(self) -> None:
        """Compares what a batch of ragged prompts decides with a cache with single passes without one.

        Raises:
            CheckpointError: They differ by more than rounding.
        """
        cached = self.sample(prompts.CHECKED, pixels := example_pictures(len(prompts.CHECKED), 1))
        ids = prompts.ids_of(cached.bins[:, 0])
        with torch.no_grad():
            alone = [
                self.action_logits([prompt], pixels[row : row + 1], ids[row : row + 1])[0]
                for row, prompt in enumerate(prompts.CHECKED)
            ]
        self.folder.check_engine(cached.logits[:, 0], torch.stack(alone).flip(-1))
