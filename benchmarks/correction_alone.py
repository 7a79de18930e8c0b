"""A session of corrections in one process, for `python -m benchmarks.correction --alone`: minutes instead of hours.

Policy, scene, scripted operator, recorder and learner are those of a real session. What is missing is what lies between
them there: nodes, device, teleoperation, safety layer and server.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sim.adviser import Adviser
from sim.libero import LiberoEnv, make
from sim.robot import stages
from tgrpo.policies import load, shipped
from tgrpo.policies.base import Policy
from tgrpo.policies.trainable import load_trainable
from tgrpo.record.recorder import EpisodeRecorder
from tgrpo.record.streams import Action, RobotState, now
from tgrpo.rewards import StageMachine
from tgrpo.session import history, versions
from tgrpo.session import plan as plans
from tgrpo.session.learn import Imitator, LearnSettings
from tgrpo.types import FloatArray, Observation
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
    task = plan.tasks[0]
    policy = load_trainable(shipped(plan.policies[0].checkpoint))
    seen = policy.spec.observation
    env = make(task.suite, task.task, mode="fast", cameras=seen.cameras, size=seen.size)
    hand, machine = Hand(env, patience, stages_done), stages(env)
    with history.open_session(session, plan) as folder:
        versions.start(session, policy.save)
        student = Imitator(policy, settings)
        player: Policy = load(versions.folder_of(session, 0))
        while (chosen := plans.upcoming(plan, history.played(session))) is not None:
            version = versions.current(session).version
            about = history.episode_info(
                plan, chosen, version=str(version), rate=env.action_spec.rate, scale=env.action_spec.position_scale
            )
            env.reset(chosen.slot.start, plan.seed)
            hand.begin()
            recorder = folder.begin(about)
            limit = round(task.time_limit * env.action_spec.rate)
            success = _roll(env, machine, player, hand, recorder, chosen.slot.pair, limit)
            recorder.close("success" if success else "failure")
            verdict = student.study(session)
            if verdict is not None and verdict.accepted:
                number = versions.add(session, student.export, {**student.about(), "verdict": str(verdict)})
                player = load(versions.folder_of(session, number))
            print(f"{chosen.slot.pair}: version {version}, {success=}; {verdict or 'nothing to learn'}", flush=True)
    env.close()


def _roll(
    env: LiberoEnv,
    machine: StageMachine | None,
    player: Policy,
    hand: Hand,
    recorder: EpisodeRecorder,
    episode: int,
    limit: int,
) -> bool:
    """One episode; returns whether the task was completed."""
    player.reset([0])
    if machine is not None:
        machine.reset(env.quantities())
    chunk: list[NDArray[np.float32]] = []
    stage = 0
    for step in range(limit):
        observation = env.observation()
        record(recorder, observation)
        human = hand.action(episode, step, stage)
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
        stage = 0 if machine is None else machine.step(env.quantities()).stage
    return False


def record(recorder: EpisodeRecorder, observation: Observation) -> None:
    """Puts down what is seen: pictures and the state of the arm."""
    body = np.asarray(observation.proprio, np.float64).tolist()
    for camera, image in observation.images.items():
        recorder.frame(camera, image)
    recorder.put(RobotState(at=now(), position=body[:3], axis_angle=body[3:6], fingers=body[6:]))
