"""What the scripted expert knows of the simulator: poses, shapes and joints, read from the state."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np

from sim.expert.geometry import Matrix, Vector, visual_geoms
from tgrpo.errors import SimulationError

EEF_SITE = "gripper0_grip_site"
DRAWER_OPEN = -0.14
"""Joint position below which LIBERO calls a drawer open [m]."""
KNOB_ON = 0.5
"""Joint position above which LIBERO calls a stove turned on [rad]."""


class Scene:
    """Reads object poses and shapes of one environment by their BDDL names.

    Everything is as old as the last substep, 2 ms, which does not matter at 20 decisions a second.
    """

    def __init__(self, model: Any, data: Any) -> None:
        """Looks up the names of the model.

        Args:
            model: MuJoCo model.
            data: MuJoCo data; it is only read.
        """
        self.model = model
        self.data = data
        self._eef = model.site(EEF_SITE).id
        self._shapes: dict[str, list[tuple[int, Vector]]] = {}
        joints = [model.joint(index) for index in range(model.njnt)]
        free = [joint for joint in joints if int(joint.type[0]) == mujoco.mjtJoint.mjJNT_FREE]
        self.movable = [joint.name.removesuffix("_joint0") for joint in free]
        """Names of the objects that can be picked up."""
        self._bodies = {model.body(index).name for index in range(model.nbody)}
        self._sites = {model.site(index).name for index in range(model.nsite)}
        self._joints = {joint.name for joint in joints}

    def eef_position(self) -> Vector:
        """Position of the gripper's grip site ``(3,)`` [m]."""
        return np.array(self.data.site_xpos[self._eef])

    def eef_rotation(self) -> Matrix:
        """Orientation of the gripper ``(3, 3)``: x closes, z points out of the gripper."""
        return np.array(self.data.site_xmat[self._eef]).reshape(3, 3)

    def opening(self) -> float:
        """Distance between the fingers [m]."""
        return self.joint("gripper0_finger_joint1") - self.joint("gripper0_finger_joint2")

    def position(self, name: str) -> Vector:
        """Position ``(3,)`` [m] of an object, a fixture or a region.

        Raises:
            SimulationError: The scene has nothing of this name.
        """
        if f"{name}_main" in self._bodies:
            return np.array(self.data.xpos[self.model.body(f"{name}_main").id])
        if name in self._sites:
            return np.array(self.data.site_xpos[self.model.site(name).id])
        raise SimulationError(f"the scene has no object or region {name!r}. Objects: {', '.join(self.movable)}.")

    def region_rotation(self, name: str) -> Matrix:
        """Orientation of a region ``(3, 3)``."""
        return np.array(self.data.site_xmat[self.model.site(name).id]).reshape(3, 3)

    def region_size(self, name: str) -> Vector:
        """Half sizes of a region in its own frame ``(3,)`` [m]."""
        return np.array(self.model.site(name).size)

    def is_region(self, name: str) -> bool:
        """Whether ``name`` is a region and not an object."""
        return f"{name}_main" not in self._bodies and name in self._sites

    def owner(self, region: str) -> str | None:
        """The object or fixture that a region belongs to; None for regions of the table or floor."""
        owners = [
            body.removesuffix("_main")
            for body in self._bodies
            if body.endswith("_main") and region.startswith(body.removesuffix("main"))
        ]
        return max(owners, key=len) if owners else None

    def points(self, name: str) -> Vector:
        """Surface points ``(n, 3)`` of an object or fixture in the world [m]."""
        if name not in self._shapes:
            self._shapes[name] = visual_geoms(self.model, self.model.body(f"{name}_main").id)
        parts = [
            local @ np.array(self.data.geom_xmat[geom]).reshape(3, 3).T + self.data.geom_xpos[geom]
            for geom, local in self._shapes[name]
        ]
        return np.concatenate(parts)

    def top(self, name: str) -> float:
        """Height of the highest point of an object [m]."""
        return float(self.points(name)[:, 2].max())

    def bottom(self, name: str) -> float:
        """Height of the lowest point of an object [m]."""
        return float(self.points(name)[:, 2].min())

    def geom_position(self, name: str) -> Vector:
        """Position of a geom ``(3,)`` [m]."""
        return np.array(self.data.geom_xpos[self.model.geom(name).id])

    def geom_size(self, name: str) -> Vector:
        """Sizes of a geom in its own frame ``(3,)`` [m]: half sizes of a box."""
        return np.array(self.model.geom(name).size)

    def has_joint(self, name: str) -> bool:
        """Whether the scene has a joint of this name."""
        return name in self._joints

    def joint(self, name: str) -> float:
        """Position of a hinge [rad] or slide [m] joint."""
        return float(self.data.qpos[self.model.jnt_qposadr[self.model.joint(name).id]])

    def joint_axis(self, name: str) -> Vector:
        """Axis of a joint in the world ``(3,)``."""
        index = self.model.joint(name).id
        body = self.model.jnt_bodyid[index]
        axis: Vector = np.array(self.data.xmat[body]).reshape(3, 3) @ self.model.jnt_axis[index]
        return axis

    def joint_anchor(self, name: str) -> Vector:
        """A point on the axis of a joint ``(3,)`` [m]."""
        return np.array(self.data.xanchor[self.model.joint(name).id])

    def tallest_between(self, start: Vector, end: Vector, ignore: str, radius: float = 0.12) -> float:
        """Height of the tallest movable object near the straight way from ``start`` to ``end`` [m].

        Args:
            start: Start of the way ``(3,)`` [m].
            end: End of the way ``(3,)`` [m].
            ignore: Object that does not count.
            radius: Horizontal distance from the way within which an object counts [m].

        Returns:
            The height, or minus infinity where the way is free.
        """
        way = (end - start)[:2]
        length = float(way @ way) + 1e-9
        heights = [-np.inf]
        for name in self.movable:
            offset = (self.position(name) - start)[:2]
            along = float(np.clip(offset @ way / length, 0.0, 1.0))
            if name != ignore and np.linalg.norm(offset - along * way) < radius:
                heights.append(self.top(name))
        return float(max(heights))
