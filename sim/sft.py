"""`tgrpo sft`: trains the tiny VLA on demonstrations, ours or LIBERO's own."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from tgrpo.algo import imitation
from tgrpo.errors import SettingsError
from tgrpo.policies import bins
from tgrpo.policies.tiny import TinyPolicy
from tgrpo.policies.tiny_model import TINY_SPEC, TinyConfig, TinyModel, body_features
from tgrpo.record import demo_file, files, provenance
from tgrpo.record.demo_file import Demonstration
from tgrpo.settings import Strict, to_builtins, validated
from tgrpo.types import Observation

Count = Annotated[int, msgspec.Meta(ge=1)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]


class SftSettings(Strict, frozen=True):
    """Supervised fine-tuning of the tiny VLA on demonstrations."""

    demos: tuple[str, ...]
    """Demonstration files, folders or patterns."""
    out: Path
    """Checkpoint folder to write; it must not exist."""
    steps: Count = 4000
    """Optimiser steps."""
    batch: Count = 48
    """Decisions of one step."""
    learning_rate: NotNegative = 2e-3
    """Highest learning rate of AdamW; it warms up for a tenth of the steps and falls to 0 along a cosine."""
    weight_decay: NotNegative = 1e-4
    """Of AdamW."""
    label_sigma: NotNegative = 4.0
    """Width of the soft labels [bins]."""
    shift: Annotated[int, msgspec.Meta(ge=0)] = 3
    """Largest random shift of the pictures [px]."""
    proprio_noise: NotNegative = 0.1
    """Noise on position and fingers, as a share of their standard deviation."""
    demos_per_task: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Demonstrations of each task that are used; 0 for all."""
    seed: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Seed of the initial weights and of everything that is drawn."""


@dataclass(frozen=True, eq=False)
class Examples:
    """Decisions of all demonstrations, one row each."""

    pictures: Tensor
    """``(B, C, H, W, 3)`` uint8."""
    proprio: Tensor
    """``(B, 8)``."""
    targets: Tensor
    """``(B, K, A)`` bins of the next ``K`` demonstrated actions."""
    tasks: Tensor
    """``(B,)`` index into ``instructions``."""
    instructions: list[str]
    demonstrations: dict[str, int]
    """Instruction to the number of demonstrations used."""


def examples(demonstrations: Iterable[Demonstration], chunk: int, per_task: int = 0) -> Examples:
    """Turns demonstrations into decisions: what is seen, and the actions that follow.

    Behind the end of a demonstration the arm rests and the gripper stays as it is.

    Args:
        demonstrations: All of them, with pictures of the same cameras and size.
        chunk: Actions of one decision ``K``.
        per_task: Demonstrations of each instruction that are used; 0 for all.

    Raises:
        SettingsError: There is nothing to learn from.
    """
    counts: dict[str, int] = {}
    pictures: list[NDArray[np.uint8]] = []
    proprio: list[NDArray[np.float32]] = []
    targets: list[NDArray[np.int64]] = []
    tasks: list[int] = []
    for demo in demonstrations:
        used = counts.get(demo.instruction, 0)
        if not demo.success or (per_task and used >= per_task):
            continue
        counts[demo.instruction] = used + 1
        pictures.append(np.stack(list(demo.images.values()), axis=1))
        proprio.append(demo.proprio[demo.frames])
        targets.append(bins.encode(bins.chunks(demo.actions, demo.frames, chunk)))
        tasks += [list(counts).index(demo.instruction)] * len(demo.frames)
    if not counts:
        raise SettingsError("no successful demonstration to learn from; make some with 'tgrpo demos'.")
    return Examples(
        torch.from_numpy(np.concatenate(pictures)),
        torch.from_numpy(np.concatenate(proprio)),
        torch.from_numpy(np.concatenate(targets)),
        torch.tensor(tasks),
        list(counts),
        counts,
    )


def fit(policy: TinyPolicy, data: Examples, settings: SftSettings, console: Console) -> list[float]:
    """Trains the policy in place; returns the loss of each step [nat]."""
    model, rng = policy.model.train(), np.random.default_rng(settings.seed)
    noise = torch.Generator().manual_seed(settings.seed)
    labels = imitation.soft_labels(policy.spec.bins, settings.label_sigma)
    prompts, spread = _prompts(policy, data), data.proprio.std(0)
    spread[3:6] = 0.0  # an axis-angle near 180 degrees jumps, so its spread says nothing
    optimiser = torch.optim.AdamW(
        model.parameters(), settings.learning_rate, betas=(0.9, 0.95), weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.learning_rate, total_steps=settings.steps + 1, pct_start=0.1
    )
    losses: list[float] = []
    started = time.monotonic()
    for step in range(1, settings.steps + 1):
        rows = torch.from_numpy(rng.integers(0, len(data.tasks), settings.batch))
        shaken = torch.randn(settings.batch, 8, generator=noise) * settings.proprio_noise * spread
        pictures = imitation.shifted(data.pictures[rows], settings.shift, rng)
        logits = model(pictures, prompts[data.tasks[rows]], data.proprio[rows] + shaken)
        loss = imitation.loss(logits, data.targets[rows], labels)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        losses.append(float(loss.detach()))
        if step % 100 == 0 or step == settings.steps:
            left = (time.monotonic() - started) / step * (settings.steps - step)
            mean = float(np.mean(losses[-100:]))
            console.print(f"step {step}/{settings.steps}: loss {mean:.4f}, {left:.0f} s left", highlight=False)
    model.eval()
    return losses


def main(argv: list[str]) -> int:
    """``tgrpo sft``."""
    settings = validated(tyro.cli(SftSettings, prog="tgrpo sft", args=argv))
    console = Console()
    if settings.out.exists():
        raise SettingsError(f"{settings.out} exists; choose another folder for the checkpoint.")
    paths = demo_file.paths(settings.demos)
    data = examples((demo for path in paths for demo in demo_file.read(path)), TINY_SPEC.chunk, settings.demos_per_task)
    policy = new_policy(data, _cameras(paths[0]), settings.seed)
    console.print(
        f"{len(data.tasks)} decisions of {sum(data.demonstrations.values())} demonstrations, "
        f"{len(data.instructions)} instructions; {sum(p.numel() for p in policy.model.parameters())} parameters"
    )
    losses = fit(policy, data, settings, console)
    record = {
        "settings": to_builtins(settings),
        "demonstrations": data.demonstrations,
        "final_loss": float(np.mean(losses[-100:])),
        "provenance": provenance.collect({"seed": settings.seed}),
    }

    def write(folder: Path) -> None:
        policy.save(folder)
        (folder / "training.json").write_text(json.dumps(record, indent=1), encoding="utf-8")

    files.write_folder(settings.out, write)
    console.print(f"Wrote {settings.out}. Next: tgrpo eval {settings.out}", highlight=False)
    return 0


def new_policy(data: Examples, cameras: Sequence[str], seed: int) -> TinyPolicy:
    """A fresh tiny VLA for the cameras and picture size of some demonstrations."""
    observation = msgspec.structs.replace(
        TINY_SPEC.observation, cameras=tuple(cameras), size=int(data.pictures.shape[2])
    )
    body = body_features(data.proprio)
    config = TinyConfig(
        spec=msgspec.structs.replace(TINY_SPEC, observation=observation),
        body_mean=tuple(body.mean(0).tolist()),
        body_std=tuple((body.std(0) + 1e-3).tolist()),
    )
    torch.manual_seed(seed)
    return TinyPolicy(TinyModel(config))


def _cameras(path: Path) -> list[str]:
    return list(next(iter(demo_file.read(path))).images)


def _prompts(policy: TinyPolicy, data: Examples) -> Tensor:
    """Prompt ids of every instruction ``(number of instructions, P)``."""
    spec = policy.spec.observation
    blank = np.zeros((spec.size, spec.size, 3), np.uint8)
    nothing = np.zeros(8, np.float32)
    shown = dict.fromkeys(spec.cameras, blank)
    return policy.collate([Observation(shown, text, nothing) for text in data.instructions])[1]
