"""A session of corrections in one process, for `python -m benchmarks.correction --alone`: minutes instead of hours.

The scripted operator is that of a real session, too; see :mod:`benchmarks.session_alone` for what is missing.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import session_alone
from benchmarks.session_alone import record, scene
from sim.adviser import Adviser
from sim.libero import LiberoEnv
from sim.robot import stages
from tgrpo.policies.base import Policy
from tgrpo.record.recorder import EpisodeRecorder
from tgrpo.record.streams import Action, Stage, now
from tgrpo.rewards import StageMachine
from tgrpo.session import plan as plans
from tgrpo.session.learn import Imitator, LearnSettings
from tgrpo.types import FloatArray
from tgrpo_ros.patience import Patience


class Hand:
    """The scripted operator of `tgrpo_ros.operator_node`, whose hand is on the arm itself."""

    def __init__(self, env: LiberoEnv, patience: int, stages_done: int) -> None:
        """Watches.

        Args:
            env: The scene.
            patience: Control steps without a new stage before it takes over.
            stages_done: Stages that it completes before it hands back; 0: all.
        """
        self._adviser, self._patience = Adviser(env), Patience(patience, stages_done)

    def begin(self) -> None:
        """The scene has been reset."""
        self._adviser.forget()

    def action(self, episode: int, step: int, stage: int) -> FloatArray | None:
        """What it commands ``(7,)``; None while it watches or knows no way."""
        decision = self._patience.see(episode, step, stage, running=True)
        if decision not in ("take", "act"):
            return None
        action = self._adviser.action(afresh=decision == "take")
        if action is None:
            self._patience.give_up(step)
        return None if action is None else np.clip(action, -1.0, 1.0)


def play(plan_file: Path, session: Path, settings: LearnSettings, patience: int, stages_done: int) -> None:
    """Plays a plan of one task to its end, learning after each episode."""
    plan = plans.load(plan_file)
    env = scene(plan.tasks[0].suite, plan.tasks[0].task, plan.policies[0].checkpoint)
    hand, machine = Hand(env, patience, stages_done), stages(env)
    session_alone.play(
        plan, session, env, lambda policy: Imitator(policy, settings), partial(_roll, env, machine, hand)
    )
    env.close()


def _roll(
    env: LiberoEnv,
    machine: StageMachine | None,
    hand: Hand,
    player: Policy,
    slot: plans.Slot,
    recorder: EpisodeRecorder,
    limit: int,
) -> bool:
    """One episode; returns whether the task was completed."""
    hand.begin()
    player.reset([0])
    if machine is not None:
        machine.reset(env.quantities())
    chunk: list[NDArray[np.float32]] = []
    stage = 0
    for step in range(limit):
        observation = env.observation()
        record(recorder, observation)
        human = hand.action(slot.pair, step, stage)
        if human is not None:
            chunk = []
        elif not chunk:
            chunk = list(player.act([observation])[0].actions)
        action = chunk.pop(0).astype(np.float64) if human is None else human
        recorder.put(
            Action(
                at=now(),
                step=step,
                source="policy" if human is None else "human",
                executed=action.tolist(),
                intervention=human is not None,
            )
        )
        if env.step(action):
            return True
        reached = 0 if machine is None else machine.step(env.quantities()).stage
        if reached != stage:
            stage = reached
            recorder.put(Stage(at=now(), stage=stage))
    return False
