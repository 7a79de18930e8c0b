"""A row's result must not depend on the rows beside it, to the last bit."""

import pytest
import torch
from torch import nn

from tgrpo.policies import blocks, load, shipped


def test_blocks_by_hand():
    rows = torch.arange(10).reshape(5, 2)
    assert blocks.whole(rows).tolist() == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [8, 9], [8, 9], [8, 9]]
    assert blocks.whole(rows, 2).tolist() == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [8, 9]]
    assert blocks.whole(rows[:4]).tolist() == rows[:4].tolist()


def test_a_linear_layer_of_few_rows_keeps_its_gradient():
    layer, rows = nn.Linear(3, 2), torch.randn(5, 3)
    mine = torch.autograd.grad(blocks.linear(layer, rows).square().sum(), layer.weight)
    plain = torch.autograd.grad(layer(rows).square().sum(), layer.weight)
    assert torch.allclose(mine[0], plain[0], rtol=1e-5)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 7, 12, 23])
def test_the_shipped_policy_decides_each_row_by_itself(look, count):
    policy = load(shipped("tiny-libero"))
    seen = [look(place, size=policy.spec.observation.size) for place in range(24)]
    policy.reset(range(24))
    full = policy.act(seen, temperature=0.5)
    policy.reset(range(24))
    few = policy.act(seen[:count], temperature=0.5, rows=range(count))
    assert all((a.log_probs == b.log_probs).all() for a, b in zip(few, full, strict=False))
