"""The scripted expert as somebody who is asked what to do next: it stands in for a person in rehearsals and tests."""

from __future__ import annotations

from collections.abc import Iterator

from sim.expert.motion import Command, SkillFailedError
from sim.expert.planner import jobs, script
from sim.expert.scene import Scene
from sim.expert.search import ordered_candidates, search
from sim.libero import LiberoEnv
from tgrpo.types import FloatArray

TRIES = 4
"""Candidates that are tried: everybody waits meanwhile."""


class Adviser:
    """Knows a way to the goal from where the scene is, whoever brought it there."""

    def __init__(self, env: LiberoEnv) -> None:
        """Has no plan.

        Args:
            env: The task; plans are tried out in it, and it is put back as it was.
        """
        self._env = env
        self._plan: Iterator[Command] | None = None

    def forget(self) -> None:
        """Drops the plan: the scene has become another one."""
        self._plan = None

    def action(self, *, afresh: bool) -> FloatArray | None:
        """The next action ``(7,)``; None where no way is known from here.

        Args:
            afresh: Plan from the present state; without, the plan at hand is continued as long as it lasts.
        """
        if afresh or self._plan is None:
            self._plan = self._planned()
        try:
            return None if self._plan is None else next(self._plan).action
        except (SkillFailedError, StopIteration):
            self._plan = None
            return None

    def _planned(self) -> Iterator[Command] | None:
        env = self._env
        try:
            attempts = list(search(env, order=ordered_candidates(env)[:TRIES]))
        except SkillFailedError:  # no skill for this goal
            return None
        if not attempts or not attempts[-1].success:
            return None
        scene = Scene(env.model, env.data)
        return script(scene, jobs(scene, env.goal), attempts[-1].candidate)
