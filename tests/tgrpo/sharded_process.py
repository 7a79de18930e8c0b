"""One process of a learner under torchrun: an update from recorded rollouts, and what came of it.

Arguments: checkpoint folder, file of the rollouts, folder for the results.
"""

import importlib.util
import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import distributed

from tgrpo.errors import SettingsError
from tgrpo.learner import Learner, LearnerSettings
from tgrpo.policies import sharding
from tgrpo.policies.openvla import OpenVLA
from tgrpo.policies.openvla_policy import VlaPolicy
from tgrpo.policies.vla.settings import VlaSettings
from tgrpo.types import ActionChunk, RolloutGroup, Trajectory

_spec = importlib.util.spec_from_file_location("policy_parts", Path(__file__).parent / "policies" / "conftest.py")
parts = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(parts)

TEXTS = ("turn on the stove", "pick up the basket")
DECISIONS = 3
SETTINGS = LearnerSettings(
    learning_rate=1e-3,
    lora_rank=2,
    lora_alpha=4,
    epochs=2,
    minibatch=5,
    micro_batch=2,
    kl=0.1,
    kl_estimator="exact",
    shard=True,
)


def load_policy(folder):
    vla = OpenVLA.from_pretrained(folder, parts.HEADS, check=False)
    return VlaPolicy(vla, VlaSettings(kind="openvla", vit_heads=parts.HEADS, key="libero_spatial"))


def views():
    return [[parts.observation(10 * row + step, TEXTS[row], size=64) for step in range(DECISIONS)] for row in range(2)]


def group_of(tokens, log_probs):
    """Two rollouts of three decisions; the first one pays."""
    trajectories = []
    for row, seen in enumerate(views()):
        chunks = [
            ActionChunk(np.zeros((1, 7), np.float32), tokens[row, step], log_probs[row, step])
            for step in range(DECISIONS)
        ]
        rewards = np.full(DECISIONS, 1.0 - row)
        trajectories.append(Trajectory(seen, chunks, np.ones(DECISIONS, np.int64), rewards))
    return RolloutGroup("suite", 0, 0, 0, "hash", trajectories)


def update_of(learner, rollouts):
    with np.load(rollouts) as stored:
        return learner.update([group_of(stored["tokens"], stored["log_probs"])])


def updated(folder, rollouts):
    """Figures of an update, the adapters after it, and the learner."""
    policy = load_policy(folder)
    policy.prepare_training()
    assert policy.vla.engine is not None  # as after a load with its checks
    learner = Learner(policy, SETTINGS, temperature=1.0, seed=0)
    update = update_of(learner, rollouts)
    weights = {name: value.detach().clone() for name, value in policy.model.named_parameters() if ".lora_" in name}
    return asdict(update), weights, learner


def decided(learner):
    """Tokens and log-probabilities that are sampled with the weights as they are."""
    learner.gather()
    policy = learner.policy
    policy.reset([0, 1])
    chunks = policy.act([seen[0] for seen in views()], temperature=1.0)
    return {name: torch.tensor(np.stack([getattr(c, name) for c in chunks])) for name in ("tokens", "log_probs")}


def main(folder, rollouts, out):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo")
    figures, weights, learner = updated(folder, rollouts)
    policy = learner.policy
    layers = policy.model.language_model.model.layers
    base = [value for name, value in layers.named_parameters() if ".lora_" not in name]
    whole, here = sum(value.numel() for value in base), sum(value.to_local().numel() for value in base)
    try:
        policy.reset([0])
        policy.act([views()[0][0]])
        refused = ""
    except SettingsError as error:
        refused = str(error)
    chunks = decided(learner)
    again = asdict(update_of(learner, rollouts))
    out = Path(out)
    save_file(weights | chunks, out / f"{sharding.rank()}.safetensors")
    told = {"first": figures, "second": again, "share": here / whole, "refused": refused}
    (out / f"{sharding.rank()}.json").write_text(json.dumps(told))
    distributed.barrier()
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
