"""The credit chain: a task of four stages, small enough that the advantage of every action is known exactly.

In each stage a policy either does the right thing and completes it, or the wrong thing, which may lose a stage. Time
costs, and a stage is paid when it is completed for the first time, as by the stage machine. Advantages are those of
success: an estimator is good if it tells which action made success likelier or sooner, however it is paid.

Shapes: ``K`` stages, ``H`` longest episode, ``A`` actions (2).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tgrpo.types import FloatArray

RIGHT, WRONG = 0, 1


@dataclass(frozen=True)
class Chain:
    """The process and the policy that acts in it."""

    stages: int = 4
    horizon: int = 9
    """Longest episode [steps]."""
    right: float = 0.64
    """How often the policy does the right thing."""
    advance: float = 0.9
    """Chance that the right thing completes a stage."""
    fall: float = 0.55
    """Chance that the wrong thing loses one."""
    cost: float = 0.07
    """Price of a step."""
    dense: bool = True
    """Whether every stage pays ``1 / K`` when it is first completed; else success alone pays 1."""
    gamma: float = 0.95
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

    def reward(self, highest: int, stage: int) -> float:
        """Reward of a step.

        Args:
            highest: Highest stage before it.
            stage: The one that it leads to.
        """
        paid = max(stage - highest, 0) / self.stages if self.dense else float(stage == self.stages)
        return paid - self.cost

    def advantages(self) -> FloatArray:
        """Exact ``Q - V`` of each action for success, by step, stage and action ``(H, K + 1, A)``."""
        chances = self.moves()
        rewards = np.append(np.zeros(self.stages), 1.0) - self.cost
        policy = np.array([self.right, 1 - self.right])
        values = np.zeros(self.stages + 1)
        result = np.zeros((self.horizon, self.stages + 1, 2))
        for step in reversed(range(self.horizon)):
            actions = chances @ (rewards + self.gamma * values)
            actions[self.stages] = 0.0
            values = actions @ policy
            result[step] = actions - values[:, None]
        return result


@dataclass
class Episode:
    """What was done from one state on."""

    stages: list[int] = field(default_factory=list)
    """Stage before each action, and the last one."""
    highest: list[int] = field(default_factory=list)
    """Highest stage before each action, and the last one."""
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
        self._rng, self._moves = rng, chain.moves().cumsum(-1)

    def draw(self) -> int:
        """An action of the policy."""
        return RIGHT if self._rng.random() < self.chain.right else WRONG

    def act(self, stage: int, highest: int, action: int) -> tuple[int, int, float]:
        """Takes one step; returns the next stage, the highest so far and the reward."""
        self.steps += 1
        following = min(int(np.searchsorted(self._moves[stage, action], self._rng.random())), self.chain.stages)
        return following, max(highest, following), self.chain.reward(highest, following)

    def play(self, stage: int = 0, highest: int = 0, step: int = 0, action: int | None = None) -> Episode:
        """Plays to the end of the episode.

        Args:
            stage: Where to start.
            highest: Highest stage so far.
            step: Steps of the episode that are over.
            action: The first action; drawn if not given.
        """
        episode = Episode([stage], [highest])
        while step < self.chain.horizon and stage < self.chain.stages:
            chosen = self.draw() if action is None else action
            action = None
            stage, highest, reward = self.act(stage, highest, chosen)
            episode.stages.append(stage)
            episode.highest.append(highest)
            episode.actions.append(chosen)
            episode.rewards.append(reward)
            step += 1
        return episode
