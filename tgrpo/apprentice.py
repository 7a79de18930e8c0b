"""Learning between episodes: imitation of corrections, and a gate that no worse version passes.

The weights that a robot runs never change in place. Every accepted change is a new, numbered checkpoint beside the old
ones (:mod:`tgrpo.session.versions`), so that going back is choosing another number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Protocol

import msgspec
import numpy as np
import torch
from torch import Tensor

from tgrpo.algo import imitation
from tgrpo.errors import SettingsError
from tgrpo.policies.adapters import Adapters
from tgrpo.policies.trainable import Trainable
from tgrpo.session.lessons import Lesson, balanced
from tgrpo.settings import Strict

Count = Annotated[int, msgspec.Meta(ge=1)]
NotNegative = Annotated[float, msgspec.Meta(ge=0.0)]


class ImitationSettings(Strict, frozen=True):
    """How corrections change the policy."""

    steps: Count = 60
    """Optimiser steps after each episode with something new."""
    batch: Count = 48
    """Decisions of one step, half of corrections and half of successes."""
    learning_rate: NotNegative = 5e-4
    """Of AdamW."""
    label_sigma: NotNegative = 4.0
    """Width of the soft labels [bins]."""
    shift: Annotated[int, msgspec.Meta(ge=0)] = 2
    """Largest random shift of the pictures of a policy that takes them as they are [px]; 0 for none."""
    lora_rank: Count = 32
    """Rank of the adapters."""
    lora_alpha: Count = 16
    """Scale of the adapters is ``alpha / rank``."""
    seed: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Of the adapters' initial values and of the batches."""


@dataclass(frozen=True)
class Verdict:
    """What the gate says about a candidate."""

    accepted: bool
    before: float
    """Loss of the version in use on the held-out decisions [nat]."""
    after: float
    """Loss of the candidate [nat]."""
    decisions: int
    """Held-out decisions; without any every candidate is accepted."""
    why: str = ""
    """Why there is no candidate, if there is none."""

    def __str__(self) -> str:
        """One line for people."""
        if self.why:
            return self.why
        word = "accepted" if self.accepted else "refused"
        if not self.decisions:
            return f"{word}: there is nothing held out to judge by yet"
        return f"{word}: loss {self.before:.3f} -> {self.after:.3f} on {self.decisions} held-out decisions"


class Student(Protocol):
    """Whatever can forget what it has just learned."""

    def state(self) -> dict[str, Tensor]:
        """A copy of what was learned."""

    def restore(self, state: dict[str, Tensor]) -> None:
        """Goes back to a copy."""


def gate(
    student: Student, learn: Callable[[], object], score: Callable[[], float], decisions: int, tolerance: float
) -> Verdict:
    """Learns, and forgets it again if the held-out decisions say that it got worse.

    Args:
        student: Who learns.
        learn: Changes it.
        score: Its loss on what is held out.
        decisions: How many decisions are held out; without any the candidate is accepted.
        tolerance: How much the loss may grow.
    """
    saved, before = student.state(), score()
    learn()
    after = score()
    accepted = not decisions or after <= before + tolerance
    if not accepted:
        student.restore(saved)
    return Verdict(accepted, before, after, decisions)


class Apprentice:
    """A policy that learns from lessons.

    Attributes:
        policy: As it is now; :meth:`export` writes it.
    """

    def __init__(self, policy: Trainable, settings: ImitationSettings) -> None:
        """Adds adapters to the policy; the first version equals it.

        Args:
            policy: Changed in place.
            settings: How to learn.
        """
        torch.manual_seed(settings.seed)
        self.policy, self._settings = policy, settings
        self._adapters = Adapters(policy.model, "lora", settings.lora_rank, settings.lora_alpha, policy.lora_targets)
        self._optimiser = torch.optim.AdamW(self._adapters.parameters(), settings.learning_rate, weight_decay=0.0)
        self._labels = imitation.soft_labels(policy.spec.bins, settings.label_sigma)
        self._rng = np.random.default_rng(settings.seed)

    def learn(self, lessons: Sequence[Lesson]) -> float:
        """Takes the settings' optimiser steps and returns their mean loss [nat].

        Raises:
            SettingsError: There is nothing to learn from.
        """
        if not lessons:
            raise SettingsError("there are no decisions to learn from: no human has taken over, and nothing succeeded.")
        losses = []
        for _ in range(self._settings.steps):
            loss = self._loss(balanced(lessons, self._settings.batch, self._rng), shake=True)
            self._optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self._adapters.parameters(), 1.0)
            self._optimiser.step()
            losses.append(float(loss.detach()))
        return float(np.mean(losses))

    @torch.no_grad()
    def score(self, lessons: Sequence[Lesson]) -> float:
        """Mean loss on decisions [nat]; NaN without any."""
        size = self._settings.batch
        parts = [lessons[start : start + size] for start in range(0, len(lessons), size)]
        weights = [sum(int(lesson.mask.sum()) for lesson in part) for part in parts]
        losses = [float(self._loss(part)) for part in parts]
        return float(np.average(losses, weights=weights)) if parts else float("nan")

    def state(self) -> dict[str, Tensor]:
        """A copy of what was learned, for :meth:`restore`."""
        return self._adapters.state()

    def restore(self, state: dict[str, Tensor]) -> None:
        """Forgets what was learned since :meth:`state`, and the optimiser's momentum with it."""
        self._adapters.restore(state)
        self._optimiser.state.clear()

    def try_out(self, lessons: Sequence[Lesson], held_out: Sequence[Lesson], tolerance: float = 0.0) -> Verdict:
        """Learns, and forgets it again if the held-out decisions say that it got worse.

        Args:
            lessons: To learn from.
            held_out: Never learned from.
            tolerance: How much the held-out loss may grow [nat].

        Raises:
            SettingsError: There is nothing to learn from.
        """
        return gate(self, lambda: self.learn(lessons), lambda: self.score(held_out), len(held_out), tolerance)

    def export(self, folder: Path) -> None:
        """Writes the policy into an existing folder: one that ``tgrpo.policies.load`` and the server read."""
        self.policy.save_trained(folder, self._adapters)

    def _loss(self, lessons: Sequence[Lesson], *, shake: bool = False) -> Tensor:
        inputs = self.policy.collate([lesson.observation for lesson in lessons])
        if shake and self._settings.shift and inputs[0].dtype == torch.uint8:
            inputs = (imitation.shifted(inputs[0], self._settings.shift, self._rng), *inputs[1:])
        targets = torch.from_numpy(np.stack([lesson.targets for lesson in lessons]))
        mask = torch.from_numpy(np.stack([lesson.mask for lesson in lessons]))
        if not self.policy.merges:
            return imitation.loss(self.policy.logits(inputs, targets), targets, self._labels, mask)
        with self._adapters.merged() as weights:
            return imitation.loss(self.policy.logits(inputs, targets, weights=weights), targets, self._labels, mask)
