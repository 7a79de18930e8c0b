"""The environment's own promises: reproducible resets, exact snapshots, clear errors, fast pictures that look alike."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("libero")

from sim import libero
from sim.snapshot import Snapshot
from tgrpo.errors import SettingsError, SimulationError, UnknownNameError

ACTIONS = [np.r_[np.sin(0.3 * step + np.arange(3)), 0.0, 0.2 * (step % 2), 0.0, 1.0] for step in range(12)]
SIZE = 64


@pytest.fixture(scope="module")
def exact() -> Iterator[libero.LiberoEnv]:
    """Drawer, stove and rack: the task with most fixtures."""
    env = libero.make("libero_goal", 0, cameras=("agentview", "wrist"), size=SIZE)
    yield env
    env.close()


def test_tasks_are_found_by_index_digits_and_name() -> None:
    names = libero.task_names("libero_object")
    assert len(names) == 10
    assert libero.resolve_task("libero_object", names[3]) == libero.resolve_task("libero_object", "3") == 3
    assert len(libero.task_names("libero_90")) == 90


@pytest.mark.parametrize(("suite", "task"), [("libero_objects", 0), ("libero_object", 10), ("libero_object", "milk")])
def test_unknown_suites_and_tasks_are_refused(suite: str, task: int | str) -> None:
    with pytest.raises(UnknownNameError, match="Valid"):
        libero.resolve_task(suite, task)


def test_attributes_follow_the_standard_protocol(exact: libero.LiberoEnv) -> None:
    assert exact.instruction == "open the middle drawer of the cabinet"
    assert exact.goal == [("open", "wooden_cabinet_1_middle_region")]
    assert (exact.max_steps, exact.n_init_states) == (300, 50)


@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_a_scene_that_was_prepared_is_taken_once_and_plays_like_any_other(mode: libero.Mode) -> None:
    libero.prepare("libero_goal", 0, mode)
    prepared = libero._prepared["libero_goal", 0, mode]
    plays = []
    for expected in (True, False):
        env = libero.make("libero_goal", 0, mode, cameras=("agentview", "wrist"), size=SIZE)
        assert (env is prepared) is expected
        env.reset(3, seed=1)
        for action in ACTIONS:
            env.step(action)
        plays.append((env.state_hash(), env.render()))
        env.close()
    assert plays[0][0] == plays[1][0]
    for camera in ("agentview", "wrist"):
        np.testing.assert_array_equal(plays[0][1][camera], plays[1][1][camera])


def test_reset_depends_on_its_arguments_alone(exact: libero.LiberoEnv) -> None:
    exact.reset(0, seed=0)
    first = exact.state_hash()
    exact.reset(0, seed=1)
    assert exact.state_hash() != first
    exact.step(ACTIONS[0])
    np.random.seed(99)  # noqa: NPY002  (LIBERO draws from this generator)
    before = np.random.get_state()[1].copy()  # type: ignore[union-attr]  # noqa: NPY002
    exact._settled.clear()
    exact._fixtures.clear()
    exact.reset(0, seed=0)
    assert exact.state_hash() == first
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_restored_snapshot_continues_bit_for_bit(exact: libero.LiberoEnv) -> None:
    exact.reset(2, seed=4)
    for action in ACTIONS[:6]:
        exact.step(action)
    snapshot, pictures, seen = exact.snapshot(), exact.render(), exact.quantities()
    for action in ACTIONS[6:]:
        exact.step(action)
    end = exact.state_hash()
    exact.reset(0, seed=0)
    exact.restore(Snapshot.from_bytes(snapshot.to_bytes()))
    for camera, picture in exact.render().items():
        np.testing.assert_array_equal(picture, pictures[camera])
    for name, value in exact.quantities().items():
        np.testing.assert_array_equal(value, seen[name], err_msg=name)
    for action in ACTIONS[6:]:
        exact.step(action)
    assert exact.state_hash() == end


def test_snapshot_continues_bit_for_bit_in_another_process(exact: libero.LiberoEnv, tmp_path: Path) -> None:
    exact.reset(1, seed=3)
    for action in ACTIONS[:4]:
        exact.step(action)
    (tmp_path / "snapshot").write_bytes(exact.snapshot().to_bytes())
    for action in ACTIONS[4:]:
        exact.step(action)
    np.save(tmp_path / "actions.npy", ACTIONS[4:])
    program = """
import sys, numpy as np
from sim import libero
from sim.snapshot import Snapshot
env = libero.make("libero_goal", 0)
env.reset(7, seed=8)
env.restore(Snapshot.from_bytes(open("snapshot", "rb").read()))
for action in np.load("actions.npy"):
    env.step(action)
sys.stdout.write(env.state_hash())
"""
    root = Path(libero.__file__).parents[1]
    result = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(root)!r})\n{program}"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert result.stdout == exact.state_hash()
    assert result.stderr == ""


def test_foreign_and_damaged_snapshots_are_refused(exact: libero.LiberoEnv) -> None:
    exact.reset(0)
    snapshot = exact.snapshot()
    other = Snapshot("libero_goal", 1, snapshot.physics, snapshot.sensed, snapshot.controller, snapshot.bodies)
    with pytest.raises(SimulationError, match="task 1"):
        exact.restore(other)
    with pytest.raises(SimulationError, match="not a snapshot"):
        Snapshot.from_bytes(snapshot.to_bytes()[:-9])


def test_bad_arguments_are_refused(exact: libero.LiberoEnv) -> None:
    with pytest.raises(SettingsError, match="0 to 49"):
        exact.reset(50)
    with pytest.raises(SimulationError, match="7 finite numbers"):
        exact.step(np.zeros(6))
    with pytest.raises(SimulationError, match="7 finite numbers"):
        exact.step(np.full(7, np.nan))
    with pytest.raises(UnknownNameError, match="agentview"):
        exact._camera_id("agentvew")


def test_quantities_describe_the_scene(exact: libero.LiberoEnv) -> None:
    exact.reset(0)
    values = exact.quantities()
    data, body = exact._data, exact._env.obj_body_id["akita_black_bowl_1"]
    np.testing.assert_array_equal(values["akita_black_bowl_1/position"], data.xpos[body])
    distance = np.linalg.norm(values["eef/position"] - values["akita_black_bowl_1/position"])
    assert values["akita_black_bowl_1/distance"] == pytest.approx(distance, abs=1e-12)
    assert values["akita_black_bowl_1/contact"] == 0
    assert values["gripper/opening"] == pytest.approx(0.08, abs=5e-3)
    assert values["success"] == values["predicate/open(wooden_cabinet_1_middle_region)"] == 0
    # The drawer opens along its negative axis and counts as open beyond -0.14 m: half of that is half open.
    joint = exact._env.object_sites_dict["wooden_cabinet_1_middle_region"].joints[0]
    data.qpos[exact._env.sim.model.get_joint_qpos_addr(joint)] = -0.07
    assert exact.quantities()["wooden_cabinet_1_middle_region/fraction"] == pytest.approx(0.5)
    data.qpos[exact._env.sim.model.get_joint_qpos_addr(joint)] = -0.15
    assert exact.success()


def test_fast_mode_starts_equal_and_stays_close(exact: libero.LiberoEnv) -> None:
    fast = libero.make("libero_goal", 0, mode="fast", cameras=("agentview", "wrist"), size=SIZE)
    exact.reset(0)
    fast.reset(0)
    assert fast.state_hash() == exact.state_hash()
    for action in ACTIONS:
        exact.step(action)
        fast.step(action)
    np.testing.assert_allclose(fast._data.qpos, exact._data.qpos, atol=1e-5)
    pictures = exact.render()
    for camera, picture in fast.render().items():
        assert picture.shape == (SIZE, SIZE, 3)
        # Mirrored or upside-down pictures differ by 30 and more on average; multisampling and reflections by 2 to 6.
        assert np.abs(picture.astype(float) - pictures[camera]).mean() < 8
    fast.close()


def test_observation_has_what_a_policy_needs(exact: libero.LiberoEnv) -> None:
    exact.reset(0)
    observation = exact.observation(render=False)
    assert observation.images == {}
    assert observation.proprio is not None
    assert observation.proprio.shape == (8,)
    np.testing.assert_allclose(observation.proprio[:3], exact.quantities()["eef/position"], rtol=1e-6)


def test_a_closed_environment_draws_the_same_pictures_again():
    env = libero.make("libero_object", 0, mode="fast", size=64)
    env.reset(0)
    before = env.render()["agentview"]
    env.close()
    assert np.array_equal(env.render()["agentview"], before)
    env.close()
