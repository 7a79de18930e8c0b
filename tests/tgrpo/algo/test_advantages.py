"""Advantages against numbers worked out by hand, and their invariances."""

from __future__ import annotations

from random import Random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tgrpo.algo import advantages as adv

EXAMPLE = [[0.2, 0.8], [0.2, 0.0], [0.0, 0.0]]


@st.composite
def groups(draw: st.DrawFn) -> torch.Tensor:
    """Rewards of 2 to 6 rollouts over 1 to 8 steps, in multiples of 0.01."""
    n, t = draw(st.integers(2, 6)), draw(st.integers(1, 8))
    cents = draw(st.lists(st.integers(0, 100), min_size=n * t, max_size=n * t))
    return torch.tensor(cents, dtype=torch.float64).reshape(n, t) / 100


def close(actual: torch.Tensor, expected: object, atol: float = 1e-4) -> None:
    torch.testing.assert_close(actual, torch.as_tensor(expected, dtype=actual.dtype), atol=atol, rtol=0)


def test_worked_example() -> None:
    rewards = torch.tensor(EXAMPLE)
    close(adv.step_advantages(rewards), [[0.5774, 1.1547], [0.5774, -0.5774], [-1.1547, -0.5774]])
    close(adv.trajectory_advantages(rewards), [1.1339, -0.3780, -0.7559])
    close(adv.tgrpo(rewards), [[0.9669, 1.1401], [-0.0914, -0.4378], [-0.8756, -0.7024]])


def test_two_rollouts_differ_by_one_over_root_two() -> None:
    """With N = 2 the sample standard deviation is |d| / sqrt(2), so the advantages are +-1/sqrt(2) whatever d is."""
    close(adv.step_advantages(torch.tensor([[0.1], [0.9]])), [[-0.70711], [0.70711]], atol=1e-5)


def test_ablations_leave_one_term() -> None:
    rewards = torch.tensor(EXAMPLE)
    close(adv.tgrpo(rewards, 1.0, 0.0), adv.step_advantages(rewards), atol=0)
    close(adv.tgrpo(rewards, 0.0, 1.0), adv.trajectory_advantages(rewards)[:, None].expand(3, 2), atol=0)


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, 123.456])
@pytest.mark.parametrize("n", [2, 3, 7])
def test_equal_rollouts_have_exactly_zero_advantage(value: float, n: int) -> None:
    rewards = torch.full((n, 280), value)
    assert not adv.tgrpo(rewards).any()
    assert not adv.has_contrast(rewards)


def test_noise_below_the_floor_is_ignored_at_the_step() -> None:
    rewards = torch.tensor([[0.5, 0.5], [0.5 + 1e-5, 0.5], [0.5 - 1e-5, 0.9]], dtype=torch.float64)
    step = adv.step_advantages(rewards)
    assert not step[:, 0].any()
    assert step[:, 1].all()


def test_noise_below_both_floors_is_no_contrast() -> None:
    noise = torch.tensor([[0.0, 1e-5], [1e-5, 0.0]], dtype=torch.float64)
    assert not adv.has_contrast(0.5 + noise)
    assert adv.has_contrast(0.5 + 1e3 * noise)


def test_floor_is_a_setting() -> None:
    rewards = torch.tensor([[0.0], [0.1]])
    assert adv.step_advantages(rewards).any()
    assert not adv.step_advantages(rewards, floor=0.1).any()
    assert not adv.has_contrast(rewards, step_floor=0.1, traj_floor=0.1)


def test_masked_group_by_hand() -> None:
    """Rollout 2 ended after step 0: step 1 compares 0 and 1 only, and the returns are 1, 0 and 1."""
    rewards = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [1.0, 99.0, 99.0]])
    mask = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 0]], dtype=torch.bool)
    close(adv.step_advantages(rewards, mask), [[-0.57735, 0.70711, 0], [-0.57735, -0.70711, 0], [1.1547, 0, 0]])
    close(adv.trajectory_advantages(rewards, mask), [0.57735, -1.1547, 0.57735])
    combined = adv.tgrpo(rewards, mask=mask)
    assert not combined[~mask].any()
    close(combined[0, 2], 0.7 * 0.57735)


def test_rollout_that_never_ran_is_left_out() -> None:
    rewards = torch.tensor([[0.1, 0.2], [0.3, 0.4], [float("nan"), 5.0]])
    mask = torch.tensor([[1, 1], [1, 1], [0, 0]], dtype=torch.bool)
    combined = adv.tgrpo(rewards, mask=mask)
    close(combined[:2], adv.tgrpo(rewards[:2]), atol=1e-6)
    assert not combined[2].any()


def test_single_rollout_has_no_advantage() -> None:
    assert not adv.tgrpo(torch.rand(1, 5, generator=torch.Generator().manual_seed(0))).any()


@given(groups())
def test_full_mask_equals_no_mask(rewards: torch.Tensor) -> None:
    assert torch.equal(adv.tgrpo(rewards, mask=torch.ones_like(rewards, dtype=torch.bool)), adv.tgrpo(rewards))


@given(groups(), st.randoms(use_true_random=False))
def test_order_of_rollouts_does_not_matter(rewards: torch.Tensor, shuffler: Random) -> None:
    order = list(range(len(rewards)))
    shuffler.shuffle(order)
    close(adv.tgrpo(rewards[order]), adv.tgrpo(rewards)[order], atol=1e-9)


@given(groups(), st.integers(-5, 5))
def test_constant_for_all_rollouts_changes_nothing(rewards: torch.Tensor, constant: int) -> None:
    shifted = rewards.clone()
    shifted[:, 0] += constant
    close(adv.tgrpo(shifted), adv.tgrpo(rewards), atol=1e-6)


@given(groups())
def test_advantages_add_up_to_zero_over_the_group(rewards: torch.Tensor) -> None:
    close(adv.tgrpo(rewards).sum(dim=0), torch.zeros(rewards.shape[1]), atol=1e-9)


@given(groups())
def test_contrast_means_a_nonzero_advantage(rewards: torch.Tensor) -> None:
    assert adv.has_contrast(rewards) == bool(adv.step_advantages(rewards).any() or adv.tgrpo(rewards).any())


def test_type_follows_the_rewards() -> None:
    assert adv.tgrpo(torch.tensor(EXAMPLE)).dtype == torch.float32


def test_shape_errors_name_the_shapes() -> None:
    with pytest.raises(ValueError, match=r"\(3,\).*rollouts by steps"):
        adv.tgrpo(torch.zeros(3))
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(2, 4\)"):
        adv.tgrpo(torch.zeros(2, 4), mask=torch.ones(2, 3, dtype=torch.bool))


def test_per_decision_sums_executed_steps() -> None:
    rewards = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0])
    close(adv.per_decision(rewards, torch.tensor([2, 2, 1])), [3.0, 12.0, 16.0], atol=0)
    close(adv.per_decision(rewards, torch.ones(5, dtype=torch.int64)), rewards, atol=0)


def test_per_decision_refuses_missing_rewards() -> None:
    with pytest.raises(ValueError, match="add up to 6, but there are 5"):
        adv.per_decision(torch.zeros(5), torch.tensor([3, 3]))


def test_padded_rows() -> None:
    values, mask = adv.padded([torch.tensor([1.0, 2.0]), torch.tensor([3.0])])
    assert values.tolist() == [[1.0, 2.0], [3.0, 0.0]]
    assert mask.tolist() == [[True, True], [True, False]]
