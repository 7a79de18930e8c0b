"""The shipped stage files on the real simulator, without rendering."""

from __future__ import annotations

from typing import Any

import pytest

from sim import libero
from sim.expert.search import search
from tgrpo.rewards import StageMachine, StepReward, load_stages

IDLE = [0.0] * 6 + [-1.0]
"""Stand still with the gripper open."""
TASKS = [
    (suite, task) for suite in ("libero_object", "libero_spatial", "libero_goal", "libero_10") for task in range(10)
]


@pytest.mark.parametrize(("suite", "task"), TASKS)
def test_simulator_offers_every_quantity(suite: str, task: int) -> None:
    env = libero.make(suite, task)
    env.reset(0)
    machine = StageMachine(load_stages(suite, env.name))
    quantities = env.quantities()
    machine.reset(quantities)
    step = machine.step(quantities)
    assert (step.stage, step.terms["success"]) == (0, 0.0)
    assert 0.0 < step.total < 0.1


def replay(env: Any, actions: Any) -> list[StepReward]:
    """Pays for a rollout from initial state 0."""
    env.reset(0)
    machine = StageMachine(load_stages(env.suite, env.name))
    machine.reset(env.quantities())
    steps = []
    for action in actions:
        env.step(action)
        steps.append(machine.step(env.quantities()))
    return steps


WALKS = [("libero_object", 7, 4), ("libero_spatial", 2, 4), ("libero_goal", 3, 7), ("libero_10", 7, 8)]
"""A task of each suite and its number of stages; a drawer comes first in the third, the last one has two objects."""


@pytest.mark.parametrize(("suite", "task", "count"), WALKS)
def test_expert_walks_through_all_stages(suite: str, task: int, count: int) -> None:
    env = libero.make(suite, task, mode="fast")
    env.reset(0)
    *_, attempt = search(env)
    assert attempt.success
    steps = replay(env, attempt.executed)
    stages = [step.stage for step in steps]
    assert sorted(set(stages)) == list(range(count + 1))
    assert stages == sorted(stages)
    assert all(step.total < 1.0 for step in steps[:-1])
    assert sum(step.total for step in steps) == pytest.approx(len(steps) + 1)

    idle = replay(env, [IDLE] * len(steps))
    assert sum(step.total for step in idle) < 0.1 * len(steps)
    released_early = [*attempt.executed[: stages.index(count - 2) + 5], *[IDLE] * 20]
    assert replay(env, released_early)[-1].total < max(step.total for step in steps[:-1])
