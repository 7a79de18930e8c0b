"""The start that every episode of a task begins from, as the person laid it out the first time: pose and pictures.

Layout, inside a session::

    starts/TASK-START/pose.json       where the tool was
    starts/TASK-START/CAMERA.png      what each camera saw
    starts/TASK-START.CAMERA.overlay.png  the newest check: the reference shining through the live picture
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np

from tgrpo import rotation
from tgrpo.errors import CheckpointError
from tgrpo.record import files, pictures
from tgrpo.session import scene
from tgrpo.session.scene import SceneTolerance
from tgrpo.settings import Strict
from tgrpo.types import FloatArray, Image

FOLDER, POSE, OVERLAY = "starts", "pose.json", ".overlay.png"


class StartTolerance(Strict, frozen=True):
    """How far a start may be from the reference."""

    position: Annotated[float, msgspec.Meta(gt=0.0, le=0.2)] = 0.01
    """Of the tool [m]."""
    rotation: Annotated[float, msgspec.Meta(gt=0.0, le=1.0)] = 0.05
    """Of the tool [rad]."""
    scene: SceneTolerance = SceneTolerance()
    """Of the pictures."""


@dataclass(frozen=True, eq=False)
class Look:
    """Where the arm is and what the cameras see."""

    position: FloatArray
    """Of the tool ``(3,)`` [m]."""
    quaternion: FloatArray
    """``(4,)``, x y z w."""
    images: Mapping[str, Image]


class Reference:
    """The reference start of one task and start position."""

    def __init__(self, session: Path, task: int, start: int) -> None:
        """Refers to it, whether or not it has been taken.

        Args:
            session: The session folder.
            task: Its place in the plan.
            start: Number of the marked position.
        """
        self.folder = session / FOLDER / f"{task}-{start}"

    @property
    def taken(self) -> bool:
        """Whether there is one."""
        return self.folder.is_dir()

    def take(self, look: Look) -> None:
        """Makes what is seen now the reference.

        Raises:
            CheckpointError: The disk is full.
        """

        def write(folder: Path) -> None:
            pose = {"position": look.position.tolist(), "quaternion": look.quaternion.tolist()}
            (folder / POSE).write_text(json.dumps(pose), encoding="utf-8")
            for name, image in look.images.items():
                (folder / f"{name}.png").write_bytes(pictures.encode(image, "png"))

        self.folder.parent.mkdir(exist_ok=True)
        files.write_folder(self.folder, write)

    def pose(self) -> tuple[FloatArray, FloatArray]:
        """Position ``(3,)`` [m] and quaternion ``(4,)`` of the tool.

        Raises:
            CheckpointError: The file is damaged.
        """
        try:
            data = json.loads((self.folder / POSE).read_text(encoding="utf-8"))
            return np.array(data["position"], np.float64), rotation.normalised(np.array(data["quaternion"]))
        except (OSError, ValueError, KeyError) as error:
            raise CheckpointError(f"{self.folder} is damaged: {error}. Delete it; the next start is taken.") from error

    def images(self) -> dict[str, Image]:
        """Camera name to picture."""
        found = sorted(path for path in self.folder.glob("*.png") if not path.name.endswith(OVERLAY))
        return {path.stem: pictures.decode(path.read_bytes()) for path in found}

    def problem(self, look: Look, tolerance: StartTolerance) -> str:
        """What is wrong with a start; empty if nothing is. Leaves an overlay of each camera for people.

        Raises:
            CheckpointError: The reference is damaged.
        """
        position, quaternion = self.pose()
        wanted = self.images()
        for name, image in wanted.items():
            if name in look.images and look.images[name].shape == image.shape:
                shown = scene.overlay(look.images[name], image, tolerance.scene)
                path = self.folder.with_name(f"{self.folder.name}.{name}{OVERLAY}")
                path.write_bytes(pictures.encode(shown, "png"))
        away = float(np.linalg.norm(look.position - position))
        turned = float(np.linalg.norm(rotation.difference(quaternion, look.quaternion)))
        if away > tolerance.position:
            return (
                f"the tool is {1000.0 * away:.0f} mm from the start, {1000.0 * tolerance.position:.0f} mm are allowed"
            )
        if turned > tolerance.rotation:
            return f"the tool is turned by {turned:.2f} rad against the start, {tolerance.rotation:.2f} rad are allowed"
        return scene.problem(look.images, wanted, tolerance.scene)
