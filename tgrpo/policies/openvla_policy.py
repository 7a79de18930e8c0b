"""OpenVLA and OpenVLA-OFT as policies: what they are shown, which statistics count, and LIBERO's gripper."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tgrpo.errors import CheckpointError, PolicyError, SettingsError
from tgrpo.policies.adapters import Adapters
from tgrpo.policies.base import MeanTemperature
from tgrpo.policies.openvla import OpenVLA
from tgrpo.policies.openvla_oft import COMPONENTS, OpenVLAOFT
from tgrpo.policies.streams import Exploration, Streams
from tgrpo.policies.vla import prompts
from tgrpo.policies.vla.config import choose_key
from tgrpo.policies.vla.decision import DIMS
from tgrpo.policies.vla.heads import PROPRIO
from tgrpo.policies.vla.pictures import SIZE, evaluation_view
from tgrpo.policies.vla.settings import ADAPTER, DESCRIPTION, AdapterSettings, VlaSettings
from tgrpo.policies.vla.statistics import gripper_to_libero
from tgrpo.settings import from_builtins, to_builtins
from tgrpo.spec import ObservationSpec, PolicySpec
from tgrpo.types import ActionChunk, FloatArray, Image, Observation

CAMERAS = ("agentview", "robot0_eye_in_hand")
CAMERA_SIZE = 256
"""Side of the pictures that the official evaluation renders [px]."""


class VlaPolicy:
    """Decides with an official checkpoint, as the official LIBERO evaluation does.

    Attributes:
        vla: The model.
        settings: How the checkpoint was trained and is used.
        model: The network; adapters go in here.
        exploration: How the tokens of a sampled chunk hang together.
        lora_targets: Names of the linear layers that get an adapter: those of the language model.
        merges: Adapters stay beside their layers, so that a checkpoint is small and the base is never copied.
        micro_batch: Fits beside the 7B on a card of 80 GB.
    """

    lora_targets = r"language_model\.model\.layers\..*_proj"
    merges = False
    micro_batch = 32

    def __init__(self, vla: OpenVLA | OpenVLAOFT, settings: VlaSettings) -> None:
        """Puts a policy around a model.

        Args:
            vla: The model.
            settings: How it was trained and is used.

        Raises:
            UnknownNameError: The checkpoint has no statistics of the wanted data set, or several to choose from.
            CheckpointError: They belong to another robot.
            SettingsError: The head regresses, so it has no bins to take the mean of.
        """
        self.vla = vla
        self.settings = settings
        self.model = vla.network
        self.mean_temperature = settings.mean_temperature
        self.exploration: Exploration = "token"
        self._streams = Streams()
        self._adapters: Adapters | None = None
        dims = vla.folder.ranges(settings.key).action.low.shape
        if dims != (DIMS,):
            raise CheckpointError(f"{vla.folder.path}: the statistics are of actions {dims}, LIBERO's are ({DIMS},).")

    @property
    def spec(self) -> PolicySpec:
        """Conventions of the actions and observations."""
        vla = self.vla
        observation = ObservationSpec(
            cameras=CAMERAS[: vla.num_images], size=CAMERA_SIZE, flip="left_right", proprio=vla.uses_proprio
        )
        return PolicySpec(observation=observation, chunk=vla.chunk)

    @property
    def drifts(self) -> bool:
        """Whether rollouts round differently than updates: in half precision; see :class:`Trainable`."""
        return self.model.dtype != torch.float32

    @property
    def normalisation(self) -> str:
        """Name of the statistics that actions and proprioception are scaled with."""
        return choose_key(dict(self.vla.folder.statistics), self.settings.key)

    @property
    def mean_temperature(self) -> MeanTemperature:
        """At which it takes the mean of its bins without sampling; 0 takes the most likely ones."""
        return self.settings.mean_temperature

    @mean_temperature.setter
    def mean_temperature(self, temperature: MeanTemperature) -> None:
        if temperature and isinstance(self.vla, OpenVLAOFT) and self.vla.head == "l1":
            raise SettingsError("mean_temperature is of bins, which the head 'l1' does not have; use 0.")
        self.settings = msgspec.structs.replace(self.settings, mean_temperature=temperature)
        self.vla.mean_temperature = temperature
        self.vla.__dict__.pop("engine", None)

    def reset(self, seeds: Sequence[int], decisions: Sequence[int] | None = None) -> None:
        """Starts one episode for each row, with its own stream of random numbers."""
        self._streams.reset(seeds, decisions)

    @torch.no_grad()
    def act(
        self, observations: Sequence[Observation], *, temperature: float = 0.0, rows: Sequence[int] | None = None
    ) -> list[ActionChunk]:
        """Decides one chunk for each observation; see :class:`tgrpo.policies.base.Policy`."""
        wanted = range(len(observations)) if rows is None else rows
        self._streams.check(wanted)
        pictures, ids, seen, proprio = self.collate(observations)
        pixels = self.vla.preprocess(pictures.to(self.model.device))
        if isinstance(self.vla, OpenVLAOFT) and self.vla.head == "l1":
            if temperature:
                raise SettingsError(f"temperature {temperature}: the head 'l1' cannot sample; use 0.")
            values = self.vla.regress(ids, pixels, self._state(proprio), seen)
            return [ActionChunk(actions) for actions in self._actions(values)]
        drawn = self._streams.quantiles(wanted, self.vla.chunk, DIMS, self.exploration) if temperature else None
        if isinstance(self.vla, OpenVLAOFT):
            state = self._state(proprio)
            chosen = self.vla.sample(ids, pixels, state, temperature=temperature, quantiles=drawn, prompt_mask=seen)
        else:
            chosen = self.vla.sample(ids, pixels, temperature=temperature, quantiles=drawn, prompt_mask=seen)
        bins = chosen.bins.cpu().numpy()
        log_probs = [None] * len(bins) if chosen.log_probs is None else list(chosen.log_probs.cpu().numpy())
        actions = self._actions(prompts.values_of(bins))
        return [ActionChunk(*parts) for parts in zip(actions, bins, log_probs, strict=True)]

    def warm_up(self, most: int) -> None:
        """Decides batches of every size up to ``most`` once, so that none has to be recorded while a robot waits."""
        vla = self.vla
        for length in (2 * prompts.PROMPT_STEP, 3 * prompts.PROMPT_STEP):
            prompt = [*prompts.KNOWN_IDS, *[prompts.SPACE_ID] * (length - len(prompts.KNOWN_IDS))]
            # The largest first: the others fit into its memory.
            for rows in [size for size in reversed(vla.engine.rows) if size <= most]:
                pixels = torch.zeros(rows, 6 * vla.num_images, SIZE, SIZE)
                if isinstance(vla, OpenVLAOFT):
                    state = np.zeros((rows, PROPRIO)) if vla.uses_proprio else None
                    (vla.regress if vla.head == "l1" else vla.sample)([prompt] * rows, pixels, state)
                else:
                    vla.sample([prompt] * rows, pixels)

    def collate(self, observations: Sequence[Observation]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Tensors of a batch.

        Returns:
            Pictures ``(B, I, 224, 224, 3)`` uint8 as the evaluation prepares them, prompt ids ``(B, P)``, their mask
            ``(B, P)`` and normalised proprioception ``(B, 8)``, or ``(B, 0)`` if it is no input.

        Raises:
            PolicyError: A camera or proprioception is missing, or a picture is none.
        """
        pictures = np.stack([self._views(observation) for observation in observations])
        ids, seen = prompts.padded([self.vla.encode(observation.instruction) for observation in observations])
        return torch.from_numpy(pictures), ids, seen, self._proprio(observations)

    def prepare_training(self) -> None:
        """Makes room for gradients: activations are computed again instead of kept.

        Raises:
            SettingsError: The head has no probabilities, or the checkpoint already has adapters.
        """
        if self.settings.adapter is not None:
            raise SettingsError(
                "this checkpoint already has adapters, beside which no others can be trained: continue its own run "
                "with --resume, or start from its base."
            )
        if isinstance(self.vla, OpenVLAOFT) and self.vla.head == "l1":
            raise SettingsError("the head 'l1' has no probabilities to train; load the checkpoint with 'discrete'.")
        self.model.save_memory()

    def layers_to_shard(self) -> tuple[nn.Module, Sequence[nn.Module]]:
        """The language model and its layers."""
        llama = self.model.language_model.model
        return llama, list(llama.layers)

    def gather(self) -> None:
        """Copies the sharded layers to decide with."""
        self.model.gather()

    def release(self) -> None:
        """Lets go of the engine and its weights."""
        self.vla.__dict__.pop("engine", None)
        self.model.__dict__.pop("trunk", None)

    def see(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """Vision features of a batch ``(B, I * 256, F)``."""
        pictures, ids, seen, _ = inputs
        pixels = self.vla.preprocess(pictures.to(self.model.device))
        return self.vla.see(ids, seen, pixels) if isinstance(self.vla, OpenVLAOFT) else self.model.see(pixels)

    def logits(
        self,
        inputs: tuple[Tensor, ...],
        chosen: Tensor,
        *,
        vision: Tensor | None = None,
        weights: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Logits of all bins at each token of given chunks; see :class:`tgrpo.policies.trainable.Trainable`.

        Raises:
            PolicyError: There are weights to put in the place of the network's own.
        """
        if weights:
            raise PolicyError("this policy is trained with its adapters beside their layers, not with merged weights.")
        _, ids, seen, proprio = inputs
        features = self.see(inputs) if vision is None else vision
        if isinstance(self.vla, OpenVLAOFT):
            logits = self.vla.scores(self.vla.think(ids, seen, features, self._state(proprio)))
        else:
            logits = self.vla.teacher_forced(ids, seen, features, prompts.ids_of(chosen[:, 0]))[:, None]
        # Ids count down where bins count up.
        return logits.flip(-1).to(chosen.device)

    def save(self, folder: Path) -> None:
        """Writes a reference to the official folder, whose gigabytes stay where they are, into an existing folder."""
        self._describe(folder, self.settings.adapter)
        if self.settings.adapter is not None:
            own = {name: value for name, value in self.model.state_dict().items() if ".lora_" in name}
            save_file({name: value.contiguous() for name, value in own.items()}, folder / ADAPTER)

    def save_trained(self, folder: Path, adapters: Adapters) -> None:
        """Writes the adapters and a reference to the official folder into an existing folder.

        Raises:
            SettingsError: Every weight was trained, which a reference cannot express.
        """
        if adapters.rank is None:
            raise SettingsError("adapter is 'full': a checkpoint of OpenVLA holds adapters only; train with 'lora'.")
        settings = AdapterSettings(rank=adapters.rank, alpha=adapters.alpha, targets=adapters.targets)
        self._describe(folder, settings)
        save_file({name: value.contiguous() for name, value in adapters.state().items()}, folder / ADAPTER)

    @classmethod
    def load(cls, folder: Path) -> VlaPolicy:
        """Reads an official folder, or one that refers to it and may hold an adapter.

        Raises:
            CheckpointError: Something is missing, damaged or unknown; the message names it.
            SettingsError: The description does not fit, or an official folder needs one.
        """
        settings = _described(folder)
        base = folder / settings.base
        dtype = None if settings.dtype == "stored" else getattr(torch, settings.dtype)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        vla: OpenVLA | OpenVLAOFT
        if settings.kind == "openvla":
            vla = OpenVLA.from_pretrained(base, settings.vit_heads, dtype=dtype, device=device)
        else:
            vla = OpenVLAOFT.from_pretrained(
                base,
                None if settings.components is None else folder / settings.components,
                settings.head,
                settings.num_images,
                settings.proprio,
                settings.film,
                settings.append_stop_token,
                settings.vit_heads,
                dtype=dtype,
                device=device,
            )
        result = cls(vla, settings)
        if settings.adapter is not None:
            parts = settings.adapter
            result._adapters = Adapters(result.model, "lora", parts.rank, parts.alpha, parts.targets)
            result._adapters.restore(_adapter_weights(folder / ADAPTER))
        return result

    def read_adapter(self, folder: Path) -> Callable[[], Callable[[], None]] | None:
        """Reads the adapter of another checkpoint that goes onto this policy's base.

        Args:
            folder: The checkpoint; one without an adapter is the base itself.

        Returns:
            Puts the adapter in the place of this policy's own and returns what undoes that; both take milliseconds.
            None if the checkpoint has another base, is used in another way, or has adapters of other sizes.

        Raises:
            CheckpointError: The adapter is missing or damaged.
        """
        settings = _described(folder)
        base = (folder / settings.base).resolve()
        alike = msgspec.structs.replace(settings, base="", adapter=None) == msgspec.structs.replace(
            self.settings, base="", adapter=None
        )
        wanted, mine = settings.adapter or self.settings.adapter, self.settings.adapter or settings.adapter
        if base != self.vla.folder.path.resolve() or not alike or wanted is None or wanted != mine:
            return None
        weights = None if settings.adapter is None else _adapter_weights(folder / ADAPTER)

        def take() -> Callable[[], None]:
            adapters = self._adapters or Adapters(self.model, "lora", wanted.rank, wanted.alpha, wanted.targets)
            before = adapters.state()
            self._adapters, self.settings = adapters, msgspec.structs.replace(self.settings, adapter=wanted)
            if weights is None:
                adapters.reset()
            else:
                adapters.restore(weights)
            return lambda: adapters.restore(before)

        return take

    def _describe(self, folder: Path, adapter: AdapterSettings | None) -> None:
        base = self.vla.folder.path.resolve()
        settings = msgspec.structs.replace(self.settings, base=str(base), adapter=adapter)
        text = json.dumps(to_builtins(settings), indent=1)
        (folder / DESCRIPTION).write_text(text, encoding="utf-8")

    def _actions(self, values: FloatArray) -> list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
        """Values ``(B, K, A)`` in ``[-1, 1]`` as LIBERO executes them."""
        return list(gripper_to_libero(self.vla.expand(values, self.settings.key)).astype(np.float32))

    def _views(self, observation: Observation) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        """Pictures ``(I, 224, 224, 3)``, mirrored: training turned LIBERO's upside-down pictures by 180 degrees."""
        views = []
        for name in self.spec.observation.cameras:
            picture: Image | None = observation.images.get(name)
            if picture is None or picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
                found = "nothing" if picture is None else f"{picture.dtype} {picture.shape}"
                raise PolicyError(f"camera {name!r}: the policy needs an 8-bit picture (H, W, 3), got {found}.")
            views.append(evaluation_view(picture[:, ::-1], crop=self.settings.crop))
        return np.stack(views)

    def _proprio(self, observations: Sequence[Observation]) -> Tensor:
        if not isinstance(self.vla, OpenVLAOFT) or not self.vla.uses_proprio:
            return torch.zeros(len(observations), 0)
        given = [observation.proprio for observation in observations if observation.proprio is not None]
        if len(given) != len(observations):
            raise PolicyError("the policy needs proprioception (8,): position [m], axis-angle [rad], fingers [m].")
        return torch.from_numpy(self.vla.normalise_proprio(np.stack(given), self.settings.key)).float()

    def _state(self, proprio: Tensor) -> Tensor | None:
        return proprio if self.vla.uses_proprio else None


def _adapter_weights(file: Path) -> dict[str, Tensor]:
    """Weights of an adapter by name.

    Raises:
        CheckpointError: The file is missing or damaged, or holds what is no number.
    """
    try:
        weights: dict[str, Tensor] = load_file(file)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file}: the adapter is missing or damaged: {error}") from error
    odd = [name for name, value in weights.items() if not value.isfinite().all()]
    if odd:
        raise CheckpointError(f"{file}: {len(odd)} weights hold what is no number, for example {odd[0]}.")
    return weights


def _described(folder: Path) -> VlaSettings:
    """The description beside the weights; an official folder of plain OpenVLA needs none."""
    path = folder / DESCRIPTION
    if path.exists():
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise CheckpointError(f"{path} is damaged: {error}") from error
        return from_builtins(data, VlaSettings, source=str(path))
    parts = sorted(file.name for name in COMPONENTS for file in folder.glob(f"{name}*"))
    if parts:
        raise SettingsError(
            f"{folder} is an OpenVLA-OFT ({', '.join(parts)}), and nothing in it tells how it was trained. Write it in "
            f'{path}, for example {{"kind": "openvla_oft", "head": "l1", "num_images": 2, "proprio": true}}; the '
            f"fields are {', '.join(VlaSettings.__struct_fields__)}."
        )
    return VlaSettings(kind="openvla")
