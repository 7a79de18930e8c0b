"""How well each estimator tells good actions from bad ones, and what it costs, on the credit chain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
import torch

from tgrpo.algo import strategies
from tgrpo.algo.bench.chain import Chain, Episode, Player
from tgrpo.algo.collectors import branching, tree
from tgrpo.algo.signals import Signals
from tgrpo.types import FloatArray

Pairs: TypeAlias = tuple[FloatArray, FloatArray]
"""Estimated and exact advantages of the same actions."""


@dataclass(frozen=True)
class Options:
    """The settings of the strategies."""

    a_step: float = 0.3
    a_traj: float = 0.7
    gamma: float = 0.9
    reward_weights: str = ""


class Result(NamedTuple):
    """One row of the table."""

    name: str
    correlation: float
    """Of estimated and exact advantages, over all actions of all groups."""
    low: float
    """Lower end of its 95 % interval, from a bootstrap over groups."""
    high: float
    """Upper end."""
    steps: float
    """Simulator steps of a group."""


FLAT: dict[str, tuple[str, Options]] = {
    "GRPO, whole rollouts": ("grpo", Options()),
    "TGRPO 0.3 / 0.7": ("tgrpo", Options()),
    "TGRPO 0.5 / 0.5": ("tgrpo", Options(a_step=0.5, a_traj=0.5)),
    "GTPO, pooled return-to-go": ("gtpo", Options()),
    "return-to-go, same step": ("return_to_go_step", Options()),
    "return-to-go, same stage": ("return_to_go_stage", Options()),
}
"""Estimators that need nothing but a flat group: name, baseline and options."""


def signals(episodes: Sequence[Episode]) -> Signals:
    """A group as the strategies want it."""
    longest = max(len(episode.actions) for episode in episodes)
    rewards = torch.zeros(len(episodes), longest, dtype=torch.float64)
    mask = torch.zeros(len(episodes), longest, dtype=torch.bool)
    stages = torch.zeros(len(episodes), longest, dtype=torch.int64)
    for row, episode in enumerate(episodes):
        length = len(episode.actions)
        rewards[row, :length] = torch.tensor(episode.rewards, dtype=torch.float64)
        stages[row, :length] = torch.tensor(episode.highest[:-1])
        mask[row, :length] = True
    reached = torch.tensor([episode.highest[-1] for episode in episodes])
    return Signals(rewards, mask, stages, reached, reached == max(int(reached.max()), 1), {"level": rewards})


def flat_pairs(episodes: Sequence[Episode], exact: FloatArray, baseline: str, options: Options) -> Pairs:
    """Advantages of one flat group by one baseline."""
    (group,) = strategies.scalariser("paid").scalarise([signals(episodes)], options)
    estimated = strategies.baseline(baseline).advantages(group, options)
    known = [exact[t, e.stages[t], action] for e in episodes for t, action in enumerate(e.actions)]
    return estimated[group.mask].numpy(), np.array(known)


def branching_pairs(player: Player, exact: FloatArray, alternatives: int = 4) -> Pairs:
    """Advantages of alternatives at every step of one main line, each played to the end."""
    main = player.play()
    estimated, known = [], []
    for branch in branching.plan(len(main.actions), alternatives):
        stage, highest, step = main.stages[branch.decision], main.highest[branch.decision], branch.decision
        tails = [player.play(stage, highest, step) for _ in range(branch.alternatives)]
        returns = torch.tensor([[_discounted(tail.rewards, Options().gamma) for tail in tails]])
        estimated += branching.advantages(returns)[0].tolist()
        known += [exact[step, stage, tail.actions[0]] for tail in tails]
    return np.array(estimated), np.array(known)


class _Reached(NamedTuple):
    """A state of the search tree."""

    stage: int
    highest: int
    step: int
    action: int
    earned: float
    """Reward of the rollout up to here."""


def tree_pairs(player: Player, exact: FloatArray, iterations: int = 25, width: int = 4) -> Pairs:
    """Advantages of the children of every node of a search tree."""
    chain = player.chain

    def expand(state: _Reached) -> list[_Reached]:
        if state.stage == chain.stages or state.step == chain.horizon:
            return []
        children = []
        for _ in range(width):
            action = player.draw()
            stage, highest, reward = player.act(state.stage, state.highest, action)
            children.append(_Reached(stage, highest, state.step + 1, action, state.earned + reward))
        return children

    root = tree.Node(_Reached(0, 0, 0, 0, 0.0))
    tree.grow(root, expand, lambda s: s.earned + sum(player.play(s.stage, s.highest, s.step).rewards), iterations)
    estimated: list[float] = []
    known: list[float] = []
    waiting = [root]
    while waiting:
        node = waiting.pop()
        seen = [child for child in node.children if child.visits]
        waiting += seen
        if len(seen) < 2:
            continue  # nothing to compare with
        estimated += tree.sibling_advantages([child.value for child in seen]).tolist()
        known += [exact[node.state.step, node.state.stage, child.state.action] for child in seen]
    return np.array(estimated), np.array(known)


def measure(chain: Chain, groups: int = 300, size: int = 8, seed: int = 0) -> list[Result]:
    """Compares all estimators on one chain.

    Args:
        chain: What is played.
        groups: Groups of each estimator; those on flat groups share them.
        size: Rollouts of a flat group.
        seed: Of everything that is drawn.
    """
    exact = chain.advantages()
    player = Player(chain, np.random.default_rng(seed))
    played = [[player.play() for _ in range(size)] for _ in range(groups)]
    cost = player.steps / groups
    results = [
        _summary(name, [flat_pairs(group, exact, baseline, options) for group in played], cost)
        for name, (baseline, options) in FLAT.items()
    ]
    others: dict[str, Callable[[Player, FloatArray], Pairs]] = {
        "branching, 4 at every step": branching_pairs,
        "tree, 25 x 4": tree_pairs,
    }
    for name, pairs in others.items():
        player = Player(chain, np.random.default_rng(seed))
        rows = [pairs(player, exact) for _ in range(groups)]
        results.append(_summary(name, rows, player.steps / groups))
    return results


def correlation(rows: Sequence[Pairs]) -> float:
    """Pearson correlation over all actions of some groups; 0 without any spread."""
    estimated, known = (np.concatenate([row[side] for row in rows]) for side in (0, 1))
    spread = float(estimated.std() * known.std())
    return float(((estimated - estimated.mean()) * (known - known.mean())).mean()) / spread if spread else 0.0


def _summary(name: str, rows: Sequence[Pairs], steps: float, draws: int = 200) -> Result:
    rng = np.random.default_rng(0)
    resampled = [correlation([rows[i] for i in rng.integers(len(rows), size=len(rows))]) for _ in range(draws)]
    low, high = np.quantile(resampled, [0.025, 0.975])
    return Result(name, correlation(rows), float(low), float(high), steps)


def _discounted(rewards: Sequence[float], gamma: float) -> float:
    return float(sum(reward * gamma**step for step, reward in enumerate(rewards)))
