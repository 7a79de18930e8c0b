"""Recorded episodes as a LeRobotDataset, version 3: Parquet for numbers, MP4 for pictures, JSON for the rest."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tgrpo.errors import SettingsError
from tgrpo.record import files, video
from tgrpo.record.episode import Episode, EpisodeInfo
from tgrpo.record.steps import Pictures, proprio, states_at, steps

VERSION = "v3.0"
DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES = "meta/episodes/chunk-000/file-000.parquet"
_FILES_OF_A_CHUNK = 1000
_QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
_PICTURES_FOR_STATISTICS = 20  # of each episode and camera
_STATE = ("x", "y", "z", "rx", "ry", "rz", "finger_1", "finger_2")
_ACTION = ("dx", "dy", "dz", "drx", "dry", "drz", "gripper")
_SCALARS = {
    "timestamp": pa.float32(),
    "frame_index": pa.int64(),
    "episode_index": pa.int64(),
    "index": pa.int64(),
    "task_index": pa.int64(),
}


@dataclass(frozen=True, eq=False)
class _Columns:
    """One episode's numbers, name to ``(T, ...)``, and the statistics of its pictures."""

    task: str
    numbers: dict[str, NDArray[Any]]
    pictures: dict[str, NDArray[np.float64]]
    """Camera key to sampled pixel values ``(n, 3)`` in [0, 1]."""

    @property
    def length(self) -> int:
        return len(self.numbers["frame_index"])


def export(episodes: Iterable[Episode], out: Path) -> int:
    """Writes a dataset; it appears complete or not at all.

    The action is the one that was executed. ``policy_action`` beside it is what the policy wanted, with the executed
    one where the policy was not asked, and ``intervention`` says where a human was in control. Frames are spaced evenly
    at the episodes' rate, as the format wants it; the recording has the real times.

    Args:
        episodes: Closed episodes with the same cameras and rate; read one after the other.
        out: Folder of the dataset; it must not exist.

    Returns:
        Number of frames.

    Raises:
        SettingsError: The folder exists, there are no steps, or the episodes differ in cameras or rate.
        RecordingError: An episode lacks pictures or robot states.
    """
    if out.exists():
        raise SettingsError(f"{out} exists already. Choose another folder with --out.")
    frames = 0

    def fill(folder: Path) -> None:
        nonlocal frames
        frames = _write(folder, episodes)

    files.write_folder(out, fill)
    return frames


def _write(folder: Path, episodes: Iterable[Episode]) -> int:
    columns: list[_Columns] = []
    features: dict[str, Any] = {}
    tasks: dict[str, int] = {}
    first: EpisodeInfo | None = None
    for episode in episodes:
        if not len(steps(episode)):
            continue
        task = tasks.setdefault(episode.info.instruction, len(tasks))
        columns.append(_columns(folder, episode, len(columns), task, sum(one.length for one in columns)))
        found = _features(episode, columns[-1])
        first, features = first or episode.info, features or found
        if found != features or episode.info.rate != first.rate:
            raise SettingsError(
                f"{episode.folder} differs from the first episode in its cameras, their size or its rate. "
                "Export such episodes to separate datasets."
            )
    if first is None:
        raise SettingsError("the chosen episodes have no control steps, so there is nothing to export.")
    _write_data(folder, columns)
    _write_tasks(folder, tasks)
    _write_episodes(folder, columns, first.rate)
    _json(folder / "meta" / "stats.json", _statistics(_joined(columns)))
    frames = sum(one.length for one in columns)
    info = {
        "codebase_version": VERSION,
        "robot_type": first.robot,
        "fps": round(first.rate),
        "total_episodes": len(columns),
        "total_frames": frames,
        "total_tasks": len(tasks),
        "chunks_size": _FILES_OF_A_CHUNK,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "splits": {"train": f"0:{len(columns)}"},
        "data_path": DATA,
        "video_path": VIDEO,
        "features": features,
    }
    _json(folder / "meta" / "info.json", info)
    return frames


def _columns(folder: Path, episode: Episode, number: int, task: int, start: int) -> _Columns:
    """Numbers of one episode; writes its videos on the way."""
    table = steps(episode)
    length = len(table)
    policy = np.where(np.isnan(table.policy), table.executed, table.policy)
    numbers = {
        "observation.state": proprio(states_at(episode, table.stamps), episode),
        "action": table.executed.astype(np.float32),
        "policy_action": policy.astype(np.float32),
        "intervention": table.intervention,
        "timestamp": (np.arange(length) / round(episode.info.rate)).astype(np.float32),
        "frame_index": np.arange(length),
        "episode_index": np.full(length, number),
        "index": start + np.arange(length),
        "task_index": np.full(length, task),
    }
    samples = {}
    for camera in episode.cameras():
        key = f"observation.images.{camera}"
        shown = Pictures(episode, camera, table.stamps)
        path = folder / VIDEO.format(video_key=key, **_place(number))
        video.write_video(path, (shown[index] for index in range(length)), fps=round(episode.info.rate), quality=18)
        few = np.unique(np.linspace(0, length - 1, _PICTURES_FOR_STATISTICS).astype(int))
        samples[key] = np.concatenate([shown[index][::4, ::4].reshape(-1, 3) / 255.0 for index in few])
    return _Columns(episode.info.instruction, numbers, samples)


def _place(number: int) -> dict[str, int]:
    return {"chunk_index": number // _FILES_OF_A_CHUNK, "file_index": number % _FILES_OF_A_CHUNK}


def _features(episode: Episode, columns: _Columns) -> dict[str, Any]:
    """What ``info.json`` says about each column."""
    found: dict[str, Any] = {
        "observation.state": {"dtype": "float32", "shape": [8], "names": list(_STATE)},
        "action": {"dtype": "float32", "shape": [7], "names": list(_ACTION)},
        "policy_action": {"dtype": "float32", "shape": [7], "names": list(_ACTION)},
        "intervention": {"dtype": "bool", "shape": [1], "names": None},
    }
    for key in columns.pictures:
        height, width = Pictures(episode, key.removeprefix("observation.images."), steps(episode).stamps)[0].shape[:2]
        info = {
            "video.height": height + height % 2,
            "video.width": width + width % 2,
            "video.codec": "h264",
            "video.pix_fmt": "yuv420p",
            "video.fps": round(episode.info.rate),
            "video.channels": 3,
            "has_audio": False,
            "is_depth_map": False,
        }
        shape = [info["video.height"], info["video.width"], 3]
        found[key] = {"dtype": "video", "shape": shape, "names": ["height", "width", "channels"], "info": info}
    for name, kind in _SCALARS.items():
        found[name] = {"dtype": str(kind).replace("float", "float32"), "shape": [1], "names": None}
    return found


def _write_data(folder: Path, columns: Sequence[_Columns]) -> None:
    """One Parquet file, one row group for each episode."""
    path = folder / DATA.format(chunk_index=0, file_index=0)
    path.parent.mkdir(parents=True)
    schema = pa.schema(
        [
            ("observation.state", pa.list_(pa.float32(), 8)),
            ("action", pa.list_(pa.float32(), 7)),
            ("policy_action", pa.list_(pa.float32(), 7)),
            ("intervention", pa.bool_()),
            *_SCALARS.items(),
        ]
    )
    with pq.ParquetWriter(path, schema, compression="snappy") as writer:
        for one in columns:
            arrays = [pa.array(one.numbers[field.name].tolist(), field.type) for field in schema]
            writer.write_table(pa.table(arrays, schema=schema))


def _write_tasks(folder: Path, tasks: dict[str, int]) -> None:
    """The instructions as pandas would write a frame that is indexed by them."""
    described = [
        {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": numpy, "metadata": None}
        for name, kind, numpy in (("task_index", "int64", "int64"), ("task", "unicode", "object"))
    ]
    pandas = {"index_columns": ["task"], "column_indexes": [], "columns": described, "pandas_version": "2.0.0"}
    table = pa.table({"task_index": pa.array(list(tasks.values()), pa.int64()), "task": list(tasks)})
    path = folder / "meta" / "tasks.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.replace_schema_metadata({"pandas": json.dumps(pandas)}), path)


def _write_episodes(folder: Path, columns: Sequence[_Columns], rate: float) -> None:
    rows = []
    start = 0
    for number, one in enumerate(columns):
        row: dict[str, Any] = {
            "episode_index": number,
            "tasks": [one.task],
            "length": one.length,
            "data/chunk_index": 0,
            "data/file_index": 0,
            "dataset_from_index": start,
            "dataset_to_index": start + one.length,
            "meta/episodes/chunk_index": 0,
            "meta/episodes/file_index": 0,
        }
        for key in one.pictures:
            row |= {f"videos/{key}/{name}": value for name, value in _place(number).items()}
            row |= {f"videos/{key}/from_timestamp": 0.0, f"videos/{key}/to_timestamp": one.length / round(rate)}
        for feature, values in _statistics(one).items():
            row |= {f"stats/{feature}/{name}": value for name, value in values.items()}
        rows.append(row)
        start += one.length
    path = folder / EPISODES
    path.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def _joined(columns: Sequence[_Columns]) -> _Columns:
    """All episodes as one, for the statistics of the dataset."""
    numbers = {name: np.concatenate([one.numbers[name] for one in columns]) for name in columns[0].numbers}
    pictures = {key: np.concatenate([one.pictures[key] for one in columns]) for key in columns[0].pictures}
    return _Columns("", numbers, pictures)


def _statistics(columns: _Columns) -> dict[str, dict[str, Any]]:
    """Column to statistic to its value for each dimension; of pictures for each colour, ``(3, 1, 1)``."""
    found = {name: _describe(np.asarray(values, np.float64)) for name, values in columns.numbers.items()}
    for key, values in columns.pictures.items():
        colours = _describe(values)
        found[key] = {
            name: value if name == "count" else [[[channel]] for channel in value] for name, value in colours.items()
        }
    return found


def _describe(values: NDArray[np.float64]) -> dict[str, list[Any]]:
    flat = values.reshape(len(values), -1)
    found = {
        "min": flat.min(0).tolist(),
        "max": flat.max(0).tolist(),
        "mean": flat.mean(0).tolist(),
        "std": flat.std(0).tolist(),
        "count": [len(flat)],
    }
    return found | {name: np.quantile(flat, share, axis=0).tolist() for name, share in _QUANTILES.items()}


def _json(path: Path, data: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=4) + "\n", encoding="utf-8")
