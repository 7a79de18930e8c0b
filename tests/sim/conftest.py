"""Simulators and workers that many tests share, as building one takes seconds."""

import contextlib
import json
import os
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest

os.environ.setdefault("MUJOCO_GL", "osmesa")

RECORDING = Path(__file__).parent / "data" / "libero_object_0_state1.json"


@pytest.fixture(scope="session")
def recording():
    """Actions ``(106, 7)`` of the scripted expert that solve task 0 of libero_object from its initial state 1."""
    return np.array(json.loads(RECORDING.read_text()), np.float32) / 100


@pytest.fixture(scope="session")
def blind_env():
    """Task 0 of libero_object without cameras."""
    from sim.libero import make

    env = make("libero_object", 0, "fast", (), 64)
    yield env
    env.close()


@pytest.fixture(scope="session")
def gone():
    """Tells whether a process has ended, or ends soon."""

    def ends(pid, seconds=20.0):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(FileNotFoundError):
                if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                    time.sleep(0.1)
                    continue
            return True
        return False

    return ends


@pytest.fixture(scope="session")
def pool():
    """Two workers; tests may kill them, as a pool replaces what it loses."""
    from sim.vector import WorkerPool, WorkerSettings

    with WorkerPool(2, WorkerSettings(scene=("libero_object", 0))) as workers:
        yield workers


def tiny_policy(seed=0):
    """A random policy of 32 px pictures that is far from even."""
    import torch

    from tgrpo.policies.tiny import TinyPolicy
    from tgrpo.policies.tiny_model import TINY_SPEC, TinyConfig, TinyModel

    torch.manual_seed(seed)
    spec = msgspec.structs.replace(TINY_SPEC, observation=msgspec.structs.replace(TINY_SPEC.observation, size=32))
    sizes = {"width": 32, "layers": 1, "heads": 2, "feed_forward": 48, "channels": 16, "keypoints": 8, "tokens": 2}
    model = TinyModel(TinyConfig(spec=spec, **sizes))
    with torch.no_grad():
        model.head.weight.mul_(4.0)
    return TinyPolicy(model)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """Checkpoint of :func:`tiny_policy`."""
    folder = tmp_path_factory.mktemp("tiny")
    tiny_policy().save(folder)
    return folder


@pytest.fixture(scope="session")
def random_folder(tmp_path_factory):
    """Checkpoint of a policy that looks at nothing and moves at random."""
    from tgrpo.policies.simple import RandomPolicy

    folder = tmp_path_factory.mktemp("random")
    RandomPolicy().save(folder)
    return folder


@pytest.fixture(scope="session")
def replay_folder(tmp_path_factory, recording):
    """Checkpoint of a policy that plays the recording."""
    from tgrpo.policies.simple import ReplayPolicy

    folder = tmp_path_factory.mktemp("replay")
    ReplayPolicy(recording).save(folder)
    return folder
