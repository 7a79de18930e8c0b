"""The learner on made-up rollouts of a very small network."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tgrpo.errors import CheckpointError, PolicyError
from tgrpo.learner import Learner, LearnerSettings
from tgrpo.policies import load, tokens
from tgrpo.policies.adapters import Adapters
from tgrpo.policies.tiny_model import LORA_TARGETS
from tgrpo.types import RolloutGroup, Trajectory

_spec = importlib.util.spec_from_file_location("policy_parts", Path(__file__).parent / "policies" / "conftest.py")
parts = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(parts)

DECISIONS, TEMPERATURE = 3, 1.0
GOOD, BAD = 1.0, 0.0


def rollout(policy, seed, reward, decisions=DECISIONS, executed=8):
    """A rollout over random pictures; every executed control step pays ``reward``."""
    policy.reset([seed])
    views = [parts.observation(10 * seed + step) for step in range(decisions)]
    chunks = [policy.act([view], temperature=TEMPERATURE)[0] for view in views]
    counts = np.full(decisions, executed)
    return Trajectory(views, chunks, counts, np.full(counts.sum(), reward))


def group(policy, rewards, first_seed=0, **keywords):
    trajectories = [rollout(policy, first_seed + place, reward, **keywords) for place, reward in enumerate(rewards)]
    return RolloutGroup("suite", 0, 0, 0, "hash", trajectories)


def learner(**settings):
    policy = parts.tiny()
    defaults = {"learning_rate": 1e-3, "lora_rank": 4, "lora_alpha": 8, "epochs": 1}
    return Learner(policy, LearnerSettings(**defaults | settings), temperature=TEMPERATURE, seed=0)


def likelihood(model_owner, trajectories):
    """Mean log-probability of the tokens of each rollout."""
    policy = model_owner.policy
    result = []
    with torch.no_grad():
        for trajectory in trajectories:
            logits = policy.model(*policy.collate(trajectory.observations))
            chosen = torch.from_numpy(np.stack([chunk.tokens for chunk in trajectory.chunks]))
            result.append(float(tokens.gather(tokens.log_probs_of_bins(logits, TEMPERATURE), chosen).mean()))
    return np.array(result)


def weights(model_owner):
    return {name: value.clone() for name, value in model_owner.policy.model.state_dict().items()}


def equal(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("settings", [{}, {"ratio": "action"}, {"adapter": "full", "learning_rate": 1e-4}])
def test_better_rollouts_become_likelier_and_worse_ones_less(settings):
    student = learner(**settings, epochs=4)
    rollouts = group(student.policy, [GOOD, BAD, BAD, GOOD])
    before = likelihood(student, rollouts.trajectories)
    update = student.update([rollouts])
    change = likelihood(student, rollouts.trajectories) - before
    assert min(change[[0, 3]]) > 0 > max(change[[1, 2]])
    assert update.groups_skipped == 0
    assert update.grad_norm > 0


def test_the_first_step_sees_the_probabilities_that_acted():
    student = learner(minibatch=64)
    update = student.update([group(student.policy, [GOOD, BAD])])
    assert update.reproduction_error < 1e-5
    assert update.ratio_max == pytest.approx(1.0, abs=1e-4)
    assert update.clip_fraction == 0
    assert update.kl == pytest.approx(0.0, abs=1e-6)


def test_a_group_that_is_only_judged_tells_better_from_worse():
    student = learner(epochs=4)
    shown, same, flat = (group(student.policy, list(map(float, bits))) for bits in ("1001", "0110", "1111"))
    untouched, before = student.state(), (student.judge([shown]), student.judge([same]))
    assert equal(untouched, student.state())
    student.update([shown])
    assert student.judge([shown]) < before[0]
    assert student.judge([same]) > before[1]  # the same rollouts, of which the other half went well
    assert student.judge([flat]) == 0.0
    student.restore(untouched)
    assert (student.judge([shown]), student.judge([same])) == before


def test_a_flat_group_changes_nothing():
    student = learner()
    before = weights(student)
    update = student.update([group(student.policy, [GOOD, GOOD, GOOD])])
    assert equal(before, weights(student))
    assert (update.groups, update.groups_skipped, update.loss) == (1, 1, 0.0)


def test_a_flat_group_beside_another_has_no_part_in_the_update():
    alone, beside = learner(), learner()
    useful = group(alone.policy, [GOOD, BAD])
    flat = group(alone.policy, [GOOD, GOOD], first_seed=50)
    alone.update([useful])
    update = beside.update([flat, useful])
    assert equal(weights(alone), weights(beside))
    assert (update.groups, update.groups_skipped) == (2, 1)


def test_a_flat_group_costs_nothing(monkeypatch):
    student = learner()
    flat = group(student.policy, [GOOD, GOOD])
    for name in ("collate", "see", "logits"):
        monkeypatch.setattr(student.policy, name, lambda *_, **__: pytest.fail("computed for a group without contrast"))
    assert student.update([flat]).groups_skipped == 1


@pytest.mark.parametrize("settings", [{"kl": 0.1, "entropy": 0.01}, {"ratio": "action", "kl_estimator": "exact"}])
@pytest.mark.parametrize("size", [1, 4])
def test_micro_batches_add_up_to_the_minibatch(settings, size):
    updates, trained = [], []
    for micro in (0, size):
        student = learner(minibatch=6, micro_batch=micro, **settings)
        rollouts = group(student.policy, [GOOD, BAD, GOOD], executed=5)
        for trajectory in rollouts.trajectories[:1]:
            trajectory.executed[-1] = 3
        rollouts.trajectories[0] = replace(rollouts.trajectories[0], rewards=np.full(13, GOOD))
        updates.append(student.update([rollouts]))
        trained.append(weights(student))
    for name in updates[0].__dataclass_fields__:
        assert getattr(updates[0], name) == pytest.approx(getattr(updates[1], name), rel=1e-4, abs=1e-6), name
    assert all(torch.allclose(trained[0][name], trained[1][name], atol=2e-5) for name in trained[0])


@pytest.mark.parametrize(
    ("shift", "cap", "weight"), [(np.log(1.5), 2.0, 1 / 1.5), (-np.log(10.0), 2.0, 2.0), (np.log(1.5), 0.0, 1.0)]
)
def test_rollouts_that_round_differently_are_weighted(monkeypatch, shift, cap, weight):
    """As if the rollout had thought its tokens likelier by a factor; small steps, so that no ratio is clipped."""
    student = learner(importance_cap=cap, learning_rate=1e-6, clip_low=0.9, clip_high=100.0)
    plain = student.update([group(student.policy, [GOOD, BAD])])
    assert (plain.importance_mean, plain.reproduction_error) == (1.0, pytest.approx(0.0, abs=1e-5))
    monkeypatch.setattr(student.policy, "drifts", True, raising=False)
    rollouts = group(student.policy, [GOOD, BAD])
    for chunk in (chunk for trajectory in rollouts.trajectories for chunk in trajectory.chunks):
        chunk.log_probs[:] += shift
    update = student.update([rollouts])
    assert update.importance_mean == pytest.approx(weight, rel=1e-3)
    assert update.reproduction_mean == pytest.approx(abs(shift), rel=1e-3)


def test_actions_that_were_not_executed_do_not_count():
    first, second = learner(), learner()
    for student, other in ((first, 0), (second, 255)):
        rollouts = group(student.policy, [GOOD, BAD], executed=3)
        for trajectory in rollouts.trajectories:
            for chunk in trajectory.chunks:
                chunk.tokens[3:] = other
        student.update([rollouts])
    assert equal(weights(first), weights(second))


@pytest.mark.parametrize("estimator", ["k3", "exact"])
def test_the_divergence_term_holds_the_policy_back(estimator):
    kept = {}
    for weight in (0.0, 100.0):
        student = learner(kl=weight, kl_estimator=estimator, epochs=40)
        update = student.update([group(student.policy, [GOOD, BAD, BAD, GOOD])])
        kept[weight] = update.kl
    assert 0 <= kept[100.0] < 0.5 * kept[0.0]


def test_the_entropy_bonus_keeps_the_policy_undecided():
    entropies = []
    for weight in (0.0, 1.0):
        student = learner(entropy=weight, epochs=12)
        rollouts = group(student.policy, [GOOD, BAD])
        student.update([rollouts])
        entropies.append(student.update([rollouts]).entropy)
    assert entropies[1] > entropies[0]


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_adapters_off_is_the_initial_network_bit_for_bit(kind):
    policy = parts.tiny()
    inputs = policy.collate([parts.observation(0), parts.observation(1)])
    with torch.no_grad():
        before = policy.model(*inputs)
        adapters = Adapters(policy.model, kind, 4, 8, LORA_TARGETS)
        assert torch.equal(before, policy.model(*inputs))
        for value in adapters.parameters():
            value.add_(0.1)
        changed = policy.model(*inputs)
        with adapters.off():
            assert torch.equal(before, policy.model(*inputs))
        assert torch.equal(changed, policy.model(*inputs))
    assert (changed - before).abs().max() > 1e-3


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_the_exported_policy_is_the_trained_one(tmp_path, kind):
    student = learner(adapter=kind, epochs=3)
    student.update([group(student.policy, [GOOD, BAD])])
    student.export(tmp_path)
    inputs = student.policy.collate([parts.observation(7)])
    with torch.no_grad():
        trained, exported = student.policy.model(*inputs), load(tmp_path).model(*inputs)
    assert (trained - exported).abs().max() < 1e-6 * (1 + trained.abs().max())


def test_only_the_adapters_are_trained():
    student = learner()
    before = weights(student)
    student.update([group(student.policy, [GOOD, BAD])])
    moved = {name for name, value in weights(student).items() if not torch.equal(before[name], value)}
    assert moved
    assert all(".lora_" in name for name in moved)
    assert all(name.startswith(("trunk.", "head", "proprio")) for name in moved)


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_a_learner_that_was_saved_continues_bit_for_bit(tmp_path, kind):
    through = learner(adapter=kind, minibatch=2)
    rollouts = [group(through.policy, [GOOD, BAD], first_seed=seed) for seed in (0, 10)]
    through.update([rollouts[0]])
    through.save_state(tmp_path, {"iteration": 1})
    expected = through.update([rollouts[1]])
    resumed = learner(adapter=kind, minibatch=2)
    assert resumed.load_state(tmp_path) == {"iteration": 1}
    assert resumed.update([rollouts[1]]) == expected
    assert equal(weights(through), weights(resumed))


def test_the_order_of_minibatches_comes_from_the_seed():
    def losses(seed):
        student = Learner(
            parts.tiny(), LearnerSettings(minibatch=1, learning_rate=1e-3), temperature=TEMPERATURE, seed=seed
        )
        return student.update([group(parts.tiny(), [GOOD, BAD])]).loss

    assert losses(1) == losses(1) != losses(2)


def test_state_of_other_adapters_is_refused(tmp_path):
    learner(lora_rank=4).save_state(tmp_path, {})
    with pytest.raises(CheckpointError, match="other weights"):
        learner(lora_rank=8).load_state(tmp_path)


@pytest.mark.parametrize("name", ["learner.safetensors", "learner.json"])
@pytest.mark.parametrize("harm", ["missing", "cut"])
def test_damaged_state_is_one_clear_error(tmp_path, name, harm):
    student = learner()
    student.save_state(tmp_path, {})
    file = tmp_path / name
    file.unlink() if harm == "missing" else file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match="cannot continue"):
        student.load_state(tmp_path)


def test_greedy_rollouts_cannot_be_learned_from():
    student = learner()
    greedy = group(student.policy, [GOOD, BAD])
    for trajectory in greedy.trajectories:
        student.policy.reset([0])
        trajectory.chunks[:] = [student.policy.act([view])[0] for view in trajectory.observations]
    with pytest.raises(PolicyError, match="temperature"):
        student.update([greedy])
