"""The credit chain: a task of four stages, small enough that the advantage of every action is known exactly.

In each stage a policy either does the right thing and completes it, or the wrong thing, which may lose a stage.
Advantages are those of success: an estimator is good if it tells which action made success likelier, however it is
paid.

Shapes: ``K`` stages, ``H`` longest episode, ``A`` actions (2).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from tgrpo.types import FloatArray

RIGHT, WRONG = 0, 1


@dataclass(frozen=True)
class Chain:
    """The process and the policy that acts in it."""

    stages: int = 4
    horizon: int = 10
    """Longest episode [steps]."""
    right: float = 0.575
    """How often the policy does the right thing."""
    advance: float = 0.98
    """Chance that the right thing completes a stage."""
    fall: float = 0.165
    """Chance that the wrong thing loses one."""
    dense: bool = True
    """Whether every completed stage pays ``1 / K``, besides the 1 for the last one."""
    gamma: float = 0.9
    """Discount of the exact values."""

    def moves(self) -> FloatArray:
        """Chance of each next stage ``(K + 1, A, K + 1)``; the last stage is the end."""
        chances = np.zeros((self.stages + 1, 2, self.stages + 1))
        for stage in range(self.stages):
            chances[stage, RIGHT, stage + 1] = self.advance
            chances[stage, RIGHT, stage] = 1 - self.advance
            chances[stage, WRONG, max(stage - 1, 0)] += self.fall
            chances[stage, WRONG, stage] += 1 - self.fall
        chances[self.stages, :, self.stages] = 1.0
        return chances

    def rewards(self) -> FloatArray:
        """Reward of each step from one stage to the next ``(K + 1, K + 1)``."""
        stage = np.arange(self.stages + 1)
        success = (stage[None] == self.stages) & (stage[:, None] < self.stages)
        progress = (stage[None] > stage[:, None]) / self.stages
        return np.asarray(success + progress if self.dense else success, np.float64)

    def advantages(self) -> FloatArray:
        """Exact ``Q - V`` of each action for success, by step, stage and action ``(H, K + 1, A)``."""
        chances, rewards = self.moves(), replace(self, dense=False).rewards()
        policy = np.array([self.right, 1 - self.right])
        values = np.zeros(self.stages + 1)
        result = np.zeros((self.horizon, self.stages + 1, 2))
        for step in reversed(range(self.horizon)):
            actions = (chances * (rewards[:, None] + self.gamma * values)).sum(-1)
            values = actions @ policy
            result[step] = actions - values[:, None]
        return result


@dataclass
class Episode:
    """What was done from one state on."""

    stages: list[int] = field(default_factory=list)
    """Stage before each action, and the last one."""
    actions: list[int] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)


class Player:
    """Plays a chain and counts the steps that it takes.

    Attributes:
        steps: Steps played so far.
    """

    def __init__(self, chain: Chain, rng: np.random.Generator) -> None:
        """Compiles the chain.

        Args:
            chain: What to play.
            rng: Draws actions and moves.
        """
        self.chain, self.steps = chain, 0
        self._rng, self._moves, self._rewards = rng, chain.moves().cumsum(-1), chain.rewards()

    def draw(self) -> int:
        """An action of the policy."""
        return RIGHT if self._rng.random() < self.chain.right else WRONG

    def act(self, stage: int, action: int) -> tuple[int, float]:
        """Takes one step; returns the next stage and the reward."""
        self.steps += 1
        following = min(int(np.searchsorted(self._moves[stage, action], self._rng.random())), self.chain.stages)
        return following, float(self._rewards[stage, following])

    def play(self, stage: int = 0, step: int = 0, action: int | None = None) -> Episode:
        """Plays to the end of the episode.

        Args:
            stage: Where to start.
            step: Steps of the episode that are over.
            action: The first action; drawn if not given.
        """
        episode = Episode([stage])
        while step < self.chain.horizon and stage < self.chain.stages:
            chosen = self.draw() if action is None else action
            action = None
            stage, reward = self.act(stage, chosen)
            episode.stages.append(stage)
            episode.actions.append(chosen)
            episode.rewards.append(reward)
            step += 1
        return episode
