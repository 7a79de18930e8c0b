"""A tiny VLA that is tiny even for itself, a tiny OpenVLA in the official format, and pictures to show them.

The tiny OpenVLA's answers in ``data/openvla_tiny/golden.safetensors`` are those of the official code. Its weights are
random numbers of one seed, so they are drawn again instead of stored.
"""

import hashlib
import json
import math
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from tokenizers.processors import TemplateProcessing

from tgrpo.policies.openvla import OpenVLA
from tgrpo.policies.openvla_oft import OpenVLAOFT
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


DATA = Path(__file__).parent / "data"
HEADS = (4, 4)
WEIGHTS_HASH = "519fc156f1b51895209945f49cc333c25dfcc386afcac48d34251ed78c0f7b0b"
SPREADS = {"embed_tokens": 0.5, "pos_embed": 0.5, "patch_embed": 0.5, "lm_head": 0.5, "reg_token": 1 / 16}
WORDS = {"In": 512, ":": 29901, "What": 1724, "action": 3158, "should": 881, "the": 278, "robot": 19964, "take": 2125}
WORDS |= {"to": 304, "do": 437, "something": 1554, "?": 29973, "\n": 13, "Out": 3744, "turn": 2507, "on": 373}
WORDS |= {"pick": 5839, "up": 701, "and": 322, "place": 2058, "it": 372, "in": 297, "basket": 25972, "stove": 380}


def draw(name, shape, generator):
    """One weight as the maker of the golden data drew it."""
    if "scale_factor" in name:
        return torch.empty(shape).uniform_(0.5, 1, generator=generator)
    value = torch.randn(shape, generator=generator)
    if name.endswith("bias"):
        return value * 0.05
    if len(shape) == 1:
        return 1 + 0.1 * value
    spread = next((spread for part, spread in SPREADS.items() if part in name), None)
    value = value / math.sqrt(shape[-1]) if spread is None else value * spread
    if "lm_head" in name:
        value[31744:32000] *= 3
    return value


def tiny_weights():
    shapes = json.loads((DATA / "openvla_tiny" / "shapes.json").read_text())
    generator = torch.Generator().manual_seed(1)
    weights = {name: draw(name, shape, generator) for name, shape in shapes.items()}
    digest = hashlib.sha256(b"".join(value.numpy().tobytes() for value in weights.values())).hexdigest()
    assert digest == WEIGHTS_HASH, "torch draws other numbers from this seed than it did for the golden data"
    return weights


def llama_like_tokenizer(words=WORDS):
    """Llama 2's ids for the few words of the tests; whole words only."""
    tokenizer = Tokenizer(WordLevel({"<unk>": 0, "<s>": 1, **words}, unk_token="<unk>"))
    tokenizer.add_special_tokens([AddedToken("<s>")])
    tokenizer.pre_tokenizer = Split(Regex(r"\w+|[?:]|\n"), "removed", invert=True)
    tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


def component(name, shapes, seed):
    generator = torch.Generator().manual_seed(seed)
    return {key: torch.randn(shape, generator=generator) / math.sqrt(shape[-1]) for key, shape in shapes.items()}


@pytest.fixture(scope="session")
def official(tmp_path_factory):
    """An official folder of a tiny OpenVLA; tests that change it take ``changed`` instead."""
    folder = tmp_path_factory.mktemp("openvla")
    for name in ("config.json", "dataset_statistics.json", "preprocessor_config.json"):
        shutil.copy(DATA / "openvla_tiny" / name, folder)
    save_file(tiny_weights(), folder / "model.safetensors")
    llama_like_tokenizer().save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture
def changed(official, tmp_path):
    """A copy of the official folder; its big file is a link, which a test may replace but not write to."""
    folder = tmp_path / "changed"
    folder.mkdir()
    for file in official.iterdir():
        if file.suffix == ".safetensors":
            (folder / file.name).symlink_to(file)
        else:
            shutil.copy(file, folder)
    return folder


@pytest.fixture(scope="session")
def golden():
    return load_file(DATA / "openvla_tiny" / "golden.safetensors")


@pytest.fixture(scope="session")
def vla(official):
    return OpenVLA.from_pretrained(official, HEADS)


@pytest.fixture(scope="session")
def oft(official):
    return OpenVLAOFT.from_pretrained(official, vit_heads=HEADS)


@pytest.fixture(scope="session")
def components(tmp_path_factory, official):
    """Components as ``tgrpo convert`` writes them: an L1 head, a projector of proprioception, towers with FiLM."""
    folder = tmp_path_factory.mktemp("components")
    width = 128
    head = {"model.layer_norm1.weight": (7 * width,), "model.layer_norm1.bias": (7 * width,)}
    head |= {"model.fc1.weight": (width, 7 * width), "model.fc1.bias": (width,)}
    for block in range(2):
        for layer, shape in ((0, (width,)), (1, (width, width))):
            head |= {f"model.mlp_resnet_blocks.{block}.ffn.{layer}.weight": shape}
            head |= {f"model.mlp_resnet_blocks.{block}.ffn.{layer}.bias": (width,)}
    head |= {"model.layer_norm2.weight": (width,), "model.layer_norm2.bias": (width,)}
    head |= {"model.fc2.weight": (7, width), "model.fc2.bias": (7,)}
    save_file(component("action_head", head, 2), folder / "action_head.safetensors")
    proprio = {"fc1.weight": (width, 8), "fc1.bias": (width,), "fc2.weight": (width, width), "fc2.bias": (width,)}
    save_file(component("proprio_projector", proprio, 3), folder / "proprio_projector.safetensors")
    save_file(film_towers(official), folder / "vision_backbone.safetensors")
    return folder


def film_towers(official):
    """The official towers with FiLM layers, under the names of OpenVLA-OFT's component file."""
    towers, generator = {}, torch.Generator().manual_seed(4)
    for name, value in load_file(official / "model.safetensors").items():
        tower, dot, rest = name.partition(".blocks.")
        if not name.startswith("vision_backbone."):
            continue
        number, _, inner = rest.partition(".")
        towers[f"{tower}.blocks.{number}.block.{inner}" if dot else name] = value
        if dot and inner == "norm1.weight":
            for layer in ("scale", "shift"):
                weight = torch.randn(len(value), 128, generator=generator) * 0.05
                towers |= {f"{tower}.blocks.{number}.{layer}.weight": weight}
                towers |= {f"{tower}.blocks.{number}.{layer}.bias": torch.zeros(len(value))}
    return towers


def save_talkative(folder):
    """The tiny OpenVLA of the golden data in the official format, with a tokenizer that knows any word.

    A server asks about an empty instruction when it starts, and LIBERO's instructions have words of their own.
    """
    for file in (DATA / "openvla_tiny").glob("*.json"):
        if file.name != "shapes.json":
            (folder / file.name).write_bytes(file.read_bytes())
    save_file(tiny_weights(), folder / "model.safetensors")
    llama_like_tokenizer().save(str(folder / "tokenizer.json"))
    described = {"kind": "openvla", "vit_heads": [4, 4], "key": "libero_spatial"}
    (folder / "policy.json").write_text(json.dumps(described))
