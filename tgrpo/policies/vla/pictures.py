"""Pictures as the official LIBERO evaluation shows them to OpenVLA, without TensorFlow.

JPEG round trip, Lanczos to 224 px, the middle 90 % of the area (where training cropped at random), back to 224 px,
then the normalisation of each tower.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray
from torch import Tensor

from tgrpo.errors import CheckpointError, PolicyError
from tgrpo.policies.vla import jpeg
from tgrpo.types import Image
from tgrpo.view import lanczos

SIZE = 224
"""Side of the pictures that the towers see [px]."""
CROP_AREA = 0.9
"""Share of the area that the centre crop keeps."""

_KNOWN = {
    "image_resize_strategy": "resize-naive",
    "interpolations": ["bicubic", "bicubic"],
    "input_sizes": [[3, SIZE, SIZE]] * 2,
}


class Normaliser:
    """Pictures as the two towers want them."""

    def __init__(
        self,
        means: Sequence[Sequence[float]] = ((0.485, 0.456, 0.406), (0.5, 0.5, 0.5)),
        stds: Sequence[Sequence[float]] = ((0.229, 0.224, 0.225), (0.5, 0.5, 0.5)),
    ) -> None:
        """Takes the mean and the deviation of each colour, ``(2, 3)``, for DINOv2 and SigLIP."""
        self._means, self._stds = torch.tensor(means), torch.tensor(stds)

    @classmethod
    def read(cls, folder: Path) -> Normaliser:
        """Takes the numbers from ``preprocessor_config.json``; the published folders differ in the third digit.

        Raises:
            CheckpointError: The file is damaged or asks for another way to resize.
        """
        path = folder / "preprocessor_config.json"
        if not path.exists():
            return cls()
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            result = cls(data["means"], data["stds"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path}: damaged: {error!r}.") from error
        for name, wanted in _KNOWN.items():
            if data.get(name, wanted) != wanted:
                raise CheckpointError(f"{path}: {name} is {data[name]!r}; this version knows {wanted!r} only.")
        if result._means.shape != (2, 3) or result._stds.shape != (2, 3):
            raise CheckpointError(f"{path}: means and stds must be (2, 3): three colours of two towers.")
        return result

    def __call__(self, pictures: NDArray[np.uint8] | Tensor) -> Tensor:
        """Pictures ``(B, H, W, 3)`` or ``(B, I, H, W, 3)`` to ``(B, 6 I, 224, 224)``, DINOv2's channels first.

        Pictures of another size are resized bicubically, as the official processor does.

        Raises:
            PolicyError: They are not 8-bit RGB pictures.
        """
        batch = torch.as_tensor(pictures)
        if batch.dim() == 5:
            pixels = self(batch.flatten(0, 1))
            return pixels.reshape(len(batch), -1, *pixels.shape[2:])
        if batch.dtype != torch.uint8 or batch.dim() != 4 or batch.shape[-1] != 3:
            raise PolicyError(f"pictures must be uint8 of shape (B, H, W, 3), got {batch.dtype} {tuple(batch.shape)}.")
        if batch.shape[1:3] != (SIZE, SIZE):
            batch = torch.from_numpy(np.stack([_bicubic(picture) for picture in batch.cpu().numpy()]))
        values = batch.movedim(-1, 1).float() / 255
        halves = zip(self._means.to(values.device), self._stds.to(values.device), strict=True)
        return torch.cat([(values - mean[:, None, None]) / std[:, None, None] for mean, std in halves], 1)


def evaluation_view(picture: Image, *, crop: bool = True) -> Image:
    """A picture of any size ``(H, W, 3)`` as the evaluation prepares it ``(224, 224, 3)``.

    Args:
        picture: As the camera has it, already mirrored if the policy wants that.
        crop: Take the middle; checkpoints that were trained with random crops need it.
    """
    small = lanczos(jpeg.round_trip(picture), SIZE)
    return centre_crop(small, CROP_AREA) if crop else small


def example_pictures(rows: int, pictures: int) -> Tensor:
    """Noise as the towers want it ``(B, 6 I, 224, 224)``, always the same, for checks."""
    return torch.rand(rows, 6 * pictures, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) * 4 - 2


def centre_crop(picture: Image, area: float) -> Image:
    """Takes the middle of a square picture and enlarges it to the old size, bilinearly.

    Args:
        picture: ``(H, H, 3)``.
        area: Share of the area that stays.
    """
    side = picture.shape[0]
    share = np.float32(math.sqrt(area))
    first = (1 - share) / 2 * np.float32(side - 1)
    places = (first + np.arange(side, dtype=np.float32) * (share * np.float32(side - 1) / np.float32(side - 1))).astype(
        np.float32
    )
    low = np.floor(places).astype(np.int64)
    high, part = np.minimum(low + 1, side - 1), (places - low).astype(np.float32)
    values = picture.astype(np.float32) / np.float32(255)
    across = values[:, low] + (values[:, high] - values[:, low]) * part[None, :, None]
    both = across[low] + (across[high] - across[low]) * part[:, None, None]
    # TensorFlow's way back to integers: scale by 255.5 and cut off.
    result: Image = np.clip(both * np.float32(255.5), 0, 255).astype(np.uint8)
    return result


def _bicubic(picture: Image) -> Image:
    return np.asarray(PIL.Image.fromarray(picture).resize((SIZE, SIZE), PIL.Image.Resampling.BICUBIC))
