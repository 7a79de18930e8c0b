"""The rules of the layout: who may import whom, how long a file may be, and that public names exist."""

import ast
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HOUSES = ("tgrpo", "sim", "tgrpo_ros")
SOURCES = sorted(path for house in HOUSES for path in (ROOT / house).rglob("*.py"))
OTHERS = sorted(path for folder in ("tests", "benchmarks", "launch") for path in (ROOT / folder).rglob("*.py"))
SETTINGS = sorted(path for pattern in ("*.*", "requirements/*") for path in ROOT.glob(pattern) if path.is_file())
LIMIT = 400

SIMULATORS = {"mujoco", "libero", "robosuite", "bddl", "gymnasium", "cv2"}
FORBIDDEN = {
    "tgrpo": {"sim", "tgrpo_ros", "rclpy", *SIMULATORS},
    "sim": {"tgrpo_ros", "rclpy"},
    "tgrpo_ros": {"sim", "torch", "transformers", "peft", *SIMULATORS},
    "tgrpo_ros/drivers": {"rclpy", "sim", "torch"},
}
ROS_DRIVERS = {"tgrpo_ros/drivers/topics.py"}
"""The one driver that speaks ROS; what opens drivers imports it only when it is asked for."""
TORCH_HOUSES = ("tgrpo/policies", "tgrpo/algo", "tgrpo/learner.py", "tgrpo/apprentice.py", "sim")
ROBOT_SIDE = ("tgrpo", "numpy", "msgspec", "zmq", "xxhash", "yaml", "rich", "tyro")


def name(path):
    return str(path.relative_to(ROOT))


def imports(path):
    """Top-level names that a file imports anywhere, also inside functions; not those for type checking only."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield str(node.module).partition(".")[0]


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_import_rules(path):
    for house, forbidden in FORBIDDEN.items():
        if path.is_relative_to(ROOT / house):
            excused = {"rclpy"} if name(path) in ROS_DRIVERS else set()
            assert not (forbidden - excused) & set(imports(path)), f"{house} must not import these"


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_torch_only_where_policies_learn(path):
    if not any(path.is_relative_to(ROOT / house) for house in TORCH_HOUSES):
        assert "torch" not in set(imports(path))


def test_the_rules_see_an_import_inside_a_function(tmp_path):
    path = tmp_path / "planted.py"
    body = "if TYPE_CHECKING:\n    import torch\ndef f():\n    from mujoco import MjModel\n"
    path.write_text("from typing import TYPE_CHECKING\n" + body)
    assert set(imports(path)) == {"typing", "mujoco"}


@pytest.mark.parametrize("path", [*SOURCES, *OTHERS], ids=name)
def test_files_stay_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) < LIMIT


@pytest.mark.parametrize("path", [path for path in SOURCES if path.name == "__init__.py"], ids=name)
def test_public_names_import(path):
    module = importlib.import_module(".".join(path.parent.relative_to(ROOT).parts))
    public = getattr(module, "__all__", [])
    assert len(public) <= 40
    assert [item for item in public if not hasattr(module, item)] == []


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_every_module_says_what_it_is_for(path):
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", [*SOURCES, *OTHERS, *SETTINGS], ids=name)
def test_no_path_of_one_machine(path):
    if path == Path(__file__):
        return
    found = re.findall(r"(?<![\w.])/(?:home|root|work|Users)/\w+", path.read_text(encoding="utf-8"))
    assert found == []
