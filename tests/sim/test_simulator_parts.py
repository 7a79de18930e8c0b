"""Parts of the simulator that need no scene: mesh clustering, the choice of OpenGL, the compiled step."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mujoco")

from sim import headless, native
from sim.quantities import axis_angle
from sim.simplify import distinct_faces, follow, representatives
from tgrpo.errors import MissingDependencyError, UnknownNameError


def test_faces_lose_degenerate_ones_and_repetitions_but_keep_both_sides() -> None:
    faces = np.array([[0, 1, 2], [1, 2, 0], [0, 2, 1], [3, 3, 1], [4, 5, 6]])
    np.testing.assert_array_equal(distinct_faces(faces), [0, 2, 4])


def test_vertices_of_a_cell_merge_into_one_of_them() -> None:
    vertices = np.array([[0.0, 0, 0], [0.001, 0, 0], [0, 0.001, 0], [0.1, 0, 0], [0, 0.1, 0]])
    faces = np.array([[0, 3, 4], [0, 1, 2]], np.int32)
    merged = representatives(vertices, faces, 0.01)
    assert len({*merged[:3]}) == 1
    assert merged[0] in (0, 1, 2)
    assert list(merged[3:]) == [3, 4]


def test_texture_follows_a_vertex_but_not_across_a_seam() -> None:
    points = np.array([[0.0, 0.0], [0.05, 0.0], [0.9, 0.9]], np.float32)
    faces = np.array([[0, 1, 2]], np.int32)
    indices = np.array([[0, 1, 2]], np.int32)
    corners = np.array([[1, 1, 1]])
    np.testing.assert_array_equal(follow(indices, points, faces, corners, 0.1), [[1, 1, 2]])


def test_axis_angle_of_a_quarter_turn() -> None:
    np.testing.assert_allclose(axis_angle(np.array([np.sqrt(0.5), 0, 0, np.sqrt(0.5)])), [0, 0, np.pi / 2])
    np.testing.assert_array_equal(axis_angle(np.array([1.0, 0, 0, 0])), [0, 0, 0])


def test_a_display_renderer_is_refused_and_a_missing_one_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    with pytest.raises(UnknownNameError, match="osmesa"):
        headless.choose_backend()
    monkeypatch.delenv("MUJOCO_GL")
    monkeypatch.setattr("ctypes.util.find_library", lambda name: None)
    assert headless.choose_backend() == ""
    with pytest.raises(MissingDependencyError, match="libosmesa6"):
        headless.require_backend()


def test_without_a_compiler_the_fallback_is_announced_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CC", str(tmp_path / "no-such-compiler"))
    native.load.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert native.load() is None
        assert native.load() is None
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "apt-get install gcc" in caplog.text
    native.load.cache_clear()
