"""KL estimators by enumeration of a small categorical distribution."""

from __future__ import annotations

import math

import pytest
import torch

from tgrpo.algo import kl

P = torch.tensor([0.5, 0.3, 0.2])
Q = torch.tensor([0.2, 0.2, 0.6])
KL_P_Q = 0.5 * math.log(2.5) + 0.3 * math.log(1.5) + 0.2 * math.log(1 / 3)


def test_k3_by_hand() -> None:
    """The reference is twice as likely: 2 - log 2 - 1 = 0.30685."""
    assert kl.k3(torch.tensor(-1.0), torch.tensor(-1.0 + math.log(2))).item() == pytest.approx(0.30685, abs=1e-5)


def test_k3_is_unbiased_by_enumeration() -> None:
    assert (P * kl.k3(P.log(), Q.log())).sum().item() == pytest.approx(KL_P_Q, abs=1e-6)


def test_k3_is_never_negative_and_zero_when_equal() -> None:
    policy, reference = torch.randn(2, 1000, generator=torch.Generator().manual_seed(0))
    assert (kl.k3(policy, reference) >= 0).all()
    assert not kl.k3(policy, policy).any()


def test_exact_by_hand() -> None:
    assert kl.exact(P.log(), Q.log()).item() == pytest.approx(KL_P_Q, abs=1e-6)
    assert kl.exact(P.log(), P.log()).item() == pytest.approx(0.0, abs=1e-7)


def test_exact_shape_and_shift_of_the_logits() -> None:
    logits, reference = torch.randn(2, 5, 7, 256, generator=torch.Generator().manual_seed(0))
    divergence = kl.exact(logits, reference)
    assert divergence.shape == (5, 7)
    torch.testing.assert_close(kl.exact(logits + 3.0, reference - 2.0), divergence, atol=1e-5, rtol=0)


def test_exact_pulls_towards_the_reference() -> None:
    logits = P.log().clone().requires_grad_()
    kl.exact(logits, Q.log()).backward()
    assert kl.exact(logits - 0.1 * logits.grad, Q.log()) < kl.exact(logits, Q.log())


def test_entropy_of_uniform_and_certain() -> None:
    assert kl.entropy(torch.zeros(256)).item() == pytest.approx(math.log(256), abs=1e-5)
    assert kl.entropy(torch.tensor([100.0, 0.0, 0.0])).item() == pytest.approx(0.0, abs=1e-6)
    assert kl.entropy(P.log()).item() == pytest.approx(1.02965, abs=1e-5)
