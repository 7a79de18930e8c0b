"""Demonstrations on disk: our own HDF5 files, and those that LIBERO publishes.

One file holds the demonstrations of one task. Layout::

    attrs: schema, suite, task, task_name, instruction; recipe, provenance and failures as JSON
    demos/<init state>_<seed>/
        actions, executed (T, 7) float32; proprio (T, 8) float32; frames (F,) int32
        images/<camera> (F,) encoded pictures, PNG (lossless) or JPEG
        attrs: init_state, seed, fixtures, sigma, candidate, success
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from tgrpo.errors import CheckpointError, SettingsError, UnknownNameError
from tgrpo.record import pictures
from tgrpo.record.streams import Encoding

SCHEMA = "tgrpo/demos/1"
LIBERO_CAMERAS = {"agentview": "agentview_rgb", "robot0_eye_in_hand": "eye_in_hand_rgb"}
"""Camera name to its dataset in LIBERO's files."""


@dataclass(frozen=True, eq=False)
class Demonstration:
    """One episode to imitate: what was seen, what to do, and what was done.

    ``proprio[t]`` and the picture of frame ``t`` show the state in which ``actions[t]`` was decided.
    """

    suite: str
    task: int | None
    """Index of the task; None where the file does not say."""
    task_name: str
    instruction: str
    actions: NDArray[np.float32]
    """Labels ``(T, 7)``: the action that the demonstrator intended, without noise."""
    executed: NDArray[np.float32]
    """What the arm was commanded ``(T, 7)``; differs from ``actions`` only by injected noise."""
    proprio: NDArray[np.float32]
    """``(T, 8)``: end-effector position [m], axis-angle [rad], finger positions [m]."""
    frames: NDArray[np.int32]
    """``(F,)`` control steps at which pictures were taken, ascending."""
    images: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
    """Camera name to upright RGB pictures ``(F, H, W, 3)``."""
    init_state: int | None = None
    """LIBERO's initial state; None where the file does not say."""
    seed: int = 0
    """Names the injected noise."""
    fixtures: int = 0
    """Seed of the environment's fixture poses."""
    sigma: float = 0.0
    """Strength of the injected noise, in action units."""
    candidate: tuple[int, ...] = ()
    """Variant of each job that the scripted expert used."""
    success: bool = True


def key(init_state: int, seed: int) -> str:
    """Name of a demonstration inside its file."""
    return f"{init_state:02d}_{seed}"


class DemoWriter:
    """Appends the demonstrations of one task to one file; every demonstration is on disk when ``add`` returns."""

    def __init__(self, path: Path, provenance: Mapping[str, Any], encoding: Encoding = "png") -> None:
        """Opens or creates the file.

        Args:
            path: File to append to.
            provenance: How the demonstrations are made; stored when the file is created.
            encoding: Compression of the pictures.

        Raises:
            CheckpointError: The file exists and is not one of ours.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = _open(path, "a")
        self._encoding: Encoding = encoding
        if "schema" not in self._file.attrs:
            if len(self._file):
                self._file.close()
                raise CheckpointError(f"{path} is not a demonstration file of this project; choose another folder.")
            self._file.attrs["schema"] = SCHEMA
            self._file.attrs["provenance"] = json.dumps(dict(provenance))
            self._file.attrs["failures"] = "[]"
            self._file.create_group("demos")
            self._file.flush()  # a writer that is killed before its first demonstration leaves a file that opens

    def done(self) -> set[str]:
        """Keys of all demonstrations that were tried, successful or not."""
        return {*self._file["demos"], *self.failures()}

    def failures(self) -> list[str]:
        """Keys of the demonstrations that the expert could not make."""
        return list(json.loads(self._file.attrs["failures"]))

    def successes(self) -> int:
        """Number of demonstrations in the file."""
        return len(self._file["demos"])

    def steps(self) -> int:
        """Control steps of all demonstrations in the file."""
        return sum(len(demo["actions"]) for demo in self._file["demos"].values())

    def require_recipe(self, recipe: Mapping[str, Any]) -> None:
        """Refuses to mix demonstrations that were made differently.

        Args:
            recipe: Everything JSON-ready that all demonstrations of the file share; stored the first time.

        Raises:
            SettingsError: The file was begun with another recipe.
        """
        stored = json.loads(self._file.attrs.get("recipe", json.dumps(recipe)))
        wanted = json.loads(json.dumps(recipe))
        if stored != wanted:
            names = [name for name in wanted if stored.get(name) != wanted[name]]
            raise SettingsError(
                f"{self._file.filename} was made with other settings: "
                + "; ".join(f"{name} {stored.get(name)!r}, now {wanted[name]!r}" for name in names)
                + ". Use the same settings to continue it, or another folder with --out."
            )
        self._file.attrs["recipe"] = json.dumps(recipe)

    def fail(self, name: str) -> None:
        """Notes that the expert could not make a demonstration, so that it is not tried again."""
        self._file.attrs["failures"] = json.dumps(sorted({*self.failures(), name}))
        self._file.flush()

    def add(self, demo: Demonstration) -> None:
        """Appends one demonstration."""
        for name in ("suite", "task_name", "instruction"):
            self._file.attrs[name] = getattr(demo, name)
        self._file.attrs["task"] = -1 if demo.task is None else demo.task
        name = key(-1 if demo.init_state is None else demo.init_state, demo.seed)
        group = self._file["demos"].create_group(name)
        for field_name in ("actions", "executed", "proprio", "frames"):
            group.create_dataset(field_name, data=getattr(demo, field_name), compression="gzip", shuffle=True)
        for camera, view in demo.images.items():
            data = group.create_dataset(f"images/{camera}", (len(view),), h5py.vlen_dtype(np.uint8))
            for index, picture in enumerate(view):
                data[index] = np.frombuffer(pictures.encode(picture, self._encoding), np.uint8)
        group.attrs["candidate"] = np.array(demo.candidate, np.int64)
        group.attrs["init_state"] = -1 if demo.init_state is None else demo.init_state
        for attribute in ("seed", "fixtures", "sigma", "success"):
            group.attrs[attribute] = getattr(demo, attribute)
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def __enter__(self) -> DemoWriter:
        """Enters a ``with`` block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the file."""
        self.close()


def _open(path: Path, mode: str) -> h5py.File:
    try:
        return h5py.File(path, mode)
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be opened as a demonstration file: {error}. If it is damaged, delete it."
        ) from error


def read(path: Path | str, cameras: tuple[str, ...] | None = None) -> Iterator[Demonstration]:
    """Reads the demonstrations of one file, one after the other.

    Args:
        path: A file of ``tgrpo demos``, or one of LIBERO's ``*_demo.hdf5`` files.
        cameras: Views to decode; None decodes all, an empty tuple none.

    Yields:
        The demonstrations in the order of their names.

    Raises:
        CheckpointError: The file is missing, damaged or of neither kind.
        UnknownNameError: A demonstration has no such view.
    """
    with _open(Path(path), "r") as file:
        if file.attrs.get("schema") == SCHEMA:
            for group in file["demos"].values():
                yield _ours(file, group, cameras)
        elif "data" in file:
            numbered = sorted(file["data"], key=lambda name: int(name.rpartition("_")[2]))
            for name in numbered:
                yield _libero(Path(path), file["data"], file["data"][name], cameras)
        else:
            raise CheckpointError(f"{path}: neither a file of `tgrpo demos` ({SCHEMA}) nor one of LIBERO's.")


def paths(patterns: Sequence[str]) -> list[Path]:
    """Demonstration files that names, folders or patterns stand for, sorted.

    Raises:
        SettingsError: A pattern matches nothing.
    """
    found: list[Path] = []
    for pattern in patterns:
        folder, name = (
            (Path(pattern), "*.hdf5") if Path(pattern).is_dir() else (Path(pattern).parent, Path(pattern).name)
        )
        inside = sorted(folder.glob(name))
        if not inside:
            raise SettingsError(f"{pattern}: no demonstration files (*.hdf5) there; make some with 'tgrpo demos'.")
        found += inside
    return found


def successes(patterns: Sequence[str], cameras: Sequence[str]) -> Iterator[Demonstration]:
    """Successful demonstrations of several files, one after the other; see :func:`paths` and :func:`read`."""
    for path in paths(patterns):
        yield from (demo for demo in read(path, tuple(cameras)) if demo.success)


def load(path: Path | str, cameras: tuple[str, ...] | None = None) -> list[Demonstration]:
    """Reads all demonstrations of one file into memory; see :func:`read`."""
    return list(read(path, cameras))


def _chosen(cameras: tuple[str, ...] | None, available: list[str]) -> list[str]:
    for camera in cameras or ():
        if camera not in available:
            raise UnknownNameError("camera of the demonstrations", camera, available)
    return available if cameras is None else list(cameras)


def _ours(file: h5py.File, group: h5py.Group, cameras: tuple[str, ...] | None) -> Demonstration:
    available = list(group.get("images", {}))
    images = {
        camera: np.stack([pictures.decode(data.tobytes()) for data in group["images"][camera]])
        for camera in _chosen(cameras, available)
    }
    init_state, task = int(group.attrs["init_state"]), int(file.attrs["task"])
    return Demonstration(
        suite=str(file.attrs["suite"]),
        task=None if task < 0 else task,
        task_name=str(file.attrs["task_name"]),
        instruction=str(file.attrs["instruction"]),
        **{name: group[name][:] for name in ("actions", "executed", "proprio", "frames")},
        images=images,
        init_state=None if init_state < 0 else init_state,
        seed=int(group.attrs["seed"]),
        fixtures=int(group.attrs["fixtures"]),
        sigma=float(group.attrs["sigma"]),
        candidate=tuple(int(index) for index in group.attrs["candidate"]),
        success=bool(group.attrs["success"]),
    )


def _libero(path: Path, data: h5py.Group, demo: h5py.Group, cameras: tuple[str, ...] | None) -> Demonstration:
    convention = data.attrs.get("macros_image_convention")
    # LIBERO's own files store what was seen after action k next to action k; files regenerated by
    # others carry no convention and store what was seen before it.
    shift = 0 if convention is None else 1
    obs = demo["obs"]
    actions = demo["actions"][shift:].astype(np.float32)
    seen = slice(0, len(actions))
    available = [camera for camera, name in LIBERO_CAMERAS.items() if name in obs]
    rows = slice(None) if convention == "opencv" else slice(None, None, -1)
    name = path.stem.removesuffix("_demo")
    problem = json.loads(data.attrs.get("problem_info", "{}"))
    return Demonstration(
        suite=path.parent.name,
        task=None,
        task_name=name,
        instruction=str(problem.get("language_instruction", name.replace("_", " "))),
        actions=actions,
        executed=actions,
        proprio=np.hstack([obs["ee_states"][seen], obs["gripper_states"][seen]]).astype(np.float32),
        frames=np.arange(len(actions), dtype=np.int32),
        images={
            camera: np.ascontiguousarray(obs[LIBERO_CAMERAS[camera]][seen][:, rows])
            for camera in _chosen(cameras, available)
        },
    )
