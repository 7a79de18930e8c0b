"""Known answers of baselines and scalarisers, and the invariants that all of them share."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tgrpo.algo import advantages as adv
from tgrpo.algo import estimate, returns, signals, strategies
from tgrpo.algo.scalarisers import gated, gdpo, maestro, prefix, success
from tgrpo.algo.signals import Signals
from tgrpo.errors import SettingsError, UnknownNameError
from tgrpo.learner import LearnerSettings
from tgrpo.types import RolloutGroup, Trajectory


@dataclass
class Options:
    a_step: float = 0.3
    a_traj: float = 0.7
    gamma: float = 0.9
    reward_weights: str = ""


def close(actual, expected, atol=1e-4):
    torch.testing.assert_close(torch.as_tensor(actual).double(), torch.as_tensor(expected).double(), atol=atol, rtol=0)


def group(rewards, mask=None, terms=None, **fields):
    """Signals of one group; each row of rewards is a rollout."""
    values = torch.as_tensor(rewards, dtype=torch.float64)
    n = len(values)
    given = {name: torch.as_tensor(term, dtype=torch.float64) for name, term in (terms or {}).items()}
    defaults = {
        "mask": torch.ones_like(values, dtype=torch.bool) if mask is None else torch.as_tensor(mask).bool(),
        "stages": torch.zeros_like(values, dtype=torch.int64),
        "reached": torch.zeros(n, dtype=torch.int64),
        "success": torch.zeros(n, dtype=torch.bool),
    }
    return Signals(rewards=values, terms=given, **defaults | fields)


def run(baseline, scalariser, groups, **options):
    chosen = Options(**options)
    done = strategies.scalariser(scalariser).scalarise(list(groups), chosen)
    return [strategies.baseline(baseline).advantages(one, chosen) for one in done]


def outcomes(*rows):
    """A group of one decision whose reward terms are the columns."""
    terms = {f"term{place}": [[row[place]] for row in rows] for place in range(len(rows[0]))}
    return group([[sum(row)] for row in rows], terms=terms)


def trajectory(rewards, executed, stages, success=False, terms=None, source="policy"):
    arrays = {name: np.asarray(values, np.float64) for name, values in (terms or {}).items()}
    counts = np.asarray(executed)
    return Trajectory([], [], counts, np.asarray(rewards, np.float64), arrays, np.asarray(stages), success, source)


POOLED = ("gtpo", "return_to_go_stage")
EVERY = [(b, s) for b in strategies.names("baselines") for s in strategies.names("scalarisers")]


def test_tgrpo_is_the_published_arithmetic_bit_for_bit():
    rewards = torch.rand(4, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mask = torch.rand(4, 9, generator=torch.Generator().manual_seed(1)) > 0.2
    assert torch.equal(run("tgrpo", "paid", [group(rewards, mask)])[0], adv.tgrpo(rewards, mask=mask))


def test_default_settings_are_tgrpo_bit_for_bit():
    rng = np.random.default_rng(0)
    rollouts = [trajectory(rng.random(12), [4, 4, 4], np.zeros(12, int)) for _ in range(4)]
    rollouts.append(trajectory(rng.random(7), [4, 3], np.zeros(7, int)))
    (rows,) = estimate.advantages([RolloutGroup("s", 0, 0, 0, "h", rollouts)], LearnerSettings())
    parts = [adv.per_decision(torch.from_numpy(t.rewards), torch.from_numpy(t.executed)) for t in rollouts]
    rewards, mask = adv.padded(parts)
    wanted = adv.tgrpo(rewards, 0.3, 0.7, mask)
    assert all(torch.equal(row, full[alive].float()) for row, full, alive in zip(rows, wanted, mask, strict=True))


def test_gtpo_known_answer():
    rewards, mask = [[0, 0, 1], [-0.1, 0, 0]], [[1, 1, 1], [1, 1, 0]]
    g = group(rewards, mask)
    close(returns.to_go(g.rewards, g.mask, 0.9), [[0.81, 0.9, 1.0], [-0.1, 0, 0]])
    close(run("gtpo", "paid", [g])[0], [[0.5458, 0.7164, 0.9059], [-1.1788, -0.9893, 0]])


def test_gtpo_without_discount_and_a_final_reward_is_constant_in_a_rollout():
    (result,) = run("gtpo", "paid", [group([[0, 0, 1], [0, 0, 0]])], gamma=1.0)
    assert all(len(row.unique()) == 1 for row in result)


def test_return_to_go_compares_within_a_stage_only():
    stages = torch.tensor([[0, 1], [0, 0]])
    (result,) = run("return_to_go_stage", "paid", [group([[0.0, 1.0], [0.0, 0.2]], stages=stages)], gamma=1.0)
    assert result[0, 1] == 0  # alone in its stage
    close(result[0, 0] + result[1].sum(), 0.0)
    close(result[:, 0], adv.standardised(torch.tensor([1.0, 0.2, 0.2]).double(), torch.ones(3).bool())[[0, 1]])


def test_return_to_go_at_the_same_step():
    (result,) = run("return_to_go_step", "paid", [group([[0.0, 1.0], [0.0, 0.0]])])
    close(result, [[0.7071, 0.7071], [-0.7071, -0.7071]])


def test_gdpo_known_answers():
    first, second = outcomes((0, 0), (1, 0)), outcomes((0, 0), (1, 1))
    close(torch.cat(run("grpo", "paid", [first, second])).flatten(), [-0.7071, 0.7071, -0.7071, 0.7071])
    pre = [gdpo.decoupled(torch.tensor(rows), torch.ones(2)) for rows in ([[0, 0], [1, 0]], [[0, 0], [1, 1]])]
    close(torch.cat(pre), [-0.7071, 0.7071, -1.4142, 1.4142])
    close(torch.cat(run("grpo", "gdpo", [first, second])).flatten(), [-0.5477, 0.5477, -1.0954, 1.0954])


def test_gdpo_with_stages():
    rows = [(1, 1, 1), (1, 1, 0), (1, 0, 0), (1, 0, 0)]
    close(run("grpo", "paid", [outcomes(*rows)])[0].flatten(), [1.3056, 0.2611, -0.7833, -0.7833])
    close(gdpo.decoupled(torch.tensor(rows), torch.ones(3)), [2.3660, 0.3660, -1.3660, -1.3660])
    close(run("grpo", "gdpo", [outcomes(*rows)])[0].flatten(), [1.3321, 0.2061, -0.7691, -0.7691])


def test_gdpo_whitens_rollouts_and_not_steps():
    """Failures of 100 steps must not end with advantage 0 beside successes of 20."""
    lengths = [100, 20, 100, 20]
    mask = torch.arange(100) < torch.tensor(lengths)[:, None]
    ends = torch.zeros(4, 100, dtype=torch.float64)
    for row, length in enumerate(lengths):
        ends[row, length - 1] = 1.0
    success = torch.tensor([0.0, 1.0, 0.0, 1.0])[:, None] * ends
    quality = torch.tensor([0.0, 0.0, 0.0, 1.0])[:, None] * ends
    groups = [
        group(success[rows] + quality[rows], mask[rows], {"a": success[rows], "b": quality[rows]})
        for rows in (slice(0, 2), slice(2, 4))
    ]
    whole = torch.cat([result[:, 0] for result in run("grpo", "gdpo", groups)])
    close(whole, [-0.5477, 0.5477, -1.0954, 1.0954])


def test_gdpo_does_not_depend_on_the_scale_of_a_term():
    generator = torch.Generator().manual_seed(3)
    rows = torch.rand(6, 3, generator=generator)
    scaled = rows * torch.tensor([1.0, 1000.0, 1.0])
    for weights in ("", "success=2"):
        groups = [
            group(r.sum(1, keepdim=True), terms={n: r[:, [c]] for c, n in enumerate(("level", "shaping", "success"))})
            for r in (rows, scaled)
        ]
        plain, large = (run("grpo", "gdpo", [g], reward_weights=weights)[0] for g in groups)
        close(plain, large, atol=1e-3)


def test_the_conductor_learns_weights_from_the_group():
    """Rows of patterns add up to 1, success keeps its floor, and a term without spread moves nothing."""
    close(maestro.patterns(3), [[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]])
    rows = [(1, 1), (1, 1), (1, 0), (1, 0)]
    terms = {"success": [[float(r[1])] for r in rows], "level": [[float(r[0])] for r in rows]}
    g = group([[float(sum(r))] for r in rows], terms=terms)
    close(run("grpo", "maestro", [g])[0].flatten(), [0.8660, 0.8660, -0.8660, -0.8660])
    fair = adv.standardised(torch.tensor([[1.0, 1], [1, 0], [0, 0], [0, 0]]), torch.ones(4, 2).bool())
    weights = maestro.learned_weights(fair)
    assert float(weights[-1]) >= 0.4
    assert not torch.allclose(weights, torch.tensor([0.5, 0.5], dtype=torch.float64), atol=0.01)
    assert torch.equal(weights, maestro.learned_weights(fair[[2, 0, 3, 1]]))


def safety(weights):
    g = group([[0.0]] * 4, terms={"level": [[1.0], [1.0], [0.0], [0.0]], "success": [[1.0], [0.2], [1.0], [0.6]]})
    return run("grpo", "weighted", [g], reward_weights=weights)[0].flatten()


def test_weighted_safety_known_answers():
    close(safety("level=0.5,success=0.5"), [1.3587, 0.0, -0.3397, -1.0190])
    close(safety("level=0.2,success=0.8"), [1.1603, -1.0238, 0.4778, -0.6143])
    close(safety("level=0.4,success=1.6"), safety("level=0.2,success=0.8"), atol=1e-5)


@given(st.integers(0, 10_000), st.sampled_from(["grpo", "tgrpo"]))
def test_gated_violators_rank_below_everyone_else(seed, baseline):
    generator = torch.Generator().manual_seed(seed)
    rewards = torch.rand(6, 4, dtype=torch.float64, generator=generator)
    violated = torch.rand(6, generator=generator) < 0.4
    term = torch.zeros(6, 4, dtype=torch.float64)
    term[violated, 1] = -1.0
    (result,) = run(baseline, "gated", [group(rewards, terms={gated.TERM: term})])
    if violated.any() and not violated.all():
        assert (result[violated].amax(0) < result[~violated].amin(0)).all()


def test_gate_keeps_the_order_of_violators():
    values, violated = torch.tensor([3.0, 2.0, 1.0, 0.0]).double(), torch.tensor([True, True, False, False])
    close(gated.gate(values, violated, torch.ones(4).bool()), [-1.0, -2.0, 1.0, 0.0])


def test_prefix_known_answers():
    close([prefix.credit(c, 4) for c in range(5)], [0, 0.1, 0.3, 0.6, 1.0])
    assert prefix.prefix_length(("b", "a", "c"), ("a", "b", "c")) == 0
    assert prefix.prefix_length(("a", "b", "d"), ("a", "b", "c")) == 2
    close(adv.trajectory_advantages(torch.tensor([[1.5], [0.8], [0.6], [0.5]])), [1.4415, -0.1109, -0.5544, -0.7762])
    g = group([[0.0]] * 3, reached=torch.tensor([4, 2, 0]))
    credit = torch.tensor([[1.0], [0.3], [0.0]]).double()
    close(run("grpo", "prefix", [g])[0].flatten(), adv.trajectory_advantages(credit))


def test_success_alone_known_answers():
    mask = [[1, 1, 1], [1, 1, 0], [1, 1, 1], [1, 1, 1]]
    done = torch.tensor([False, True, False, False])
    g = group(torch.rand(4, 3, generator=torch.Generator().manual_seed(0)), mask, success=done)
    close(success.outcome(done, g.mask), [[0, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 0]])
    # One of four: mean 1/4, sample deviation 1/2.
    close(run("grpo", "success", [g])[0], [[-0.5] * 3, [1.5, 1.5, 0.0], [-0.5] * 3, [-0.5] * 3])
    everyone = group(g.rewards, mask, success=torch.ones(4, dtype=torch.bool))
    close(run("grpo", "success", [everyone])[0], torch.zeros(4, 3))


def test_success_counts_before_stages_and_speed():
    g = group(
        [[0.0, 0.0], [0.0, 0.0], [5.0, 5.0]],
        mask=[[1, 1], [1, 0], [1, 1]],
        success=torch.tensor([True, True, False]),
        reached=torch.tensor([4, 4, 3]),
    )
    (result,) = run("round_robin", "paid", [g])
    assert result[1, 0] > result[0, 0] > result[2, 0]
    assert result[1, 1] == 0


def random_group(seed, n=5, t=6):
    generator = torch.Generator().manual_seed(seed)
    terms = {name: torch.rand(n, t, dtype=torch.float64, generator=generator) for name in ("level", "shaping")}
    stages = torch.randint(0, 3, (n, t), generator=generator)
    return group(
        terms["level"] + terms["shaping"],
        terms=terms,
        stages=stages,
        reached=stages.amax(1),
        success=torch.rand(n, generator=generator) > 0.5,
    )


def reordered(g, order):
    fields = {name: getattr(g, name)[order] for name in ("rewards", "mask", "stages", "reached", "success")}
    return Signals(terms={name: values[order] for name, values in g.terms.items()}, **fields)


@pytest.mark.parametrize(("baseline", "scalariser"), EVERY)
@settings(max_examples=10)
@given(seed=st.integers(0, 1000))
def test_invariants(baseline, scalariser, seed):
    g = random_group(seed)
    (result,) = run(baseline, scalariser, [g])
    assert result.shape == g.rewards.shape
    close(result.sum(), 0.0, atol=1e-6)
    order = list(range(5))
    Random(seed).shuffle(order)
    close(run(baseline, scalariser, [reordered(g, order)])[0], result[order], atol=1e-6)
    # Pooled returns-to-go compare one moment with another, so even equal rollouts differ in them while they are paid.
    paid = 0.0 if baseline in POOLED else 0.3
    flat = group(torch.full((4, 3), paid), terms={"level": torch.full((4, 3), paid)})
    assert not run(baseline, scalariser, [flat])[0].any()


@pytest.mark.parametrize(("baseline", "scalariser"), EVERY)
def test_masked_decisions_have_no_advantage(baseline, scalariser):
    g = random_group(1)
    g.mask[0, 3:] = False
    (result,) = run(baseline, scalariser, [g])
    assert not result[~g.mask].any()


def test_groups_do_not_mix():
    for baseline, scalariser in EVERY:
        if scalariser != "gdpo":
            alone = run(baseline, scalariser, [random_group(1)])[0]
            assert torch.equal(alone, run(baseline, scalariser, [random_group(1), random_group(2)])[0])


def test_replayed_rollouts_are_compared_as_wholes_only():
    rewards = [[1.0, 0.0], [0.0, 0.0], [0.0, 0.5]]
    (result,) = run("tgrpo", "paid", [group(rewards, replayed=torch.tensor([True, False, False]))])
    whole = adv.trajectory_advantages(torch.tensor(rewards, dtype=torch.float64))
    close(result[0], 0.7 * whole[0].expand(2))
    close(result[1:, 1] - 0.7 * whole[1:], [-0.3 * 0.7071, 0.3 * 0.7071])


def test_signals_of_rollouts():
    first = trajectory([0, 1, 1], [2, 1], [0, 1, 2], True, {"level": [0, 1, 1]})
    second = trajectory([0.5], [1], [0], terms={"level": [0.5]})
    g = signals.read([first, second])
    assert g.rewards.tolist() == [[1, 1], [0.5, 0]]
    assert g.mask.tolist() == [[True, True], [True, False]]
    assert g.stages.tolist() == [[0, 1], [0, 0]]
    assert (g.reached.tolist(), g.success.tolist(), g.replayed) == ([2, 0], [True, False], None)
    assert g.terms["level"].tolist() == [[1, 1], [0.5, 0]]


def test_names_are_modules_and_wrong_ones_are_refused():
    assert set(strategies.names("samplers")) == {"uniform", "step", "accuracy", "information"}
    with pytest.raises(UnknownNameError, match="unknown baseline 'grop'"):
        strategies.baseline("grop")
    with pytest.raises(UnknownNameError, match="unknown scalariser"):
        estimate.check(LearnerSettings(scalariser="sum"))
    with pytest.raises(SettingsError, match="NAME=NUMBER"):
        estimate.check(LearnerSettings(reward_weights="success"))
    with pytest.raises(UnknownNameError, match="reward term 'sucess'"):
        estimate.check(LearnerSettings(reward_weights="sucess=1"))


def test_a_baseline_without_scalariser_says_so():
    with pytest.raises(ValueError, match="scalariser first"):
        strategies.baseline("grpo").advantages(group([[0.0], [1.0]]), Options())
