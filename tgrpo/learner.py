"""One optimiser step after another: groups of rollouts in, a better policy out.

Shapes: ``N`` rollouts of a group, ``D`` decisions, ``B`` decisions of a minibatch, ``K`` chunk, ``A`` action dims.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from tgrpo.algo import estimate, kl
from tgrpo.algo.batch import Batch
from tgrpo.algo.loss import Objective, clipped_objective, truncated_importance
from tgrpo.errors import CheckpointError, PolicyError, SettingsError
from tgrpo.policies import blocks, sharding, tokens
from tgrpo.policies.adapters import Adapters
from tgrpo.policies.trainable import Trainable
from tgrpo.settings import Strict
from tgrpo.types import RolloutGroup

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(ge=1)]


class LearnerSettings(Strict, frozen=True):
    """How rollouts change the policy; the defaults are those of the ``fast`` preset."""

    a_step: Share = 0.3
    """Weight of the step-level advantage."""
    a_traj: Share = 0.7
    """Weight of the trajectory-level advantage."""
    baseline: str = "tgrpo"
    """What rewards are compared with: `tgrpo`, `grpo`, `gtpo`, `return_to_go_step`, `return_to_go_stage` or
    `round_robin`."""
    scalariser: str = "paid"
    """How reward terms become one comparison: `paid` (as they are), `weighted`, `gdpo`, `gated`, `prefix`,
    `success` (nothing else counts), `maestro` (experimental)."""
    gamma: Share = 0.9
    """Discount of returns-to-go, for each decision."""
    reward_weights: str = ""
    """Weights of reward terms for `weighted` and `gdpo`, such as `success=1,level=0.5`; 1 where not given."""
    ratio: Literal["action", "token"] = "token"
    """Whether one probability ratio covers the 7 tokens of an action or one token."""
    clip_low: Share = 0.2
    """How far a ratio may fall below 1 before its gradient stops."""
    clip_high: NotNegative = 0.28
    """How far a ratio may rise above 1 before its gradient stops."""
    kl: NotNegative = 0.0
    """Weight of the divergence from the policy that training started from."""
    kl_estimator: Literal["k3", "exact"] = "k3"
    """``k3`` estimates it from the sampled tokens (the paper), ``exact`` sums over all bins."""
    entropy: NotNegative = 0.0
    """Weight of the entropy bonus."""
    learning_rate: NotNegative = 3e-4
    """Of AdamW."""
    weight_decay: NotNegative = 0.0
    """Of AdamW."""
    epochs: Count = 2
    """Passes over the decisions of one iteration."""
    minibatch: Count = 128
    """Decisions of one optimiser step."""
    micro_batch: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Decisions whose gradients are computed at a time and then added up; 0 takes as many as the policy advises."""
    importance_cap: NotNegative = 2.0
    """Largest importance weight where rollouts round differently than updates (half precision); 0 corrects nothing."""
    max_grad_norm: NotNegative = 1.0
    """Gradients longer than this are scaled down."""
    adapter: Literal["lora", "full"] = "lora"
    """What is trained: low-rank adapters of the linear layers, or every weight."""
    lora_rank: Count = 32
    """Rank of the adapters."""
    lora_alpha: Count = 16
    """Scale of the adapters is ``alpha / rank``."""
    shard: bool = False
    """Several processes keep a part of a large base each (FSDP2) and gather it for rollouts: room for updates."""


@dataclass(frozen=True)
class Update:
    """What one iteration's optimiser steps did; means over its minibatches where nothing else is said."""

    loss: float
    clip_fraction: float
    ratio_max: float
    """The largest of all."""
    entropy: float
    grad_norm: float
    groups: int
    groups_skipped: int
    reproduction_error: float
    """Largest difference between the log-probabilities that acted and the learner's own before the update [nat]."""
    reproduction_mean: float = 0.0
    """Mean of those differences [nat]."""
    importance_mean: float = 1.0
    """Mean importance weight that corrects them; 1 if nothing is corrected."""
    kl: float | None = None
    """None if it has no weight and the policy is too large to compute it for the record."""


class Learner:
    """Owns the trainable weights and the optimiser.

    Attributes:
        policy: The policy in training; :meth:`export` saves it with what was trained.
    """

    def __init__(self, policy: Trainable, settings: LearnerSettings, *, temperature: float, seed: int) -> None:
        """Prepares training.

        Args:
            policy: Where training starts; its weights also are the reference of the KL term.
            settings: How to train.
            temperature: At which the rollouts are sampled; ratios use the same.
            seed: Of the adapters' initial values and of the order of minibatches.

        Raises:
            SettingsError: There are several processes, and every weight is trained.
        """
        torch.manual_seed(seed)
        self.policy = policy
        self.settings = settings
        self._temperature = temperature
        self._micro_batch = settings.micro_batch or policy.micro_batch or settings.minibatch
        self._adapters = Adapters(
            policy.model, settings.adapter, settings.lora_rank, settings.lora_alpha, policy.lora_targets
        )
        self._sharded = sharding.world() > 1 and self._shard()
        self._order = np.random.default_rng(seed)
        self._optimiser = torch.optim.AdamW(
            self._adapters.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
        )

    def update(self, groups: Sequence[RolloutGroup], rate: float = 1.0) -> Update:
        """Takes ``epochs`` passes of optimiser steps over the decisions of some groups.

        A group without contrast has no gradient: it is skipped and counted.

        Args:
            groups: Rollouts of the policy as it is now; the same in every process, if there are several.
            rate: Share of the learning rate to use, for a schedule.
        """
        if self._sharded:
            self.policy.release()
        for weights in self._optimiser.param_groups:
            weights["lr"] = self.settings.learning_rate * rate
        useful = self._useful(groups)
        skipped = len(groups) - len(useful)
        if not useful:
            return Update(0.0, 0.0, 1.0, 0.0, 0.0, len(groups), skipped, 0.0, kl=0.0)
        batch, reproduction = self._prepare(self._collate(useful))
        sums: dict[str, list[float]] = {}
        for _ in range(self.settings.epochs):
            for part in self._minibatches(len(batch)):
                for name, value in self._step(batch, part).items():
                    sums.setdefault(name, []).append(value)
        means = {name: float(np.mean(values)) for name, values in sums.items()}
        means["ratio_max"] = max(sums["ratio_max"])
        return Update(**means, **reproduction, groups=len(groups), groups_skipped=skipped)

    @torch.no_grad()
    def judge(self, groups: Sequence[RolloutGroup]) -> float:
        """Surrogate loss of the policy as it is now on groups that it does not learn from; 0 without contrast."""
        useful = self._useful(groups)
        if not useful:
            return 0.0
        batch, _ = self._prepare(self._collate(useful))
        everything = torch.arange(len(batch))
        log_probs = self._in_parts(
            everything, lambda part: tokens.gather(self._current(batch, part), batch.chosen[part])
        )
        objective = self._objective(batch, everything, log_probs)
        return float(objective.loss)

    def state(self) -> dict[str, Tensor]:
        """A copy of the trained weights, for :meth:`restore`."""
        return self._adapters.state()

    def restore(self, state: dict[str, Tensor]) -> None:
        """Forgets what was learned since :meth:`state`, and the optimiser's momentum with it."""
        self._adapters.restore(state)
        self._optimiser.state.clear()

    def gather(self) -> None:
        """Before rollouts: all processes together get whole what is sharded, until the next update."""
        if self._sharded:
            self.policy.gather()

    def export(self, folder: Path) -> None:
        """Writes the policy with what was trained: a folder that ``tgrpo.policies.load`` finds."""
        self.policy.save_trained(folder, self._adapters)

    def save_state(self, folder: Path, progress: Mapping[str, Any]) -> None:
        """Writes all that a resumed run needs to continue with the same losses, as safetensors and JSON.

        Args:
            folder: Where to; it exists.
            progress: JSON-ready counters of the run, returned by :meth:`load_state`.
        """
        tensors = {f"weight/{name}": value for name, value in self._adapters.state().items()}
        moments = self._optimiser.state_dict()["state"]
        for index, state in moments.items():
            tensors |= {f"optimiser/{index}/{name}": value for name, value in state.items()}
        save_file({name: value.contiguous() for name, value in tensors.items()}, folder / "learner.safetensors")
        plain = {"progress": dict(progress), "order": self._order.bit_generator.state}
        (folder / "learner.json").write_text(json.dumps(plain), encoding="utf-8")

    def load_state(self, folder: Path) -> dict[str, Any]:
        """Continues from what :meth:`save_state` wrote; returns the run's counters.

        Raises:
            CheckpointError: The folder has no such state or it belongs to other settings.
        """
        try:
            tensors = load_file(folder / "learner.safetensors")
            plain = json.loads((folder / "learner.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, SafetensorError) as error:
            raise CheckpointError(f"{folder}: training cannot continue from there: {error}") from error
        weights = {name.removeprefix("weight/"): value for name, value in tensors.items() if name.startswith("weight/")}
        self._adapters.restore(weights)
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            kind, _, rest = name.partition("/")
            if kind == "optimiser":
                index, _, moment = rest.partition("/")
                moments.setdefault(int(index), {})[moment] = value
        self._optimiser.load_state_dict({**self._optimiser.state_dict(), "state": moments})
        self._order.bit_generator.state = plain["order"]
        return dict(plain["progress"])

    def _useful(self, groups: Sequence[RolloutGroup]) -> list[tuple[RolloutGroup, list[Tensor]]]:
        """Groups with contrast, and the advantages of their decisions."""
        rows = estimate.advantages(groups, self.settings)
        return [(g, a) for g, a in zip(groups, rows, strict=True) if any(bool(row.any()) for row in a)]

    def _collate(self, useful: Sequence[tuple[RolloutGroup, list[Tensor]]]) -> Batch:
        trajectories = [t for group, _ in useful for t in group.trajectories]
        chunks = [chunk for t in trajectories for chunk in t.chunks]
        chosen = [chunk.tokens for chunk in chunks if chunk.tokens is not None]
        acted = [chunk.log_probs for chunk in chunks if chunk.log_probs is not None]
        if not len(chosen) == len(acted) == len(chunks):
            raise PolicyError(
                "training needs tokens and log-probabilities of every chunk; sample at a temperature > 0."
            )
        executed = torch.from_numpy(np.concatenate([t.executed for t in trajectories]))
        weights = [torch.full((len(t.executed),), 1.0 / (len(trajectories) * len(t.executed))) for t in trajectories]
        return Batch(
            self.policy.collate([o for t in trajectories for o in t.observations]),
            torch.from_numpy(np.stack(chosen)),
            torch.from_numpy(np.stack(acted)),
            torch.cat([row for _, rows in useful for row in rows]),
            torch.cat(weights),
            torch.arange(self.policy.spec.chunk) < executed[:, None],
        )

    def _shard(self) -> bool:
        """Shards a large base over the processes, if wanted; returns whether it did.

        Raises:
            SettingsError: Every weight is trained.
        """
        if self._adapters.rank is None:
            raise SettingsError("adapter is 'full': several processes train adapters only; train with 'lora'.")
        large = self.policy.layers_to_shard() if self.settings.shard else None
        if large is None:
            return False
        self.policy.release()
        sharding.shard(*large, self._adapters.parameters())
        return True

    def _minibatches(self, total: int) -> list[Tensor]:
        return list(torch.from_numpy(self._order.permutation(total)).split(self.settings.minibatch))

    @torch.no_grad()
    def _prepare(self, batch: Batch) -> tuple[Batch, dict[str, float]]:
        """Adds what no step of this iteration changes, and says how well the rollouts are reproduced."""
        everything = torch.arange(len(batch))
        if not self._adapters.trains_vision:
            batch = replace(batch, vision=self._in_parts(everything, lambda part: self._see(batch, part)))
        # For a policy of billions of weights, the reference costs a fifth of the update: not for the record alone.
        if self.settings.kl or self.policy.merges:
            with self._adapters.off():
                batch = replace(batch, reference=self._in_parts(everything, lambda part: self._refer(batch, part)))
        return self._compared(batch, everything)

    def _compared(self, batch: Batch, everything: Tensor) -> tuple[Batch, dict[str, float]]:
        """Compares with the rollouts' log-probabilities: those of one minibatch, or all to correct what differs."""
        cap = self.settings.importance_cap if self.policy.drifts else 0.0
        rows = everything if cap else everything[: self.settings.minibatch]
        own = self._in_parts(rows, lambda part: tokens.gather(self._current(batch, part), batch.chosen[part]))
        difference = (own - batch.acted[rows])[batch.mask[rows]].abs()
        found = {"reproduction_error": float(difference.max()), "reproduction_mean": float(difference.mean())}
        if not cap:
            return batch, found
        importance = truncated_importance(own, batch.acted, level=self.settings.ratio, cap=cap)
        found["importance_mean"] = float(importance[batch.mask].mean())
        return replace(batch, importance=importance), found

    def _in_parts(self, rows: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
        """Results for some rows, in micro-batches that are divided over the processes."""
        return sharding.shared(rows, lambda own: torch.cat([compute(part) for part in own.split(self._micro_batch)]))

    def _see(self, batch: Batch, part: Tensor) -> Tensor:
        return self.policy.see(_rows(batch.inputs, blocks.whole(part)))[: len(part)]

    def _refer(self, batch: Batch, part: Tensor) -> Tensor:
        """What the divergence is from; see :attr:`Batch.reference`."""
        log_probs = self._log_probs(batch, part, {})
        return tokens.gather(log_probs, batch.chosen[part]) if self.settings.kl_estimator == "k3" else log_probs

    def _current(self, batch: Batch, part: Tensor) -> Tensor:
        """Log-probabilities of all bins under the policy as it is now ``(B, K, A, V)`` [nat]."""
        if not self.policy.merges:
            return self._log_probs(batch, part, {})
        with self._adapters.merged() as weights:
            return self._log_probs(batch, part, weights)

    def _log_probs(self, batch: Batch, part: Tensor, weights: dict[str, Tensor]) -> Tensor:
        """Log-probabilities of all bins for some rows, with ``weights`` in the place of the network's own."""
        rows = blocks.whole(part)
        vision = None if batch.vision is None else batch.vision[rows]
        inputs = _rows(batch.inputs, rows)
        logits = self.policy.logits(inputs, batch.chosen[rows], vision=vision, weights=weights)[: len(part)]
        return tokens.log_probs_of_bins(logits, self._temperature)

    def _step(self, batch: Batch, part: Tensor) -> dict[str, float]:
        """One optimiser step on the rows ``part``; returns what it measured."""
        self._optimiser.zero_grad(set_to_none=True)
        pieces = [
            self._accumulate(batch, rows, part, share=float(counts))
            for rows, counts in sharding.divide(part, self._micro_batch)
        ]
        trained = self._adapters.parameters()
        sharding.add_up(trained)
        norm = torch.nn.utils.clip_grad_norm_(trained, self.settings.max_grad_norm or float("inf"))
        self._optimiser.step()
        largest = {"ratio_max": max(piece.pop("ratio_max") for piece in pieces)}
        sums = {name: sum(piece[name] for piece in pieces) for name in pieces[0]}
        return {**sharding.combine(sums, largest, trained[0].device), "grad_norm": float(norm)}

    def _objective(self, batch: Batch, rows: Tensor, log_probs: Tensor, scale: float = 1.0) -> Objective:
        """The surrogate of some rows, whose weights are scaled; ``log_probs`` are those of their tokens now."""
        return clipped_objective(
            log_probs,
            batch.acted[rows],
            batch.advantages[rows],
            level=self.settings.ratio,
            clip_low=self.settings.clip_low,
            clip_high=self.settings.clip_high,
            mask=batch.mask[rows],
            weights=batch.weights[rows] * scale,
            importance=None if batch.importance is None else batch.importance[rows],
        )

    def _accumulate(self, batch: Batch, rows: Tensor, part: Tensor, share: float) -> dict[str, float]:
        """Adds the gradient of some rows of the minibatch ``part``; what it measures adds up like the gradient.

        A share of 0 takes part in the communication of the processes alone.
        """
        settings = self.settings
        everything = self._current(batch, rows)
        log_probs = tokens.gather(everything, batch.chosen[rows])
        mask, executed = batch.mask[rows], batch.mask[part].sum()
        objective = self._objective(batch, rows, log_probs, len(batch) / len(part))

        def mean(values: Tensor) -> Tensor:
            """This piece's share of the minibatch's mean of ``(B, K, A)`` over executed actions."""
            return values[mask].sum() / (executed * values.shape[-1])

        figures = {"entropy": mean(kl.entropy(everything))}
        if batch.reference is not None:
            reference = batch.reference[rows]
            k3 = settings.kl_estimator == "k3"
            figures["kl"] = mean(kl.k3(log_probs, reference) if k3 else kl.exact(everything, reference))
        loss = objective.loss
        # A term without weight stays out: 0 times an infinite divergence would be no number.
        if settings.kl:
            loss = loss + settings.kl * figures["kl"]
        if settings.entropy:
            loss = loss - settings.entropy * figures["entropy"]
        (loss * share).backward()
        figures |= {"loss": loss, "clip_fraction": objective.clip_fraction * mask.sum() / executed}
        return {name: float(value.detach()) * share for name, value in figures.items()} | {
            "ratio_max": float(objective.ratio_max)
        }


def _rows(inputs: tuple[Tensor, ...], part: Tensor) -> tuple[Tensor, ...]:
    return tuple(tensor[part] for tensor in inputs)
