"""OpenVLA-OFT (arXiv 2502.19645): a chunk of 8 actions in one pass, in which every token sees every other one."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Literal, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from tgrpo.errors import CheckpointError, PolicyError, SettingsError, UnknownNameError
from tgrpo.policies.base import MeanTemperature
from tgrpo.policies.vla import prompts, weights
from tgrpo.policies.vla.decision import Chosen, choose, drawn, temperatures_of
from tgrpo.policies.vla.engine import Engine
from tgrpo.policies.vla.folder import HEADS, Folder, Loading, checked_pictures
from tgrpo.policies.vla.heads import CHUNK, DIMS, PROPRIO, ActionHead, ProprioProjector
from tgrpo.policies.vla.network import Context
from tgrpo.policies.vla.pictures import example_pictures
from tgrpo.policies.vla.prompts import STOP_ID, Prompts
from tgrpo.policies.vla.statistics import OFT_EPSILON
from tgrpo.policies.vla.trunk import Trunk, additive
from tgrpo.types import FloatArray

Head: TypeAlias = Literal["discrete", "l1"]
Part = TypeVar("Part", ActionHead, ProprioProjector)
COMPONENTS = {"action_head": "l1", "proprio_projector": "proprio", "vision_backbone": "film"}
"""Component files, and the option that needs each."""


class OpenVLAOFT:
    """Pictures, proprioception and prompts in, chunks of actions out, batched over ragged prompts.

    Attributes:
        folder: What was loaded.
        network: The weights.
        num_images: Pictures of one observation ``I``: third person, then wrist.
        head: ``discrete`` classifies 256 bins, as RL needs it; ``l1`` regresses numbers.
        mean_temperature: At which it takes the mean of its bins without sampling, 0 for the most likely ones; an engine
            that is there already keeps what it was made with.
    """

    chunk = CHUNK
    """Actions of one decision ``K``."""

    def __init__(self, folder: Folder, *, num_images: int, append_stop_token: bool) -> None:
        """Takes a loaded folder; :meth:`from_pretrained` adds the components.

        Args:
            folder: The network and its statistics.
            num_images: Pictures of one observation, 1 or 2.
            append_stop_token: Whether ``</s>`` follows the actions.
        """
        if num_images not in (1, 2):
            raise SettingsError(f"num_images is {num_images}; OpenVLA-OFT has 1 (third person) or 2 (and wrist).")
        self.folder = folder
        self.network = folder.network
        self.num_images = num_images
        self.mean_temperature: MeanTemperature = 0.0
        self._stop = append_stop_token
        self._action_head: ActionHead | None = None
        self._proprio: ProprioProjector | None = None

    @classmethod
    def from_pretrained(  # noqa: PLR0913  (how a checkpoint was trained, which no file of it tells)
        cls,
        folder: str | Path,
        components: str | Path | None = None,
        head: Head = "discrete",
        num_images: int = 1,
        proprio: bool = False,
        film: bool = False,
        append_stop_token: bool = True,
        vit_heads: tuple[int, int] = HEADS,
        *,
        dtype: torch.dtype | None = None,
        device: str = "cpu",
        check: bool = True,
    ) -> OpenVLAOFT:
        """Loads an official folder; nothing in it tells how it was trained, so the options must be those of training.

        Args:
            folder: With ``config.json`` and safetensors.
            components: Folder of the component files that ``tgrpo convert`` wrote; the same one by default.
            head: ``discrete`` or ``l1``.
            num_images: Pictures of one observation.
            proprio: Whether proprioception is an input.
            film: Whether the instruction modulates the towers (OpenVLA-OFT+).
            append_stop_token: Whether ``</s>`` follows the actions: yes for official checkpoints and those of
                SimpleVLA-RL, no for those of RLinf.
            vit_heads: Attention heads of both towers.
            dtype: Of the weights; None keeps the stored one.
            device: Where they go.
            check: Compare the engine with a single pass once, which costs a few forward passes.

        Raises:
            CheckpointError: Something is missing, damaged or unknown, or a check failed; the message names it.
            SettingsError: The options are none.
        """
        if head not in ("discrete", "l1"):
            raise UnknownNameError("head", head, ("discrete", "l1"))
        place = Path(folder if components is None else components)
        loading = Loading(vit_heads, dtype, device)
        towers = _component(place, "vision_backbone") if film else None
        result = cls(
            Folder.read(Path(folder), loading, towers), num_images=num_images, append_stop_token=append_stop_token
        )
        width = result.network.language_model.config.hidden_size
        if head == "l1":
            result._action_head = _filled(ActionHead, width, _component(place, "action_head"), loading)
        if proprio:
            result._proprio = _filled(ProprioProjector, width, _component(place, "proprio_projector"), loading)
        if check:
            result.check_engine()
        return result

    @property
    def head(self) -> Head:
        """Which head decides."""
        return "discrete" if self._action_head is None else "l1"

    @property
    def uses_proprio(self) -> bool:
        """Whether proprioception is an input."""
        return self._proprio is not None

    def encode(self, instruction: str) -> list[int]:
        """Token ids of the prompt for an instruction.

        Raises:
            CheckpointError: The folder has no tokenizer.
        """
        return self.folder.encode(instruction)

    def preprocess(self, images_uint8: NDArray[np.uint8] | Tensor) -> Tensor:
        """Pictures ``(B, H, W, 3)`` or ``(B, I, H, W, 3)`` as the towers want them ``(B, 6 I, 224, 224)``."""
        return self.folder.normaliser(images_uint8)

    def chunk_hidden(
        self,
        prompt_ids: Prompts,
        pixel_values: Tensor,
        proprio: ArrayLike | Tensor | None = None,
        prompt_mask: Tensor | None = None,
    ) -> Tensor:
        """Last hidden states that decide the chunk ``(B, K * A, E)``.

        Args:
            prompt_ids: One list for each row, or ``(B, P)`` padded at the right end.
            pixel_values: ``(B, 6 I, 224, 224)``.
            proprio: ``(B, 8)``, normalised to ``[-1, 1]``; see :meth:`normalise_proprio`.
            prompt_mask: ``(B, P)`` what is not padding; by default what is not the padding id.

        Raises:
            PolicyError: A shape is wrong, or proprioception is missing or not an input.
        """
        ids, seen = prompts.padded(prompt_ids, prompt_mask)
        features = self.see(ids, seen, checked_pictures(pixel_values, len(ids), self.num_images))
        state = None if proprio is None else torch.as_tensor(proprio, dtype=torch.float32)
        return self.think(ids, seen, features, state)

    def see(self, ids: Tensor, seen: Tensor, pixel_values: Tensor) -> Tensor:
        """Vision features ``(B, I * 256, F)``; with FiLM they depend on the prompt."""
        if not self.network.has_film:
            return self.network.see(pixel_values)
        # The mean is over everything that is text: <s>, the prompt and </s>.
        mask = seen.to(self.network.device)[..., None]
        total, count = (self.network.embed(ids) * mask).sum(1), mask.sum(1)
        if self._stop:
            total, count = total + self._stop_token(len(ids))[:, 0], count + 1
        return self.network.see(pixel_values, total / count)

    def think(self, ids: Tensor, seen: Tensor, features: Tensor, proprio: Tensor | None) -> Tensor:
        """As :meth:`chunk_hidden`, from padded prompts ``(B, P)`` and vision features."""
        context, whole = self._sequence(ids, seen, features, proprio)
        return _deciding(context, self.network.think(whole, bidirectional=True))

    def _sequence(self, ids: Tensor, seen: Tensor, features: Tensor, proprio: Tensor | None) -> tuple[Context, Context]:
        """What the actions follow, and the whole sequence.

        Raises:
            PolicyError: Proprioception is missing, or no input.
        """
        network, rows = self.network, len(ids)
        tokens = [network.project(features)]
        if (self._proprio is None) != (proprio is None):
            wanted = "takes none" if self._proprio is None else f"needs it, {PROPRIO} numbers for each row"
            raise PolicyError(f"proprioception: this policy {wanted}.")
        if self._proprio is not None and proprio is not None:
            tokens.append(self._proprio(proprio.to(network.device, network.dtype)))
        context = network.context(ids, seen, tokens)
        # What stands for the actions is embedded as zeros, so nothing about them leaks in.
        tail = [context.embeddings.new_zeros(rows, CHUNK * DIMS, context.embeddings.shape[-1])]
        if self._stop:
            tail.append(self._stop_token(rows))
        return context, context.followed_by(torch.cat(tail, 1))

    @cached_property
    def engine(self) -> Engine:
        """What decides; made when it is first needed."""
        return Engine(self.network, self._decide)

    def _decide(self, trunk: Trunk, ids: Tensor, seen: Tensor, pixels: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        """The numbers ``(B, K, A)`` of the ``l1`` head; or bins, logits ``(B, K, A, V)`` and log-probabilities.

        Args:
            trunk: The language model.
            ids: Prompts ``(B, P)``.
            seen: Their mask.
            pixels: Pictures.
            others: Quantiles ``(B, K, A)``, temperatures ``(B,)`` and, if it is an input, proprioception ``(B, 8)``.
        """
        quantiles, temperatures, *state = (value.to(self.network.device) for value in others)
        features = self.see(ids, seen, pixels)
        context, whole = self._sequence(ids, seen, features, state[0] if state else None)
        mask = additive(whole.seen, self.network.dtype)
        hidden = _deciding(context, trunk(whole.embeddings, whole.places, mask))
        if self._action_head is not None:
            return (self._action_head(hidden),)
        logits = self.scores(hidden).flip(-1)
        bins, log_probs = choose(logits, temperatures, quantiles, self.mean_temperature)
        return bins, logits, log_probs

    def _ask(
        self,
        prompt_ids: Prompts,
        pixel_values: Tensor,
        proprio: ArrayLike | Tensor | None,
        prompt_mask: Tensor | None,
        temperature: float = 0.0,
        quantiles: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """What :meth:`_decide` gives, from the arguments of :meth:`sample`."""
        ids, seen = prompts.padded(prompt_ids, prompt_mask)
        pixels = checked_pictures(pixel_values, len(ids), self.num_images)
        state = [] if proprio is None else [torch.as_tensor(proprio, dtype=torch.float32)]
        uniform = drawn(quantiles, len(ids), CHUNK)
        return self.engine(ids, seen, pixels, uniform, temperatures_of(temperature, len(ids)), *state)

    def scores(self, hidden: Tensor) -> Tensor:
        """Logits of the 256 action ids, in their order: ``(B, K * A, E)`` to ``(B, K, A, V)``."""
        scores = self.network.action_scores(hidden)
        return scores.reshape(len(hidden), CHUNK, DIMS, -1)

    def action_logits(
        self,
        prompt_ids: Prompts,
        pixel_values: Tensor,
        proprio: ArrayLike | Tensor | None = None,
        prompt_mask: Tensor | None = None,
    ) -> Tensor:
        """Logits of the 256 action ids, in their order: ``(B, K, A, V)``; arguments as for :meth:`chunk_hidden`."""
        return self.scores(self.chunk_hidden(prompt_ids, pixel_values, proprio, prompt_mask))

    @torch.no_grad()
    def sample(
        self,
        prompt_ids: Prompts,
        pixel_values: Tensor,
        proprio: ArrayLike | Tensor | None = None,
        *,
        temperature: float = 0.0,
        quantiles: Tensor | None = None,
        prompt_mask: Tensor | None = None,
    ) -> Chosen:
        """Chooses all tokens of a chunk.

        Args:
            prompt_ids: As for :meth:`chunk_hidden`, like the next two.
            pixel_values: Pictures.
            proprio: Proprioception.
            temperature: 0 does not sample.
            quantiles: Uniform numbers ``(B, K, A)`` that samples are made of; from torch's generator by default.
            prompt_mask: As for :meth:`chunk_hidden`.

        Raises:
            SettingsError: The temperature is too low to sample, or the head is ``l1``.
        """
        if self._action_head is not None:
            raise SettingsError("the head 'l1' has no probabilities to sample from; load with head='discrete'.")
        decided = self._ask(prompt_ids, pixel_values, proprio, prompt_mask, temperature, quantiles)
        return Chosen(decided[0], decided[1], decided[2] if temperature else None)

    @torch.no_grad()
    def regress(
        self,
        prompt_ids: Prompts,
        pixel_values: Tensor,
        proprio: ArrayLike | Tensor | None = None,
        prompt_mask: Tensor | None = None,
    ) -> FloatArray:
        """Values ``(B, K, A)`` of the ``l1`` head, about in ``[-1, 1]``; arguments as for :meth:`chunk_hidden`.

        Raises:
            SettingsError: The head is ``discrete``.
        """
        if self._action_head is None:
            raise SettingsError("the head 'discrete' has tokens, not numbers; load with head='l1'.")
        [values] = self._ask(prompt_ids, pixel_values, proprio, prompt_mask)
        return np.asarray(values.double().cpu().numpy(), np.float64)

    def predict(
        self,
        prompt_ids: Prompts,
        pixel_values: Tensor,
        key: str | None = None,
        proprio: ArrayLike | Tensor | None = None,
        prompt_mask: Tensor | None = None,
    ) -> FloatArray:
        """Greedy chunks ``(B, K, A)`` in the units of a data set; the gripper stays as the data set has it.

        Args:
            prompt_ids: As for :meth:`chunk_hidden`.
            pixel_values: Pictures.
            key: Name of the data set, also without its ``_no_noops`` ending; None if it makes no difference.
            proprio: ``(B, 8)`` in the data set's units.
            prompt_mask: As for :meth:`chunk_hidden`.

        Raises:
            UnknownNameError: There are no statistics of that name.
        """
        state = None if proprio is None else self.normalise_proprio(np.asarray(proprio), key)
        if self._action_head is not None:
            return self.expand(self.regress(prompt_ids, pixel_values, state, prompt_mask), key)
        chosen = self.sample(prompt_ids, pixel_values, state, prompt_mask=prompt_mask)
        return self.expand(prompts.values_of(chosen.bins.cpu().numpy()), key)

    def expand(self, values: FloatArray, key: str | None = None) -> FloatArray:
        """Values ``(..., A)`` in ``[-1, 1]`` in the units of a data set; see :meth:`predict`."""
        return self.folder.ranges(key).action.expand(values, OFT_EPSILON)

    def normalise_proprio(self, proprio: ArrayLike, key: str | None = None) -> FloatArray:
        """Proprioception ``(B, 8)`` of a data set to ``[-1, 1]``.

        Raises:
            CheckpointError: The folder has no statistics of it.
        """
        ranges = self.folder.ranges(key).proprio
        if ranges is None:
            raise CheckpointError(f"{self.folder.path}: dataset_statistics.json says nothing about proprioception.")
        return ranges.shrink(proprio)

    def check_engine(self) -> None:
        """Compares the chunks of a batch of ragged prompts with those of single passes.

        Raises:
            CheckpointError: They differ by more than rounding.
        """
        rows = len(prompts.CHECKED)
        pixels = example_pictures(rows, self.num_images)
        state = torch.zeros(rows, PROPRIO) if self.uses_proprio else None
        decided = self._ask(prompts.CHECKED, pixels, state, None)
        with torch.no_grad():
            hidden = torch.cat(
                [
                    self.chunk_hidden([prompt], pixels[row : row + 1], None if state is None else state[row : row + 1])
                    for row, prompt in enumerate(prompts.CHECKED)
                ]
            )
            if self._action_head is None:
                self.folder.check_engine(decided[1], self.scores(hidden).flip(-1))
            else:
                self.folder.check_engine(decided[0], self._action_head(hidden))

    def _stop_token(self, rows: int) -> Tensor:
        return self.network.embed(torch.full((rows, 1), STOP_ID, device=self.network.device))


def _deciding(context: Context, hidden: Tensor) -> Tensor:
    """What decides the chunk ``(B, K * A, E)`` of the hidden states of a whole sequence ``(B, S, E)``."""
    length = context.seen.shape[1]
    # As in a causal model, what decides a token lies one place before it.
    behind = hidden[:, length : length + CHUNK * DIMS - 1]
    return torch.cat([context.last(hidden[:, :length]), behind], 1)


def _component(folder: Path, name: str) -> Path:
    path = folder / f"{name}.safetensors"
    if not path.exists():
        raise CheckpointError(
            f"{path}: no such file; {COMPONENTS[name]!r} needs it. Make it from {name}--*_checkpoint.pt with "
            f"'tgrpo convert {folder}', or load without that option."
        )
    return path


def _filled(kind: type[Part], width: int, file: Path, loading: Loading) -> Part:
    found = weights.headers(file)
    with torch.device("meta"):
        module = kind(width)
    weights.check_names(module, {name: tensor.shape for name, tensor in found.items()}, None, str(file))
    weights.fill(module, found, loading.dtype, loading.device)
    return module.eval()
