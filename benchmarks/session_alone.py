"""A session in one process, without what lies between its parts at an arm: nodes, device, safety layer and server.

Policy, scene, recorder and learner are those of a real session.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np

from sim.libero import LiberoEnv, make
from tgrpo.policies import load, shipped
from tgrpo.policies.base import Policy
from tgrpo.policies.trainable import Trainable, load_trainable
from tgrpo.record.recorder import EpisodeRecorder
from tgrpo.record.streams import RobotState, now
from tgrpo.session import history, versions
from tgrpo.session.learn import Comparer, Imitator
from tgrpo.session.plan import Plan, Slot, upcoming
from tgrpo.types import Observation

Roll: TypeAlias = Callable[[Policy, Slot, EpisodeRecorder, int], bool]
"""Plays one episode of so many control steps from where the scene is; returns whether the task was completed."""


def scene(suite: str, task: int, policy: str) -> LiberoEnv:
    """The scene of a task, with the pictures that a policy sees."""
    seen = load(shipped(policy)).spec.observation
    return make(suite, task, mode="fast", cameras=seen.cameras, size=seen.size)


def play(
    plan: Plan, session: Path, env: LiberoEnv, study: Callable[[Trainable], Imitator | Comparer], roll: Roll
) -> None:
    """Plays a plan of one policy and one task to its end, learning after each episode."""
    task, spec = plan.tasks[0], env.action_spec
    policy = load_trainable(shipped(plan.policies[0].checkpoint))
    with history.open_session(session, plan) as folder:
        versions.start(session, policy.save)
        student = study(policy)
        player: Policy = load(versions.folder_of(session, 0))
        while (chosen := upcoming(plan, history.played(session))) is not None:
            version = versions.current(session).version
            about = history.episode_info(plan, chosen, version=str(version), rate=spec.rate, scale=spec.position_scale)
            env.reset(chosen.slot.start, plan.seed)
            recorder = folder.begin(about)
            success = roll(player, chosen.slot, recorder, round(task.time_limit * spec.rate))
            recorder.close("success" if success else "failure")
            verdict = student.study(session)
            if verdict is not None and verdict.accepted:
                number = versions.add(session, student.export, {**student.about(), "verdict": str(verdict)})
                player = load(versions.folder_of(session, number))
            print(f"{chosen.slot.pair}: version {version}, {success=}; {verdict or 'nothing to learn'}", flush=True)


def record(recorder: EpisodeRecorder, observation: Observation) -> None:
    """Puts down what is seen: pictures and the state of the arm."""
    body = np.asarray(observation.proprio, np.float64).tolist()
    for camera, image in observation.images.items():
        recorder.frame(camera, image)
    recorder.put(RobotState(at=now(), position=body[:3], axis_angle=body[3:6], fingers=body[6:]))
