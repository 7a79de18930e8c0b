"""What all teleoperation devices share: the dead zone, and holding on for a moment."""

from __future__ import annotations

from typing import Annotated

import msgspec
import numpy as np

from tgrpo.settings import Strict
from tgrpo.types import FloatArray


class TeleopSettings(Strict, frozen=True):
    """How a device feels."""

    dead_zone: Annotated[float, msgspec.Meta(ge=0.0, lt=0.9)] = 0.05
    """Share of an axis that counts as rest: a puck that nobody touches drifts by more than a thousandth."""
    translation: Annotated[float, msgspec.Meta(gt=0.0, le=1.0)] = 0.3
    """Translation action at full deflection."""
    rotation: Annotated[float, msgspec.Meta(gt=0.0, le=1.0)] = 0.1
    """Rotation action at full deflection."""
    key_hold: Annotated[float, msgspec.Meta(gt=0.0, le=1.0)] = 0.15
    """How long a key counts as pressed after its last repetition [s]; terminals do not report releases."""


def shaped(axes: FloatArray, settings: TeleopSettings) -> FloatArray:
    """Axes of a device as a motion.

    Args:
        axes: ``(6,)`` deflections in [-1, 1]: translation, then rotation.
        settings: Dead zone and scales.

    Returns:
        ``(6,)``, 0 within the dead zone and growing from 0 at its edge, so that nothing jumps there.
    """
    size = np.abs(np.clip(axes, -1.0, 1.0))
    beyond = np.maximum(0.0, size - settings.dead_zone) / (1.0 - settings.dead_zone)
    scale = np.repeat([settings.translation, settings.rotation], 3)
    return np.asarray(np.sign(axes) * beyond * scale)


def deflection(motion: FloatArray, settings: TeleopSettings) -> FloatArray:
    """The axes ``(6,)`` that :func:`shaped` makes a motion ``(6,)`` of, as far as full deflection goes."""
    scale = np.repeat([settings.translation, settings.rotation], 3)
    beyond = np.minimum(np.abs(motion) / scale, 1.0)
    size = beyond * (1.0 - settings.dead_zone) + settings.dead_zone
    return np.asarray(np.sign(motion) * size)
