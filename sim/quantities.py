"""Poses, distances, contacts, joint fractions and goal predicates of a LIBERO task, read straight from MuJoCo."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tgrpo.types import FloatArray

Predicate = tuple[str, ...]
"""A conjunct of the goal, for example ``("on", "akita_black_bowl_1", "plate_1")``."""
_NO_OWNER = -1
_LEFT, _RIGHT = 0, 1


def predicate_name(predicate: Predicate) -> str:
    """Returns the name of a predicate, for example ``"on(akita_black_bowl_1,plate_1)"``."""
    return f"{predicate[0].lower()}({','.join(predicate[1:])})"


class Readout:
    """Reads one LIBERO task.

    Poses and contacts are those of the last substep, as in LIBERO's own predicates; joint positions are current.
    """

    def __init__(self, env: Any, model: Any, data: Any) -> None:
        """Resolves every name of a task once.

        Args:
            env: LIBERO's ``BDDLBaseDomain``.
            model: ``mujoco.MjModel`` to read.
            data: ``mujoco.MjData`` to read.
        """
        self._data = data
        robot = env.robots[0]
        self._site = int(env.sim.model.site_name2id(robot.controller.eef_name))
        self._hand = int(env.sim.model.body_name2id(robot.robot_model.eef_name))
        self._fingers = [int(i) for i in robot._ref_gripper_joint_pos_indexes]
        self._objects = [name for name in env.objects_dict if name in env.object_states_dict]
        fixtures = [name for name in env.fixtures_dict if name in env.object_states_dict]
        self._things = [*self._objects, *fixtures]
        self._bodies = np.array([int(env.obj_body_id[name]) for name in self._things], np.intp)
        self._regions = list(env.object_sites_dict)
        self._sites = np.array([int(env.sim.model.site_name2id(name)) for name in self._regions], np.intp)
        self._contacts = _Contacts(env, data, self._things)
        self._joints = list(_joint_fractions(env, [*self._things, *self._regions]))
        self.goal: list[Predicate] = [tuple(state) for state in env.parsed_problem["goal_state"]]
        self._goal = [(f"predicate/{predicate_name(p)}", self._compile(env, p)) for p in self.goal]

    def success(self) -> bool:
        """Whether every conjunct of the goal holds, as LIBERO's ``_check_success`` evaluates it."""
        self._contacts.forget()
        return all(holds() for _, holds in self._goal)

    def proprio(self) -> NDArray[np.float32]:
        """Returns end-effector position ``(3,)`` [m], axis-angle ``(3,)`` [rad] and finger positions ``(2,)`` [m]."""
        data = self._data
        return np.concatenate(
            [data.site_xpos[self._site], axis_angle(data.xquat[self._hand]), data.qpos[self._fingers]]
        ).astype(np.float32)

    def fingers(self) -> FloatArray:
        """Returns finger positions ``(2,)`` [m]."""
        return np.asarray(self._data.qpos[self._fingers])

    def quantities(self) -> dict[str, FloatArray]:
        """Returns all named quantities; the names are listed in :mod:`tgrpo.rewards`."""
        data = self._data
        self._contacts.forget()
        eef = data.site_xpos[self._site].copy()
        fingers = data.qpos[self._fingers]
        values: dict[str, FloatArray] = {
            "eef/position": eef,
            "eef/quaternion": data.xquat[self._hand].copy(),
            "gripper/opening": np.asarray(fingers[0] - fingers[1]),
        }
        positions, quaternions = data.xpos[self._bodies], data.xquat[self._bodies]
        distances = np.sqrt(((positions - eef) ** 2).sum(axis=1))
        touching = self._contacts.fingers_touching()
        for index, name in enumerate(self._things):
            values[f"{name}/position"] = positions[index]
            values[f"{name}/quaternion"] = quaternions[index]
        for index, name in enumerate(self._objects):
            values[f"{name}/distance"] = np.asarray(distances[index])
            values[f"{name}/contact"] = np.asarray(touching[index])
        sites = data.site_xpos[self._sites]
        for index, name in enumerate(self._regions):
            values[f"{name}/position"] = sites[index]
        for name, addresses, closed, span in self._joints:
            fraction = max((float(data.qpos[address]) - closed) / span for address in addresses)
            values[f"{name}/fraction"] = np.asarray(min(max(0.0, fraction), 1.0))
        success = 1.0
        for name, holds in self._goal:
            value = 1.0 if holds() else 0.0
            values[name] = np.asarray(value)
            success = min(success, value)
        values["success"] = np.asarray(success)
        return values

    def _compile(self, env: Any, predicate: Predicate) -> Callable[[], bool]:
        data, contacts = self._data, self._contacts
        kind, *names = predicate
        kind = kind.lower()
        if kind in ("open", "close", "turnon", "turnoff"):
            return _joint_predicate(env, data, kind, names[0])
        if kind == "up":
            body = env.obj_body_id[names[0]]
            return lambda: bool(data.xpos[body][2] >= 1.0)
        thing, place = names
        body = env.obj_body_id[thing]
        if place not in env.object_sites_dict:
            other = env.obj_body_id[place]
            touch = contacts.between(thing, place)
            if kind == "in":
                inside = env.get_object(place).in_box
                return lambda: bool(touch() and inside(data.xpos[other], data.xpos[body]))
            return lambda: bool(
                data.xpos[other][2] <= data.xpos[body][2]
                and touch()
                and np.linalg.norm(data.xpos[other][:2] - data.xpos[body][:2]) < 0.03
            )
        region = env.object_sites_dict[place]
        site = int(env.sim.model.site_name2id(place))
        if kind == "in":
            return lambda: bool(
                region.in_box(data.site_xpos[site], data.site_xmat[site].reshape(3, 3), data.xpos[body])
            )
        parent = env.object_states_dict[place].parent_name
        rests = contacts.between(parent, thing) if env.get_object(parent) is not None else lambda: True
        return lambda: bool(
            region.under(data.site_xpos[site], data.site_xmat[site].reshape(3, 3), data.xpos[body]) and rests()
        )


class _Contacts:
    """Which things touch, from MuJoCo's contact list, looked up once per instant."""

    def __init__(self, env: Any, data: Any, names: list[str]) -> None:
        model = env.sim.model
        self._data = data
        self._index = {name: index for index, name in enumerate(names)}
        self._owner = np.full(model.ngeom, _NO_OWNER, np.intp)
        for name, index in self._index.items():
            for geom in env.get_object(name).contact_geoms:
                self._owner[model.geom_name2id(geom)] = index
        self._count = len(names)
        for side, group in ((_LEFT, "left_finger"), (_RIGHT, "right_finger")):
            for geom in env.robots[0].gripper.important_geoms[group]:
                self._owner[model.geom_name2id(geom)] = self._count + side
        self._pairs: NDArray[np.bool_] | None = None

    def forget(self) -> None:
        """Must be called when the simulation has moved on."""
        self._pairs = None

    def fingers_touching(self) -> FloatArray:
        """Returns the number of fingers in contact with each thing: 0, 1 or 2."""
        return np.asarray(self._touching()[self._count :, : self._count].sum(axis=0), np.float64)

    def between(self, first: str, second: str) -> Callable[[], bool]:
        """Returns a function that tells whether two things touch."""
        a, b = self._index[first], self._index[second]
        return lambda: bool(self._touching()[a, b])

    def _touching(self) -> NDArray[np.bool_]:
        if self._pairs is None:
            pairs = np.zeros((self._count + 3, self._count + 3), bool)
            owners = self._owner[self._data.contact.geom]
            pairs[owners[:, 0], owners[:, 1]] = True
            self._pairs = (pairs | pairs.T)[:-1, :-1]
        return self._pairs


def axis_angle(quaternion: FloatArray) -> FloatArray:
    """Converts a unit quaternion to an axis-angle vector.

    Args:
        quaternion: ``(4,)`` wxyz.

    Returns:
        ``(3,)`` [rad]; the angle is in [0, 2 pi), as in the proprioception of LIBERO's data sets.
    """
    w = min(max(float(quaternion[0]), -1.0), 1.0)
    sine = np.sqrt(1.0 - w * w)
    if sine == 0.0:
        return np.zeros(3)
    return np.asarray(quaternion[1:] * (2.0 * np.arccos(w) / sine))


def _articulation(env: Any, name: str) -> tuple[Any, list[str]]:
    """Returns the articulated object that a name belongs to and the joints that count for it."""
    region = env.object_sites_dict.get(name)
    if region is None:
        thing = env.get_object(name)
        return thing, list(thing.joints)
    return env.get_object(region.parent_name), list(region.joints or [])


def _joint_fractions(env: Any, names: Iterable[str]) -> Iterable[tuple[str, list[int], float, float]]:
    for name in names:
        thing, joints = _articulation(env, name)
        ranges = getattr(thing, "object_properties", {}).get("articulation", {})
        if "default_turnon_ranges" in ranges:
            on, off = ranges["default_turnon_ranges"], ranges["default_turnoff_ranges"]
        else:
            on, off = ranges.get("default_open_ranges"), ranges.get("default_close_ranges")
        if not on or not off or not joints:
            continue
        addresses = [env.sim.model.get_joint_qpos_addr(joint) for joint in joints]
        if any(isinstance(address, tuple) for address in addresses):
            continue
        opened, closed = (min(on), max(off)) if min(on) > max(off) else (max(on), min(off))
        yield name, [int(address) for address in addresses], float(closed), float(opened - closed)


def _joint_predicate(env: Any, data: Any, kind: str, name: str) -> Callable[[], bool]:
    thing, joints = _articulation(env, name)
    test = getattr(thing, {"open": "is_open", "close": "is_close", "turnon": "turn_on", "turnoff": "turn_off"}[kind])
    combine = any if kind in ("open", "turnon") else all
    addresses = [int(env.sim.model.get_joint_qpos_addr(joint)) for joint in joints]
    return lambda: bool(combine(test(data.qpos[address]) for address in addresses))
