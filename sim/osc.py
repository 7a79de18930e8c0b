"""One control step of LIBERO's arm: operational space control at 500 Hz for one 20 Hz action.

:class:`PythonStepper` calls the same numerical routines as robosuite in the same order, so states are equal bit for
bit; it is faster because it runs MuJoCo's pipeline once per substep instead of three times and has no observables.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import mujoco
import numpy as np

from tgrpo.types import FloatArray

SETTLE_ACTION: FloatArray = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0])
"""LIBERO's action that does nothing: no motion, gripper open."""
_GRIPPER_RATE = np.array([-1.0, 1.0]) * 0.01


@dataclass(frozen=True, eq=False)
class ArmIndices:
    """Where the arm and its gripper are in MuJoCo's arrays, and the constants of its controller."""

    qpos: list[int]
    """Positions of the seven arm joints in ``qpos``."""
    qvel: list[int]
    """Positions of the seven arm joints in ``qvel``."""
    torques: list[int]
    """Arm motors in ``ctrl``."""
    fingers: list[int]
    """Finger motors in ``ctrl``."""
    site: int
    """Site between the fingertips."""
    kp: FloatArray
    """Stiffness ``(6,)``."""
    kd: FloatArray
    """Damping ``(6,)``."""
    scale: FloatArray
    """What an action of 1 commands ``(6,)`` [m, rad]."""
    torque_low: FloatArray
    """``(7,)`` [N m]."""
    torque_high: FloatArray
    """``(7,)`` [N m]."""
    finger_bias: FloatArray
    """Centre of the finger commands ``(2,)`` [m]."""
    finger_weight: FloatArray
    """Half range of the finger commands ``(2,)`` [m]."""
    initial_joints: FloatArray
    """Joint positions that the null space is pulled towards ``(7,)`` [rad]."""
    substeps: int
    """Physics steps of one control step."""

    @classmethod
    def of(cls, env: Any) -> ArmIndices:
        """Reads them from a robosuite environment that was just reset."""
        robot, model = env.robots[0], env.sim.model
        controller = robot.controller
        fingers = [model.actuator_name2id(name) for name in robot.gripper.actuators]
        limits = model.actuator_ctrlrange[fingers]
        low, high = robot.torque_limits
        return cls(
            qpos=[int(i) for i in controller.qpos_index],
            qvel=[int(i) for i in controller.qvel_index],
            torques=[int(i) for i in robot._ref_joint_actuator_indexes],
            fingers=fingers,
            site=int(model.site_name2id(controller.eef_name)),
            kp=np.array(controller.kp, float),
            kd=np.array(controller.kd, float),
            scale=abs(controller.output_max - controller.output_min) / abs(controller.input_max - controller.input_min),
            torque_low=np.array(low),
            torque_high=np.array(high),
            finger_bias=0.5 * (limits[:, 1] + limits[:, 0]),
            finger_weight=0.5 * (limits[:, 1] - limits[:, 0]),
            initial_joints=np.array(controller.initial_joint),
            substeps=int(env.control_timestep / env.model_timestep),
        )


class ArmState(NamedTuple):
    """What the controller needs to know about one instant."""

    position: FloatArray
    rotation: FloatArray
    linear_velocity: FloatArray
    angular_velocity: FloatArray
    joint_positions: FloatArray
    joint_velocities: FloatArray
    jacobian_position: FloatArray
    jacobian_rotation: FloatArray
    jacobian: FloatArray
    mass_matrix: FloatArray

    @classmethod
    def cached_by(cls, controller: Any) -> ArmState:
        """Takes the state that a robosuite controller cached at its last update."""
        return cls(
            controller.ee_pos,
            controller.ee_ori_mat,
            controller.ee_pos_vel,
            controller.ee_ori_vel,
            controller.joint_pos,
            controller.joint_vel,
            controller.J_pos,
            controller.J_ori,
            controller.J_full,
            controller.mass_matrix,
        )


class PythonStepper:
    """Control step with exactly robosuite's arithmetic.

    Attributes:
        controller: Controller state ``(14,)``: goal position, goal rotation (row-major), gripper command. Shared with
            other steppers of the same environment and written in place.
        sensed: ``(nq,)`` joint positions before the last substep, from which poses and contacts in ``data`` come.
    """

    def __init__(self, model: Any, data: Any, env: Any) -> None:
        """Takes the controller's constants and its cached state from a robosuite environment that was just reset.

        Args:
            model: ``mujoco.MjModel`` to simulate.
            data: ``mujoco.MjData`` to advance.
            env: robosuite environment of the same model.
        """
        from robosuite.utils import control_utils

        self._routines = control_utils
        self._model, self._data = model, data
        self.arm = ArmIndices.of(env)
        self._at_reset = ArmState.cached_by(env.robots[0].controller)
        self.controller: FloatArray = np.zeros(14)
        self.sensed: FloatArray = data.qpos.copy()
        self._goal_position = self.controller[:3]
        self._goal_rotation = self.controller[3:12].reshape(3, 3)
        self._gripper = self.controller[12:]
        joints = len(self.arm.qvel)
        self._linear, self._angular = np.zeros((3, model.nv)), np.zeros((3, model.nv))
        self._mass = np.zeros((model.nv, model.nv))
        # Column-major like robosuite's, because the order decides which BLAS routine rounds the products.
        self._arm_linear, self._arm_angular = np.zeros((3, joints), order="F"), np.zeros((3, joints), order="F")
        self._arm_jacobian = np.zeros((6, joints), order="F")
        self._arm_mass = np.zeros((joints, joints), order="F")
        self._wrench = np.zeros(6)
        self._columns, self._rows = _compact(self.arm.qvel), _compact(self.arm.qpos)

    def reset(self) -> None:
        """Sets the controller's goal to the pose of the reset and the gripper's command to the middle."""
        self._goal_position[:] = self._at_reset.position
        self._goal_rotation[:] = self._at_reset.rotation
        self._gripper[:] = 0.0

    def step(self, action: FloatArray, first: bool = False) -> None:
        """Executes one action for 50 ms.

        Args:
            action: ``(7,)`` in [-1, 1], clipped.
            first: First step after a reset, in which robosuite's controller still uses the state it cached then.
        """
        model, data, arm = self._model, self._data, self.arm
        ctrl, motors, fingers = data.ctrl, _compact(arm.torques), _compact(arm.fingers)
        gripper_step = _GRIPPER_RATE * np.sign(action[6:])
        for substep in range(arm.substeps):
            mujoco.mj_step1(model, data)
            state = self._at_reset if first and substep == 0 else self._read()
            if substep == 0:
                self._set_goal(action[:6], state)
            ctrl[motors] = np.minimum(np.maximum(self._torques(state), arm.torque_low), arm.torque_high)
            self._gripper[:] = np.minimum(np.maximum(self._gripper + gripper_step, -1.0), 1.0)
            ctrl[fingers] = arm.finger_bias + arm.finger_weight * self._gripper
            if substep == arm.substeps - 1:
                self.sensed[:] = data.qpos
            mujoco.mj_step2(model, data)

    def _read(self) -> ArmState:
        model, data, arm, columns = self._model, self._data, self.arm, self._columns
        linear, angular, mass = self._linear, self._angular, self._mass
        mujoco.mj_jacSite(model, data, linear, angular, arm.site)
        mujoco.mj_fullM(model, mass, data.qM)
        qvel = data.qvel
        self._arm_jacobian[:3] = self._arm_linear[:] = linear[:, columns]
        self._arm_jacobian[3:] = self._arm_angular[:] = angular[:, columns]
        self._arm_mass[:] = mass[columns, :][:, columns]
        return ArmState(
            data.site_xpos[arm.site],
            data.site_xmat[arm.site].reshape(3, 3),
            np.dot(linear, qvel),
            np.dot(angular, qvel),
            data.qpos[self._rows],
            qvel[columns],
            self._arm_linear,
            self._arm_angular,
            self._arm_jacobian,
            self._arm_mass,
        )

    def _set_goal(self, action: FloatArray, state: ArmState) -> None:
        delta = np.clip(action, -1.0, 1.0) * self.arm.scale
        if np.any(delta[3:] != 0.0):
            self._goal_rotation[:] = self._routines.set_goal_orientation(delta[3:], state.rotation)
        self._goal_position[:] = state.position + delta[:3]

    def _torques(self, state: ArmState) -> FloatArray:
        arm, routines, wrench = self.arm, self._routines, self._wrench
        force = (self._goal_position - state.position) * arm.kp[:3] + -state.linear_velocity * arm.kd[:3]
        rotation_error = routines.orientation_error(self._goal_rotation, state.rotation)
        torque = rotation_error * arm.kp[3:] + -state.angular_velocity * arm.kd[3:]
        _, inertia_position, inertia_rotation, null_space = routines.opspace_matrices(
            state.mass_matrix, state.jacobian, state.jacobian_position, state.jacobian_rotation
        )
        wrench[:3] = np.dot(inertia_position, force)
        wrench[3:] = np.dot(inertia_rotation, torque)
        torques = np.dot(state.jacobian.T, wrench) + self._data.qfrc_bias[self._columns]
        torques += routines.nullspace_torques(
            state.mass_matrix, null_space, arm.initial_joints, state.joint_positions, state.joint_velocities
        )
        return np.asarray(torques)


def _compact(indices: list[int]) -> slice | list[int]:
    """Consecutive indices as a slice, which NumPy reads several times faster."""
    if indices == list(range(indices[0], indices[0] + len(indices))):
        return slice(indices[0], indices[0] + len(indices))
    return indices
