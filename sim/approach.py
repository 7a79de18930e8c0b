"""A planner moves the hand where nothing is near, the policy acts near things: `tgrpo eval --planner`.

PLANRL (:mod:`tgrpo.algo.arbitration`) with the scripted expert's motions in free space as the planner. It takes the
hand to above the object that is to be moved, and the object to above where it belongs; grasping and letting go are the
policy's. Doors, drawers and knobs are the policy's alone.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sim.expert.geometry import tool_down
from sim.expert.grasps import grasps
from sim.expert.motion import CLOSE, OPEN, Command, hop
from sim.expert.planner import spot
from sim.expert.scene import Scene
from sim.libero import LiberoEnv
from sim.rollout import Part, Tally
from sim.solo import Decision
from tgrpo.algo.arbitration import Hysteresis
from tgrpo.policies.base import Policy
from tgrpo.rewards import StageMachine
from tgrpo.types import ActionChunk, FloatArray

CLEARANCE = 0.10
"""Height above the target at which the hand travels [m]."""


class Approach:
    """The planner first, then the policy; see :class:`sim.solo.Decider`."""

    def __init__(self, env: LiberoEnv, policy: Policy, tally: Tally) -> None:
        """Knows no way yet.

        Args:
            env: The environment of the episodes.
            policy: Acts near things.
            tally: Counts observations.
        """
        self._env, self._policy, self._tally = env, policy, tally
        self._places = {goal[1]: goal[2] for goal in env.goal if goal[0] in ("on", "in")}
        self._temperature = 0.0
        self._scene = Scene(env.model, env.data)
        self._mode = Hysteresis()
        self._leg: tuple[str, bool] | None = None
        self._way: Iterator[Command] | None = None

    def begin(self, part: Part, row: int) -> None:
        """An episode has begun."""
        self._temperature = part.unit.temperature
        self._policy.reset([part.unit.seeds[row]])
        self._scene = Scene(self._env.model, self._env.data)  # a reset may have built another model
        self._mode, self._leg, self._way = Hysteresis(), None, None

    def decide(self, machine: StageMachine, left: int) -> Decision:
        """One action of the planner, or a chunk of the policy."""
        planned = self._planned(machine.focus(self._env.quantities()))
        if planned is not None:
            return Decision(ActionChunk(planned.action[None].astype(np.float32)))
        observation = self._env.observation()
        self._tally.inferred += 1
        return Decision(self._policy.act([observation], temperature=self._temperature)[0], observation)

    def _planned(self, leg: tuple[str, bool] | None) -> Command | None:
        """The planner's next action; nothing where the policy should act."""
        if leg is None or leg[0] not in self._places:
            return None
        if leg != self._leg:  # another object, or it was taken or lost
            self._leg, self._mode, self._way = leg, Hysteresis(), None
        scene = self._scene
        name, held = leg
        target, height = _place(scene, name, self._places[name]) if held else _grasp(scene, name)
        if self._mode.update(float(np.linalg.norm(target - scene.eef_position()))):
            self._way = None
            return None
        if self._way is None:
            rotation = scene.eef_rotation() if held else tool_down(grasps(scene, name)[0].yaw)
            self._way = hop(scene, target, rotation, CLOSE if held else OPEN, height=height)
        return next(self._way, None)


def _grasp(scene: Scene, name: str) -> tuple[FloatArray, float]:
    """Where to take an object ``(3,)``, and the height to travel at on the way there [m]."""
    target = grasps(scene, name)[0].position
    return target, max(float(target[2]), scene.tallest_between(scene.eef_position(), target, name)) + CLEARANCE


def _place(scene: Scene, name: str, place: str) -> tuple[FloatArray, float]:
    """Where the hand is when the object in it is in its place ``(3,)``, and the height to travel at [m]."""
    hand, (centre, least) = scene.eef_position(), spot(scene, place)
    across = centre + hand - scene.position(name)
    target = np.array([across[0], across[1], centre[2] + hand[2] - scene.bottom(name)])
    return target, max(float(target[2]) + CLEARANCE, least, float(hand[2]))
