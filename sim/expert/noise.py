"""Perturbations of what the expert executes, so that its demonstrations contain corrections.

The perturbed action is executed, the clean one is the label: a policy cloned from such data has seen
the states that its own small errors lead to (Laskey et al. 2017, "DART: Noise Injection for Robust
Imitation Learning").
"""

from __future__ import annotations

from typing import Annotated

import msgspec
import numpy as np

from tgrpo.settings import Strict
from tgrpo.types import FloatArray


class NoiseSettings(Strict, frozen=True):
    """How strongly and how slowly the executed actions wander around the clean ones."""

    sigma: Annotated[float, msgspec.Meta(ge=0.0, le=1.0)] = 0.0
    """Standard deviation of the position part, in action units (1 commands 0.05 m)."""
    rotation: Annotated[float, msgspec.Meta(ge=0.0, le=1.0)] = 0.3
    """Standard deviation of the rotation part relative to ``sigma`` (1 commands 0.5 rad)."""
    correlation: Annotated[float, msgspec.Meta(ge=0.0, lt=1.0)] = 0.8
    """Correlation between the perturbations of consecutive control steps; 0.8 lasts about five steps."""


class Noise:
    """A stationary first-order autoregressive Gaussian process over the six arm dimensions."""

    def __init__(self, settings: NoiseSettings, seed: tuple[int, ...]) -> None:
        """Starts the process.

        Args:
            settings: Strength and correlation.
            seed: Non-negative numbers that name the stream; equal ones give equal noise.
        """
        self._rng = np.random.default_rng(seed)
        self._scale = settings.sigma * np.array([1.0] * 3 + [settings.rotation] * 3)
        self._correlation = settings.correlation
        self._state = self._rng.standard_normal(6)

    def perturb(self, action: FloatArray, slack: float) -> FloatArray:
        """Adds the next perturbation to an action.

        Args:
            action: Clean action ``(7,)``.
            slack: Factor on the perturbation, in [0, 1].

        Returns:
            The action to execute ``(7,)``, clipped to [-1, 1]; the gripper is never perturbed.
        """
        fresh = self._rng.standard_normal(6)
        self._state = self._correlation * self._state + np.sqrt(1.0 - self._correlation**2) * fresh
        executed: FloatArray = action.copy()
        executed[:6] = np.clip(executed[:6] + slack * self._scale * self._state, -1.0, 1.0)
        return executed
