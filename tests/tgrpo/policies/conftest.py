"""A tiny VLA that is tiny even for itself, and pictures to show it."""

import msgspec
import numpy as np
import pytest
import torch

from tgrpo.policies.tiny import TinyPolicy
from tgrpo.policies.tiny_model import TinyConfig, TinyModel
from tgrpo.spec import ObservationSpec
from tgrpo.types import Observation

INSTRUCTIONS = ("pick up the milk and place it in the basket", "turn on the stove")


def tiny(exploration="token", seed=0, sharpness=4.0):
    """Random weights; ``sharpness`` makes the distributions far from even."""
    torch.manual_seed(seed)
    base = TinyConfig()
    observation = ObservationSpec(cameras=("agentview", "robot0_eye_in_hand"), size=16, proprio=True)
    config = TinyConfig(
        spec=msgspec.structs.replace(base.spec, observation=observation),
        width=32,
        layers=1,
        heads=2,
        feed_forward=48,
        channels=16,
        keypoints=8,
        tokens=2,
    )
    model = TinyModel(config)
    with torch.no_grad():
        model.head.weight.mul_(sharpness)
    return TinyPolicy(model, exploration)


def observation(seed, instruction=INSTRUCTIONS[0], size=16):
    rng = np.random.default_rng(seed)
    images = {
        name: rng.integers(0, 256, (size, size, 3), dtype=np.uint8) for name in ("agentview", "robot0_eye_in_hand")
    }
    proprio = np.array([0.0, 0.0, 1.0, 3.1, 0.1, 0.0, 0.04, -0.04]) + 0.05 * rng.normal(size=8)
    return Observation(images, instruction, proprio.astype(np.float32))


@pytest.fixture
def make_tiny():
    return tiny


@pytest.fixture
def look():
    return observation
