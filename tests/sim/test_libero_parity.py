"""Stock LIBERO and our environment, step by step."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pytest

pytest.importorskip("libero")

from sim import libero, stock
from sim.quantities import predicate_name

CAMERAS = ("agentview", "robot0_eye_in_hand")
SIZE = 96


def stock_env(suite: str, task: int, init_state: int, seed: int) -> Any:
    """LIBERO's own environment after the standard protocol with a seed for the episode."""
    with contextlib.redirect_stdout(io.StringIO()), stock.preserved_rng():
        from libero.libero.envs import OffScreenRenderEnv

        env = OffScreenRenderEnv(
            bddl_file_name=stock.bddl_file(suite, task),
            camera_names=list(CAMERAS),
            camera_heights=SIZE,
            camera_widths=SIZE,
        )
        env.seed(seed)
        env.reset()
        env.set_init_state(stock.init_states(suite, task)[init_state])
        for _ in range(10):
            env.step([0, 0, 0, 0, 0, 0, -1])
    return env


def stock_pictures(env: Any) -> dict[str, np.ndarray[Any, Any]]:
    env.sim._render_context_offscreen.gl_ctx.make_current()
    return {camera: env.sim.render(camera_name=camera, width=SIZE, height=SIZE)[::-1] for camera in CAMERAS}


def complete_state(model: Any, data: Any) -> np.ndarray[Any, Any]:
    return np.concatenate(
        [
            [data.time],
            data.qpos,
            data.qvel,
            data.qacc_warmstart,
            data.ctrl,
            model.body_pos.ravel(),
            model.body_quat.ravel(),
        ]
    )


# libero_goal 3 has drawers and three fixtures, libero_10 8 starts with a stove that is on.
@pytest.mark.parametrize(("suite", "task", "init_state", "seed"), [("libero_goal", 3, 3, 7), ("libero_10", 8, 1, 2)])
def test_exact_mode_equals_stock_in_states_pictures_and_predicates(
    suite: str, task: int, init_state: int, seed: int
) -> None:
    reference = stock_env(suite, task, init_state, seed)
    env = libero.make(suite, task, cameras=CAMERAS, size=SIZE)
    env.reset(0, seed=5)
    env.step(np.ones(7))
    env.reset(init_state, seed)
    theirs = reference.env.sim
    rng = np.random.default_rng(1)
    for step in range(30):
        action = np.r_[rng.uniform(-1, 1, 3), rng.uniform(-0.3, 0.3, 3) * (step % 3 == 0), -1 if step < 15 else 1]
        done = reference.step(action)[2]
        assert env.step(action) == done
        expected = complete_state(theirs.model._model, theirs.data._data)
        np.testing.assert_array_equal(complete_state(env._model, env._data), expected)
        quantities = env.quantities()
        for predicate in env.goal:
            held = bool(reference.env._eval_predicate(list(predicate)))
            assert quantities[f"predicate/{predicate_name(predicate)}"] == float(held)
    expected_pictures = stock_pictures(reference)
    for camera, picture in env.render().items():
        np.testing.assert_array_equal(picture, expected_pictures[camera])
    reference.close()
    env.close()


def test_every_goal_of_the_standard_suites_can_be_read_at_any_state() -> None:
    env = libero.make("libero_10", 9)
    env.reset(0)
    their = env._env
    rng = np.random.default_rng(3)
    import mujoco

    for _ in range(40):
        # Random places of the mug and random door angles reach both values of both conjuncts.
        mug = their.sim.model.get_joint_qpos_addr("white_yellow_mug_1_joint0")
        site = their.sim.data.get_site_xpos("microwave_1_heating_region")
        env._data.qpos[mug[0] : mug[0] + 3] = site + rng.uniform(-0.2, 0.2, 3)
        door = their.sim.model.get_joint_qpos_addr(their.get_object("microwave_1").joints[0])
        env._data.qpos[door] = rng.choice([-1.5, -0.5, 0.0])
        mujoco.mj_forward(env._model, env._data)
        for predicate in env.goal:
            value = env.quantities()[f"predicate/{predicate_name(predicate)}"]
            assert value == float(bool(their._eval_predicate(list(predicate))))
        assert env.success() == bool(their._check_success())
