"""The expert's parts that need no LIBERO: rotations, noise, motions, plans."""

import mujoco
import numpy as np
import pytest

from sim.expert.geometry import TOOL_DOWN, half_turn, rotation_error, rotation_z, tool_down, visual_geoms
from sim.expert.noise import Noise, NoiseSettings
from sim.expert.planner import candidates
from tgrpo.errors import SettingsError
from tgrpo.settings import from_builtins


def test_rotation_error_is_the_world_axis_angle():
    assert rotation_error(rotation_z(0.3), np.eye(3)) == pytest.approx([0.0, 0.0, 0.3])
    assert rotation_error(tool_down(0.5), TOOL_DOWN) == pytest.approx([0.0, 0.0, 0.5])
    assert rotation_error(TOOL_DOWN, TOOL_DOWN) == pytest.approx([0.0, 0.0, 0.0])


def test_tool_down_points_down_and_is_a_rotation():
    tool = tool_down(0.7)
    assert tool[:, 2] == pytest.approx([0.0, 0.0, -1.0])
    assert tool @ tool.T == pytest.approx(np.eye(3))
    assert np.linalg.det(tool) == pytest.approx(1.0)


@pytest.mark.parametrize(("angle", "same"), [(0.0, 0.0), (np.pi, 0.0), (2.0, 2.0 - np.pi), (-2.0, np.pi - 2.0)])
def test_half_turn_uses_the_symmetry_of_the_gripper(angle, same):
    assert half_turn(angle) == pytest.approx(same)


def test_visible_points_follow_the_tree_and_leave_collision_shapes_out():
    model = mujoco.MjModel.from_xml_string(
        """<mujoco><worldbody><body name="a"><geom type="box" size=".1 .2 .3" group="1"/>
        <geom type="sphere" size="1" group="0"/>
        <body name="b"><geom type="cylinder" size=".5 .25" group="1"/></body></body>
        <body name="c"><geom type="sphere" size=".1" group="1"/></body></worldbody></mujoco>"""
    )
    shapes = dict(visual_geoms(model, model.body("a").id))
    assert sorted(shapes) == [0, 2]
    assert shapes[0].max(axis=0) == pytest.approx([0.1, 0.2, 0.3])
    assert shapes[2][:, 2].min() == pytest.approx(-0.25)
    assert np.linalg.norm(shapes[2][:, :2], axis=1) == pytest.approx(0.5)


def test_equal_seeds_give_equal_noise_and_others_do_not():
    def stream(*seed):
        noise = Noise(NoiseSettings(sigma=0.2), seed)
        return np.array([noise.perturb(np.zeros(7), 1.0) for _ in range(20)])

    assert np.array_equal(stream(0, 3), stream(0, 3))
    assert not np.array_equal(stream(0, 3), stream(0, 4))


def test_noise_has_the_declared_size_and_correlation_and_spares_the_gripper():
    noise = Noise(NoiseSettings(sigma=0.1, rotation=0.5, correlation=0.8), (7,))
    samples = np.array([noise.perturb(np.zeros(7), 1.0) for _ in range(20_000)])
    # About 20000 * (1 - 0.8) / (1 + 0.8) = 2200 independent samples: 3 standard errors are 5 %.
    assert samples[:, :3].std(axis=0) == pytest.approx([0.1] * 3, rel=0.05)
    assert samples[:, 3:6].std(axis=0) == pytest.approx([0.05] * 3, rel=0.05)
    assert np.corrcoef(samples[1:, 0], samples[:-1, 0])[0, 1] == pytest.approx(0.8, abs=0.03)
    assert not samples[:, 6].any()


def test_noise_is_clipped_and_scaled_by_the_slack():
    strong = Noise(NoiseSettings(sigma=1.0), (0,))
    assert np.abs([strong.perturb(np.ones(7), 1.0) for _ in range(50)]).max() <= 1.0
    still = Noise(NoiseSettings(sigma=1.0), (0,))
    assert still.perturb(np.full(7, 0.5), 0.0) == pytest.approx(np.full(7, 0.5))


def test_noise_settings_refuse_what_makes_no_sense():
    with pytest.raises(SettingsError, match="correlation"):
        from_builtins({"correlation": 1.0}, NoiseSettings)


def test_candidates_of_one_and_two_jobs():
    assert candidates(1, 3) == [(0,), (1,), (2,)]
    assert candidates(2, 3) == [(0, 0), (0, 2), (2, 0)]
    assert candidates(3, 1) == [(0, 0, 0)]
