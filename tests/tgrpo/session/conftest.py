"""A small policy that learns from recorded sessions."""

import msgspec
import pytest

from tests.tgrpo.policies.conftest import tiny
from tgrpo.policies.tiny import TinyPolicy
from tgrpo.policies.tiny_model import TinyModel
from tgrpo.policies.trainable import load_trainable


@pytest.fixture
def policy_folder(tmp_path):
    """An untrained policy for two cameras of 16 px."""
    folder = tmp_path / "policy"
    folder.mkdir()
    tiny().save(folder)
    return folder


@pytest.fixture
def short_folder(tmp_path):
    """The same with chunks of 4 actions, as the made-up recordings have them."""
    config = tiny().model.config
    spec = msgspec.structs.replace(config.spec, chunk=4)
    folder = tmp_path / "short"
    folder.mkdir()
    TinyPolicy(TinyModel(msgspec.structs.replace(config, spec=spec))).save(folder)
    return folder


@pytest.fixture
def policy(policy_folder):
    return load_trainable(policy_folder)
