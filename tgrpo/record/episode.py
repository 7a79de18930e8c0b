"""One recorded episode: what is known before it, how it ended, and how it is read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, cast

import msgspec

from tgrpo.errors import CheckpointError, RecordingError
from tgrpo.record import files, mcap_file, pictures, streams
from tgrpo.record.mcap_file import Raw
from tgrpo.record.streams import CAMERAS, Frame, Message
from tgrpo.settings import Strict, from_builtins
from tgrpo.types import Image

SCHEMA = "tgrpo/episode/1"
MCAP, JSON = "episode.mcap", "episode.json"
"""The two files of an episode folder, beside its manifest."""
OPEN = ".open"
"""Suffix of the folder of an episode that is not closed yet."""

Outcome: TypeAlias = Literal["success", "failure", "aborted", "infrastructure", "interrupted"]
"""Only ``success`` and ``failure`` say something about the policy; the others are counted apart."""
COUNTED: tuple[Outcome, ...] = ("success", "failure")
Purpose: TypeAlias = Literal["eval", "correct", "collect", "reset", "demo"]

NotNegative = Annotated[int, msgspec.Meta(ge=0)]
M = TypeVar("M", bound=Message)


class EpisodeInfo(Strict, frozen=True):
    """What is known before an episode begins."""

    purpose: Purpose = "eval"
    """What it is recorded for."""
    policy: str = ""
    """Name of the policy; episodes of two policies are compared by it."""
    version: str = ""
    """Version of its weights."""
    suite: str = ""
    """Suite in simulation, or the name of the robot's task set."""
    task: NotNegative = 0
    """Index of the task."""
    task_name: str = ""
    instruction: str = ""
    """The task in words, as the policy is told."""
    pair: NotNegative | None = None
    """Start state. Episodes of two policies with the same task and pair are compared as a pair."""
    group: NotNegative | None = None
    """Group of consecutive episodes from one start state, for TGRPO on the robot."""
    seed: int = 0
    rate: Annotated[float, msgspec.Meta(gt=0)] = 20.0
    """Control steps per second [1/s]."""
    position_scale: float = 0.05
    """Translation that an action of 1 commands [m]; see :class:`tgrpo.spec.ActionSpec`."""
    cameras: tuple[str, ...] = ("agentview",)
    stage_names: tuple[str, ...] = ()
    """Name of each stage, in order; empty where the task has none."""
    operator: str = ""
    robot: str = "simulation"


class EpisodeResult(Strict, frozen=True):
    """How an episode ended and what its file holds."""

    outcome: Outcome
    labelled_by: str = "operator"
    """``operator``, ``detector`` or ``recorder``."""
    reason: str = ""
    """Why it is no success: the class of the failure, or what broke."""
    notes: str = ""
    """What a person should know about it."""
    duration: float = 0.0
    """From first to last message [s]."""
    messages: dict[str, int] = msgspec.field(default_factory=dict)
    """Topic to the number of its messages in the file."""
    dropped: dict[str, int] = msgspec.field(default_factory=dict)
    """Topic to the number of messages that were lost because the recorder was too slow or had stopped."""
    incomplete: str = ""
    """Why the recording ends before the episode did; empty if it does not."""

    @property
    def counted(self) -> bool:
        """Whether it says something about the policy."""
        return self.outcome in COUNTED


class _Header(Strict, frozen=True):
    """Content of ``episode.json``."""

    episode: NotNegative
    info: EpisodeInfo
    result: EpisodeResult | None = None
    schema: str = SCHEMA


@dataclass(frozen=True, eq=False)
class Episode:
    """A closed episode, with its messages in memory."""

    folder: Path
    number: int
    info: EpisodeInfo
    result: EpisodeResult
    seal: str
    """One hash for all of its bytes."""
    raw: tuple[Raw, ...]
    """All messages that were read, in the order in which they were written."""

    def messages(self, topic: str, kind: type[M]) -> list[M]:
        """Messages of one topic.

        Args:
            topic: Its name.
            kind: The topic's message type, see :data:`tgrpo.record.streams.TOPICS`.
        """
        return [cast(M, streams.decode(topic, raw.data)) for raw in self.raw if raw.topic == topic]

    def of(self, kind: type[M]) -> list[M]:
        """Messages of the one topic that carries ``kind``."""
        return self.messages(next(topic for topic, known in streams.TOPICS.items() if known is kind), kind)

    def frames(self, camera: str) -> Iterator[tuple[Frame, Image]]:
        """Pictures of one camera, upright RGB ``(H, W, 3)``, one after the other."""
        for message in self.messages(CAMERAS + camera, Frame):
            yield message, pictures.decode(message.data)

    def cameras(self) -> list[str]:
        """Cameras with at least one picture."""
        return sorted({raw.topic.removeprefix(CAMERAS) for raw in self.raw if raw.topic.startswith(CAMERAS)})


def folder_name(number: int) -> str:
    """Name of a closed episode's folder."""
    return f"{number:06d}"


def write_header(folder: Path, number: int, info: EpisodeInfo, result: EpisodeResult | None = None) -> None:
    """Writes ``episode.json``.

    Raises:
        CheckpointError: The disk is full.
    """
    header = _Header(episode=number, info=info, result=result)
    files.write_json(folder / JSON, msgspec.to_builtins(header))


def read_header(folder: Path) -> tuple[int, EpisodeInfo, EpisodeResult | None]:
    """Number, information and, once it is closed, result of an episode.

    Raises:
        RecordingError: The file is missing or damaged.
    """
    try:
        data: Any = msgspec.json.decode((folder / JSON).read_bytes())
        header = from_builtins(data, _Header, source=str(folder / JSON))
    except (OSError, ValueError) as error:
        raise RecordingError(f"{folder}: its {JSON} is missing or damaged: {error}") from error
    if header.schema != SCHEMA:
        raise RecordingError(f"{folder}: schema {header.schema!r} is not known here; expected {SCHEMA!r}.")
    return header.episode, header.info, header.result


def verify(folder: Path) -> None:
    """Checks every byte of a closed episode.

    Raises:
        RecordingError: A byte differs from what was recorded, or the episode is not closed.
    """
    try:
        files.verify_folder(folder)
    except CheckpointError as error:
        text = str(error).partition(" The newest intact one")[0].partition(" No intact one")[0]
        raise RecordingError(
            f"{text} Restore the folder from a copy, or move it out of the session to go on without it; "
            "'tgrpo recover' closes one that is still open."
        ) from error


def load(folder: Path, *, cameras: tuple[str, ...] | None = None) -> Episode:
    """Reads a closed episode after checking every byte of it.

    Args:
        folder: The episode's folder.
        cameras: Cameras whose pictures are kept in memory; None keeps all, an empty tuple none.

    Raises:
        RecordingError: It is missing, not closed or damaged, or its counts contradict its file.
    """
    verify(folder)
    number, info, result = read_header(folder)
    if result is None:
        raise RecordingError(f"{folder}: it has no result, so it was never closed. Run 'tgrpo recover' on its session.")
    counts: dict[str, int] = {}
    kept = []
    for raw in mcap_file.read(folder / MCAP):
        counts[raw.topic] = counts.get(raw.topic, 0) + 1
        camera = raw.topic.removeprefix(CAMERAS) if raw.topic.startswith(CAMERAS) else None
        if camera is None or cameras is None or camera in cameras:
            kept.append(raw)
    if counts != result.messages:
        raise RecordingError(f"{folder}: {counts} messages in {MCAP}, but {JSON} says {result.messages}.")
    return Episode(folder, number, info, result, files.seal_of(folder), tuple(kept))
