"""OpenVLA on one device: decisions, an update, memory, each beside the floor that the device's own limits set.

    python benchmarks/gpu_inference.py                    # the 7B's sizes with random weights; needs about 60 GB
    python benchmarks/gpu_inference.py --geometry tiny    # the same code on any machine

Speed does not depend on what the weights are, so no checkpoint is needed. The floor of a pass is the longer of reading
every weight once at the measured bandwidth and computing at the measured rate of large matrix products.
"""

from __future__ import annotations

import argparse
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tgrpo.learner import Learner, LearnerSettings
from tgrpo.policies.openvla import OpenVLA
from tgrpo.policies.openvla_oft import OpenVLAOFT
from tgrpo.policies.openvla_policy import VlaPolicy
from tgrpo.policies.vla.config import LlamaSizes
from tgrpo.policies.vla.decision import DIMS
from tgrpo.policies.vla.folder import Folder
from tgrpo.policies.vla.heads import CHUNK
from tgrpo.policies.vla.network import Network
from tgrpo.policies.vla.pictures import Normaliser, example_pictures
from tgrpo.policies.vla.prompts import KNOWN_IDS, SPACE_ID
from tgrpo.policies.vla.settings import VlaSettings
from tgrpo.policies.vla.statistics import Range, Statistics
from tgrpo.policies.vla.vision import VitSizes
from tgrpo.types import ActionChunk, Observation, RolloutGroup, Trajectory

PATCHES = 256
PROMPT = [*KNOWN_IDS, *[SPACE_ID] * 10]
"""As long as LIBERO's prompts are in the middle: 26 tokens."""


@dataclass(frozen=True)
class Geometry:
    """Sizes of a model and of what is done with it."""

    llama: LlamaSizes
    towers: tuple[VitSizes, VitSizes]
    batch: int
    """Rows of the large batch."""
    rollouts: int
    steps: int
    """Decisions of each rollout of the update."""


TOWERS = (
    VitSizes(width=1024, feed_forward=4096, blocks=23, heads=16, prefix=5, scaled=True),
    VitSizes(width=1152, feed_forward=4304, blocks=26, heads=16, prefix=0, scaled=False),
)
SMALL = LlamaSizes(vocab_size=32064, hidden_size=128, intermediate_size=256, num_hidden_layers=3, num_attention_heads=4)
SMALL_TOWERS = (
    VitSizes(width=64, feed_forward=128, blocks=2, heads=4, prefix=5, scaled=True),
    VitSizes(width=96, feed_forward=192, blocks=2, heads=4, prefix=0, scaled=False),
)
GEOMETRIES = {
    "7b": Geometry(LlamaSizes(vocab_size=32064), TOWERS, 32, 8, 220),
    "tiny": Geometry(SMALL, SMALL_TOWERS, 4, 2, 8),
}


@dataclass(frozen=True)
class Limits:
    """What the device can do."""

    bandwidth: float
    """Of reading and writing memory [B/s]."""
    rate: float
    """Of large matrix products in the weights' precision [FLOP/s]."""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    p50: float
    """[s]"""
    p95: float
    floor: float
    goal: str

    def __str__(self) -> str:
        ratio = self.p50 / self.floor
        return (
            f"| {self.what} | {self.p50 * 1e3:.2f} | {self.p95 * 1e3:.2f} | {self.floor * 1e3:.2f} | {ratio:.2f}x | "
            f"{self.goal} |"
        )


def random_network(geometry: Geometry, device: torch.device, dtype: torch.dtype) -> Network:
    """A network of random weights, made where it is used."""
    with torch.device("meta"):
        network = Network(geometry.llama.llama_config(), geometry.towers).to(dtype)
    network.to_empty(device=device)
    generator = torch.Generator(device).manual_seed(0)
    with torch.no_grad():
        for name, value in network.named_parameters():
            value.fill_(1.0) if "norm" in name and name.endswith("weight") else value.normal_(
                0, 0.02, generator=generator
            )
    network.restore_frequencies()
    return network.eval()


def folder_of(network: Network) -> Folder:
    """The network as if it had been read from an official folder."""
    limits = Range(-np.ones(DIMS), np.ones(DIMS), np.ones(DIMS, bool))
    statistics = {"made_up": Statistics(limits, None)}
    return Folder(Path("random weights"), network, statistics, Normaliser(), lambda _: PROMPT)  # type: ignore[arg-type]


def synchronise(device: torch.device) -> None:
    """Waits for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def times(function: Callable[[], object], count: int, device: torch.device) -> list[float]:
    """Wall time of so many calls [s], after a few that are not counted."""
    for _ in range(min(count, 3)):
        function()
    found = []
    for _ in range(count):
        synchronise(device)
        started = time.perf_counter()
        function()
        synchronise(device)
        found.append(time.perf_counter() - started)
    return found


def measure_limits(device: torch.device, dtype: torch.dtype) -> Limits:
    """Bandwidth of a copy and rate of a matrix product, both large enough for the device."""
    large = device.type == "cuda"
    source = torch.ones(2**30 if large else 2**25, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy = min(times(lambda: target.copy_(source), 10, device))
    side = 8192 if large else 768
    matrix = torch.randn(side, side, device=device, dtype=dtype)
    product = min(times(lambda: matrix @ matrix, 10, device))
    return Limits(2 * len(source) / copy, 2 * side**3 / product)


class Floors:
    """How fast each task could be at best."""

    def __init__(self, network: Network, limits: Limits) -> None:
        """Counts the weights.

        Args:
            network: The model.
            limits: What the device can do.
        """
        self._limits = limits
        llama = network.language_model.model
        self.layers = sum(value.numel() for value in llama.layers.parameters())
        self._vision = sum(
            p.numel() for part in (network.vision_backbone, network.projector) for p in part.parameters()
        )
        self._size = network.projector.fc1.weight.element_size()
        config = network.language_model.config
        self._row = 2 * config.num_key_value_heads * (config.hidden_size // config.num_attention_heads)
        self._row *= config.num_hidden_layers * self._size

    def vision(self, rows: int) -> float:
        """Both towers and the projector [s]."""
        return self._pass(self._vision, rows * PATCHES)

    def autoregressive(self, rows: int) -> float:
        """Seven tokens one after another [s]."""
        context = PATCHES + len(PROMPT) + 1
        steps = sum(self._pass(self.layers, rows, rows * (context + place) * self._row) for place in range(DIMS - 1))
        return self.vision(rows) + self._pass(self.layers, rows * context) + steps

    def parallel(self, rows: int) -> float:
        """A chunk in one pass [s]."""
        return self.vision(rows) + self._pass(self.layers, rows * (PATCHES + len(PROMPT) + CHUNK * DIMS + 2))

    def update(self, rows: int, passes: int) -> float:
        """One epoch: vision, and forward passes each as long as the backward pass to the activations [s]."""
        tokens = rows * (PATCHES + len(PROMPT) + DIMS)
        return self.vision(rows) + passes * 2 * self.layers * tokens / self._limits.rate

    def _pass(self, weights: int, tokens: int, more_bytes: int = 0) -> float:
        read = (weights * self._size + more_bytes) / self._limits.bandwidth
        return max(read, 2 * weights * tokens / self._limits.rate)


def decisions(network: Network, geometry: Geometry, floors: Floors, count: int) -> list[Row]:
    """Times of decisions, pictures in to tokens out."""
    folder, device = folder_of(network), network.device
    oft = OpenVLAOFT(folder, num_images=1, append_stop_token=True)
    rows = []
    for model, size, floor, goal in (
        (OpenVLA(folder), 1, floors.autoregressive, "33 ms on an H200"),
        (OpenVLA(folder), geometry.batch, floors.autoregressive, "105 obs/s on an H200"),
        (oft, 1, floors.parallel, "10 ms on an H200"),
    ):
        pixels = example_pictures(size, 1).to(device)
        found = times(lambda model=model, pixels=pixels: model.sample([PROMPT] * len(pixels), pixels), count, device)
        kind = "OFT, 8 x 7 tokens" if model is oft else "autoregressive, 7 tokens"
        what = f"{kind}, batch {size}: {size / statistics.median(found):.1f} obs/s"
        rows.append(Row(what, statistics.median(found), share(found, 0.95), floor(size), goal))
    return rows


def update(network: Network, geometry: Geometry, floors: Floors) -> Row:
    """Time of one epoch over a group, with rollouts in the precision of the weights."""
    policy = VlaPolicy(OpenVLA(folder_of(network)), VlaSettings(kind="openvla"))
    policy.prepare_training()
    learner = Learner(policy, LearnerSettings(epochs=1, learning_rate=1e-5), temperature=1.0, seed=0)
    rng = np.random.default_rng(0)
    view = Observation({"agentview": rng.integers(0, 256, (256, 256, 3), dtype=np.uint8)}, "made up")
    trajectories = []
    for _ in range(geometry.rollouts):
        drawn = rng.integers(0, 256, (geometry.steps, 1, DIMS))
        likely = np.full((1, DIMS), np.log(1 / 256), np.float32)
        chunks = [ActionChunk(np.zeros((1, DIMS), np.float32), tokens, likely) for tokens in drawn]
        executed = np.ones(geometry.steps, np.int64)
        trajectories.append(Trajectory([view] * geometry.steps, chunks, executed, rng.random(geometry.steps)))
    group = RolloutGroup("made up", 0, 0, 0, "", trajectories)
    started = time.perf_counter()
    result = learner.update([group])
    synchronise(network.device)
    seconds = time.perf_counter() - started
    samples = geometry.rollouts * geometry.steps
    if not result.grad_norm > 0:
        raise RuntimeError("the update had no gradient; nothing was measured.")
    # Forward, forward again from checkpoints, backward; one more forward corrects what half precision lets drift.
    floor = floors.update(samples, 4 if policy.drifts else 3)
    return Row(f"LoRA update, {samples} decisions, one epoch", seconds, seconds, floor, "90 s on an H200")


def share(values: list[float], part: float) -> float:
    """A quantile."""
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


def peak(device: torch.device) -> str:
    """Most memory so far, and of what."""
    if device.type == "cuda":
        return f"{torch.cuda.max_memory_allocated(device) / 1e9:.2f} GB of the card"
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9:.2f} GB of the process"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--geometry", choices=tuple(GEOMETRIES), default="7b")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--count", type=int, default=50, help="repetitions of each decision")
    arguments = parser.parse_args()
    device, geometry = torch.device(arguments.device), GEOMETRIES[arguments.geometry]
    if device.type == "cpu" and arguments.geometry == "7b":
        parser.error("no CUDA device was found; measure the code with --geometry tiny.")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    limits = measure_limits(device, dtype)
    network = random_network(geometry, device, dtype)
    floors = Floors(network, limits)
    rows = [*decisions(network, geometry, floors, arguments.count), update(network, geometry, floors)]
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    print(
        f"{arguments.geometry}, {str(dtype).removeprefix('torch.')}, {name}, torch {torch.__version__}, "
        f"Python {platform.python_version()}, {date.today()}; {limits.bandwidth / 1e9:.0f} GB/s and "
        f"{limits.rate / 1e12:.2f} TFLOP/s measured; peak memory {peak(device)}\n"
    )
    print("| task | p50 [ms] | p95 [ms] | floor [ms] | ratio | goal |\n|---|---|---|---|---|---|")
    print(*rows, sep="\n")


if __name__ == "__main__":
    main()
