"""Recorded episodes as demonstrations in LIBERO's HDF5 format, one file for each task.

The layout is that of LIBERO's regenerated demonstrations: what is stored beside an action is what was seen before it,
and pictures are upside down as LIBERO's simulator makes them. What LIBERO does not know lies beside it: who decided
each action, and what the policy wanted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

import h5py
import numpy as np
from numpy.typing import NDArray

from tgrpo.errors import SettingsError
from tgrpo.record import files
from tgrpo.record.episode import Episode
from tgrpo.record.steps import Pictures, Steps, proprio, states_at, steps, stretches, vectors
from tgrpo.types import FloatArray

Part: TypeAlias = Literal["all", "human"]
"""``human`` makes a demonstration of each stretch in which a human was in control, for learning from corrections."""

CAMERAS = {"agentview": "agentview_rgb", "robot0_eye_in_hand": "eye_in_hand_rgb", "wrist": "eye_in_hand_rgb"}
"""Camera name to its dataset in LIBERO's files; another camera keeps its name with ``_rgb`` behind it."""


def export(episodes: Iterable[Episode], out: Path, part: Part = "all") -> dict[str, int]:
    """Writes one file for each task.

    Args:
        episodes: Closed episodes of any tasks.
        out: Folder to write to; ``<task>_demo.hdf5`` must not exist in it.
        part: What becomes a demonstration.

    Returns:
        File name to the number of demonstrations in it.

    Raises:
        SettingsError: A file exists already, or there is nothing to export.
        RecordingError: An episode lacks pictures or robot states.
    """
    tasks: dict[str, list[Episode]] = {}
    for episode in episodes:
        tasks.setdefault(file_name(episode), []).append(episode)
    taken = [name for name in tasks if (out / name).exists()]
    if taken:
        raise SettingsError(f"{out / taken[0]} exists already. Choose another folder with --out.")
    counts = {}
    for name, group in sorted(tasks.items()):
        cuts = [(episode, *cut) for episode in group for cut in _cuts(episode, part)]
        if cuts:
            files.write_with(out / name, lambda path, cuts=cuts: _write(path, cuts))  # type: ignore[misc]
            counts[name] = len(cuts)
    if not counts:
        what = "no human was in control in any of them" if part == "human" and tasks else "there are none"
        raise SettingsError(f"no demonstration can be made of the chosen episodes: {what}.")
    return counts


def file_name(episode: Episode) -> str:
    """Name of a task's file, from which readers take the task's name."""
    task = episode.info.task_name or episode.info.instruction or f"task {episode.info.task}"
    return re.sub(r"[^A-Za-z0-9]+", "_", task).strip("_") + "_demo.hdf5"


def _cuts(episode: Episode, part: Part) -> list[tuple[Steps, int, int]]:
    """Steps of an episode and the ranges of them that become demonstrations."""
    table = steps(episode)
    ranges = stretches(table.intervention) if part == "human" else [(0, len(table))] if len(table) else []
    return [(table, start, end) for start, end in ranges]


def _write(path: Path, cuts: list[tuple[Episode, Steps, int, int]]) -> None:
    first = cuts[0][0].info
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["problem_info"] = json.dumps({"language_instruction": first.instruction})
        data.attrs["env_args"] = json.dumps({"env_name": first.robot, "suite": first.suite, "rate": first.rate})
        data.attrs["num_demos"] = len(cuts)
        data.attrs["total"] = sum(end - start for _, _, start, end in cuts)
        for number, cut in enumerate(cuts):
            _demo(data.create_group(f"demo_{number}"), *cut)


def _demo(group: Any, episode: Episode, table: Steps, start: int, end: int) -> None:
    chosen = slice(start, end)
    at = table.stamps[chosen]
    last = end == len(table) and episode.result.outcome == "success"
    done = np.zeros(end - start, np.uint8)
    done[-1] = last
    for name, values in (
        ("actions", table.executed[chosen]),
        ("policy_actions", table.policy[chosen]),
        ("intervention", table.intervention[chosen]),
        ("rewards", done),
        ("dones", done),
    ):
        group.create_dataset(name, data=values)
    group.create_dataset("source", data=list(table.source[chosen]), dtype=h5py.string_dtype())
    group.attrs["num_samples"] = end - start
    group.attrs["episode"] = episode.number
    group.attrs["policy"] = episode.info.policy
    group.attrs["outcome"] = episode.result.outcome
    obs = group.create_group("obs")
    for name, values in _body(episode, at).items():
        obs.create_dataset(name, data=values)
    for camera in episode.cameras():
        _pictures(obs, CAMERAS.get(camera, f"{camera}_rgb"), Pictures(episode, camera, at))


def _body(episode: Episode, at: NDArray[np.int64]) -> Mapping[str, FloatArray]:
    states = states_at(episode, at)
    body = proprio(states, episode).astype(np.float64)
    found = {
        "ee_pos": body[:, :3],
        "ee_ori": body[:, 3:6],
        "ee_states": body[:, :6],
        "gripper_states": body[:, 6:],
    }
    if any(state.joints for state in states):
        found["joint_states"] = vectors(states, "joints", 7, episode)
    return found


def _pictures(obs: Any, name: str, source: Pictures) -> None:
    shape = source[0].shape
    data = obs.create_dataset(name, (len(source), *shape), np.uint8, chunks=(1, *shape), compression="gzip")
    for index in range(len(source)):
        data[index] = source[index][::-1]
