"""The clipped objective against numbers worked out by hand, its gradients and its averages."""

from __future__ import annotations

import math

import pytest
import torch

from tgrpo.algo.loss import clipped_objective, trajectory_mean, trajectory_weights, truncated_importance


def objective(log_ratio: float, advantage: float, level: str = "token", **options: float) -> float:
    """Objective (not loss) of one token."""
    new = torch.full((1, 1, 1), log_ratio)
    result = clipped_objective(new, torch.zeros(1, 1, 1), torch.tensor([advantage]), level=level, **options)
    return -result.loss.item()


def test_action_and_token_ratio_of_a_small_shift() -> None:
    """+0.05 nat on each of 7 tokens: exp(0.35) = 1.419 for the action, exp(0.05) = 1.051 for a token."""
    old = torch.full((2, 3, 7), -2.0)
    action = clipped_objective(old + 0.05, old, torch.ones(2), level="action")
    token = clipped_objective(old + 0.05, old, torch.ones(2), level="token")
    assert action.ratio_max.item() == pytest.approx(1.41907, abs=1e-4)
    assert token.ratio_max.item() == pytest.approx(1.05127, abs=1e-4)
    assert (action.clip_fraction.item(), token.clip_fraction.item()) == (1.0, 0.0)
    assert action.loss.item() == pytest.approx(-1.2)
    assert token.loss.item() == pytest.approx(-1.05127, abs=1e-4)


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected"),
    [
        (1.5, 1.0, 1.28),  # a gain is capped above
        (0.5, 1.0, 0.5),  # but a loss of probability is not
        (0.5, -1.0, -0.8),
        (1.5, -1.0, -1.5),
        (1.1, 2.0, 2.2),
    ],
)
def test_clip_by_hand(ratio: float, advantage: float, expected: float) -> None:
    assert objective(math.log(ratio), advantage, clip_low=0.2, clip_high=0.28) == pytest.approx(expected, abs=1e-6)


def test_approximate_kl_by_hand() -> None:
    """One action with ratio e: e - 1 - 1 = 0.71828; the other one is unchanged."""
    new = torch.tensor([[[0.5, 0.5], [0.0, 0.0]]])
    result = clipped_objective(new, torch.zeros(1, 2, 2), torch.ones(1), level="action")
    assert result.approx_kl.item() == pytest.approx(0.71828 / 2, abs=1e-5)


@pytest.mark.parametrize("level", ["action", "token"])
def test_gradient_raises_good_and_lowers_bad(level: str) -> None:
    new = torch.zeros(2, 1, 7, requires_grad=True)
    clipped_objective(new, torch.zeros(2, 1, 7), torch.tensor([1.0, -1.0]), level=level).loss.backward()
    assert (new.grad[0] < 0).all()
    assert (new.grad[1] > 0).all()


@pytest.mark.parametrize("level", ["action", "token"])
def test_first_step_is_the_plain_policy_gradient(level: str) -> None:
    """At ratio 1 the gradient is -A / (B K) for each token, over A tokens as well at token level."""
    new = torch.zeros(2, 3, 7, requires_grad=True)
    clipped_objective(new, torch.zeros(2, 3, 7), torch.tensor([0.5, -2.0]), level=level).loss.backward()
    share = 6 if level == "action" else 6 * 7
    torch.testing.assert_close(new.grad[:, 0, 0], torch.tensor([-0.5, 2.0]) / share)


def test_clipped_ratio_has_no_gradient() -> None:
    new = torch.full((1, 1, 7), 0.5, requires_grad=True)
    result = clipped_objective(new, torch.zeros(1, 1, 7), torch.ones(1), level="token")
    result.loss.backward()
    assert not new.grad.any()
    assert result.clip_fraction.item() == 1.0


def test_unexecuted_actions_count_for_nothing() -> None:
    new = torch.tensor([[[0.1], [0.0], [float("nan")]]], requires_grad=True)
    old = torch.tensor([[[0.0], [0.0], [float("-inf")]]])
    mask = torch.tensor([[True, True, False]])
    result = clipped_objective(new, old, torch.ones(1), level="action", mask=mask)
    result.loss.backward()
    assert result.loss.item() == pytest.approx(-(math.exp(0.1) + 1) / 2)
    assert result.ratio_max.item() == pytest.approx(math.exp(0.1))
    assert new.grad[0, 2, 0] == 0
    assert torch.isfinite(new.grad).all()


def test_huge_ratio_stays_finite() -> None:
    new = torch.full((1, 1, 7), 500.0, requires_grad=True)
    result = clipped_objective(new, torch.zeros(1, 1, 7), -torch.ones(1), level="action")
    result.loss.backward()
    assert torch.isfinite(result.loss)
    assert torch.isfinite(new.grad).all()


def test_every_rollout_counts_the_same() -> None:
    """Rollouts of 1 and 3 decisions: 1/2 and three times 1/6."""
    weights = trajectory_weights(torch.tensor([1, 3]))
    torch.testing.assert_close(weights, torch.tensor([1 / 2, 1 / 6, 1 / 6, 1 / 6]))
    zeros = torch.zeros(4, 1, 1)
    result = clipped_objective(zeros, zeros, torch.tensor([6.0, 1.0, 2.0, 3.0]), weights=weights)
    assert result.loss.item() == pytest.approx(-(6.0 + 2.0) / 2)


def test_micro_batches_add_up_to_the_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    new, old = (torch.randn(8, 4, 7, generator=generator) * 0.05 for _ in range(2))
    advantages = torch.randn(8, generator=generator)
    mask = torch.ones(8, 4, dtype=torch.bool)
    mask[4, 2:] = mask[7, 1:] = False
    weights = trajectory_weights(torch.tensor([5, 3]))

    def loss(rows: slice) -> torch.Tensor:
        return clipped_objective(
            new[rows], old[rows], advantages[rows], level="token", mask=mask[rows], weights=weights[rows]
        ).loss

    parts = sum(loss(slice(start, start + 3)) for start in (0, 3, 6))
    torch.testing.assert_close(parts, loss(slice(0, 8)))


def test_trajectory_mean_by_hand() -> None:
    values = torch.tensor([[1.0, 3.0], [10.0, 99.0]])
    mask = torch.tensor([[True, True], [True, False]])
    assert trajectory_mean(values, mask).item() == pytest.approx((2 + 10) / 2)
    assert trajectory_mean(values, mask, torch.tensor([0.25, 0.75])).item() == pytest.approx(8.0)
    assert trajectory_mean(values[:1]).item() == pytest.approx(2.0)


def test_half_precision_ratios_are_taken_in_single() -> None:
    old = torch.full((1, 1, 7), -2.0, dtype=torch.bfloat16)
    assert clipped_objective(old, old, torch.ones(1)).loss.dtype == torch.float32


def test_silent_broadcasts_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3, 7\).*\(2, 1, 7\)"):
        clipped_objective(torch.zeros(2, 3, 7), torch.zeros(2, 1, 7), torch.zeros(2))
    with pytest.raises(ValueError, match=r"advantages \(3,\)"):
        clipped_objective(torch.zeros(2, 3, 7), torch.zeros(2, 3, 7), torch.zeros(3))


def test_truncated_importance_by_hand():
    own = torch.log(torch.tensor([[[0.4, 0.2], [0.1, 0.9]]]))
    acted = torch.log(torch.tensor([[[0.2, 0.4], [0.8, 0.1]]]))
    by_token = truncated_importance(own, acted, level="token", cap=2.0)
    assert torch.allclose(by_token, torch.tensor([[[2.0, 0.5], [0.125, 2.0]]]))
    by_action = truncated_importance(own, acted, level="action", cap=2.0)
    assert torch.allclose(by_action, torch.tensor([[[1.0], [1.125]]]))


def test_importance_scales_each_gradient():
    log_probs = torch.zeros(1, 1, 2, requires_grad=True)
    importance = torch.tensor([[[0.5, 2.0]]])
    objective = clipped_objective(log_probs, torch.zeros(1, 1, 2), torch.ones(1), level="token", importance=importance)
    objective.loss.backward()
    assert torch.allclose(log_probs.grad, torch.tensor([[[-0.25, -1.0]]]))
    assert float(objective.loss.detach()) == pytest.approx(-1.25)
