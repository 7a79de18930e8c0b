"""Records one episode while it happens, without ever making the caller wait.

The caller appends to a queue that is bounded for each stream; a thread compresses, writes and flushes. What does not
fit is dropped and counted. When the disk gets short the recording ends cleanly and the episode goes on without it.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Annotated, TypeAlias

import msgspec

from tgrpo.errors import RecordingError, SettingsError
from tgrpo.record import files, pictures, streams
from tgrpo.record.episode import MCAP, EpisodeInfo, EpisodeResult, Outcome, write_header
from tgrpo.record.mcap_file import McapWriter, Raw
from tgrpo.record.recover import close_open
from tgrpo.record.streams import CAMERAS, Encoding, Event, EventKind, Label, Message, Stage, Stamp
from tgrpo.settings import Strict
from tgrpo.types import Image

_URGENT = (Event, Label, Stage)
_CLOSE_TIMEOUT = 30.0  # [s]; a disk that hangs for longer leaves the episode to `tgrpo recover`
_log = logging.getLogger(__name__)


class RecorderSettings(Strict, frozen=True):
    """How episodes are recorded."""

    flush_seconds: Annotated[float, msgspec.Meta(gt=0, le=0.5)] = 0.25
    """Longest time between two flushes to disk [s]; what a kill can lose."""
    queue: Annotated[int, msgspec.Meta(ge=1)] = 512
    """Messages of one stream that may wait."""
    queue_frames: Annotated[int, msgspec.Meta(ge=1)] = 32
    """Pictures of one camera that may wait."""
    reserve_mb: Annotated[int, msgspec.Meta(ge=0)] = 512
    """Free space that is never used [MB]; the recording ends before it."""
    encoding: Encoding = "jpeg"
    """Compression of the pictures; ``png`` loses nothing."""
    quality: Annotated[int, msgspec.Meta(ge=1, le=95)] = 95
    """Of JPEG."""


@dataclass(frozen=True, eq=False)
class _Picture:
    """A picture that the thread still has to compress."""

    camera: str
    image: Image
    at: Stamp


_Item: TypeAlias = Message | _Picture


class EpisodeRecorder:
    """Records one episode; made by :meth:`tgrpo.record.session.SessionFolder.begin`.

    Example:
        >>> with session.begin(info) as recorder:  # doctest: +SKIP
        ...     recorder.frame("agentview", image)
        ...     recorder.put(Action(at=now(), step=0, source="policy", executed=action))
        ...     recorder.close("success")

    Leaving the block without a result closes the episode as ``interrupted``.
    """

    def __init__(
        self,
        folder: Path,
        target: Path,
        info: EpisodeInfo,
        settings: RecorderSettings,
        on_closed: Callable[[Path, EpisodeResult], None],
    ) -> None:
        """Starts recording.

        Args:
            folder: Folder of the open episode; it holds ``episode.json`` already.
            target: Its place once it is closed.
            info: What is known about the episode.
            settings: How it is recorded.
            on_closed: Called with the closed folder and the result.
        """
        self.number = int(target.name)
        self.info = info
        self.problem = ""
        """Why the recording has stopped, for the operator; empty while all is well."""
        self._folder, self._target, self._settings, self._on_closed = folder, target, settings, on_closed
        self._writer = McapWriter(folder / MCAP)
        self._queue: deque[tuple[str, _Item]] = deque()
        self._waiting: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._written: Counter[str] = Counter()
        self._first = time.monotonic_ns()
        self._last: tuple[int, int] | None = None
        self._epoch = time.time_ns() - self._first
        self._closing = self._torn = self._sealed = False
        self._label: Label | None = None
        self._result = EpisodeResult(outcome="interrupted")
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=f"recorder {self.number}", daemon=True)
        self._thread.start()

    @property
    def closed(self) -> bool:
        """Whether the episode has ended, with whatever success."""
        return self._label is not None

    @property
    def dropped(self) -> dict[str, int]:
        """Topic to the number of messages that were lost so far."""
        with self._changed:
            return dict(self._dropped)

    def put(self, message: Message) -> bool:
        """Records one message; returns at once.

        Returns:
            Whether there was room for it; if not, the loss is counted.
        """
        return self._append(streams.topic_of(message), message, self._settings.queue)

    def frame(self, camera: str, image: Image, at: Stamp | None = None) -> bool:
        """Records a picture; returns after copying it.

        Args:
            camera: The camera's name.
            image: Upright RGB ``(H, W, 3)``.
            at: When it was taken; now by default.

        Returns:
            Whether there was room for it; if not, the loss is counted.

        Raises:
            SettingsError: It is not a picture.
        """
        pictures.check(image)
        item = _Picture(camera, image.copy(), at or streams.now())
        return self._append(CAMERAS + camera, item, self._settings.queue_frames)

    def event(self, kind: EventKind, reason: str = "", text: str = "") -> bool:
        """Records an event of this moment, see :class:`~tgrpo.record.streams.Event`."""
        return self.put(Event(at=streams.now(), kind=kind, reason=reason, text=text))

    def close(
        self, outcome: Outcome, *, reason: str = "", notes: str = "", labelled_by: str = "operator"
    ) -> EpisodeResult:
        """Ends the recording and seals the folder.

        Args:
            outcome: How the episode ended.
            reason: Why it is no success.
            notes: What a person should know.
            labelled_by: ``operator``, ``detector`` or ``recorder``.

        Returns:
            The result, with the counts of what was recorded.

        Raises:
            SettingsError: It is closed already.
            RecordingError: The disk is full or hangs; ``tgrpo recover`` closes the episode later.
        """
        if self._label is not None:
            raise SettingsError(f"episode {self.number} is closed already; begin the next one.")
        self._label = Label(at=streams.now(), outcome=outcome, source=labelled_by, reason=reason)
        self._result = EpisodeResult(outcome=outcome, labelled_by=labelled_by, reason=reason, notes=notes)
        return self._finish()

    def end(self, reason: str) -> None:
        """Closes the episode as interrupted, or completes a :meth:`close` that was itself interrupted.

        Args:
            reason: Why the episode ends here; only used if it has no label yet.
        """
        if self._label is None:
            self.close("interrupted", reason=reason, labelled_by="recorder")
        elif not self._sealed:
            self._finish()

    def __enter__(self) -> EpisodeRecorder:
        """Enters a ``with`` block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the episode as interrupted if it is still open."""
        self.end("nobody gave it a label" if error is None else f"{type(error).__name__}: {error}")

    def _append(self, topic: str, item: _Item, limit: int) -> bool:
        with self._changed:
            return self._enqueue(topic, item, 0 if self._closing else limit)

    def _enqueue(self, topic: str, item: _Item, limit: int) -> bool:
        """Appends if there is room; the caller holds the lock."""
        room = not self.problem and self._waiting[topic] < limit
        if room:
            self._queue.append((topic, item))
            self._waiting[topic] += 1
        else:
            self._dropped[topic] += 1
        self._changed.notify()
        return room

    def _run(self) -> None:
        """The thread: writes until the episode is closed, whatever happens."""
        try:
            self._write_all()
            self._writer.finish()
        except Exception as error:  # noqa: BLE001  (an episode must not end because its recording has)
            self._torn = True
            self._stop(f"the recording failed: {error}")
            self._writer.abandon()

    def _write_all(self) -> None:
        due = time.monotonic() + self._settings.flush_seconds
        while True:
            taken = self._take(due)
            if taken is not None:
                self._write(*taken)
            urgent = taken is not None and isinstance(taken[1], _URGENT)
            if urgent or time.monotonic() >= due:
                self._writer.flush()
                self._check_space()
                due = time.monotonic() + self._settings.flush_seconds
            if self.problem or self._drained():
                return

    def _drained(self) -> bool:
        """Whether the episode is closed and everything is written; what came during a flush is not forgotten."""
        with self._changed:
            return self._closing and not self._queue

    def _take(self, due: float) -> tuple[str, _Item] | None:
        """The next item, or None at the time ``due`` or when there will be no more."""
        with self._changed:
            while not self._queue and not self._closing:
                left = due - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    break
            if not self._queue:
                return None
            topic, item = self._queue.popleft()
            self._waiting[topic] -= 1
            return topic, item

    def _write(self, topic: str, item: _Item) -> None:
        message = self._compressed(item) if isinstance(item, _Picture) else item
        at = message.at.steady
        self._writer.write(Raw(topic, at + self._epoch, streams.encode(message)))
        self._written[topic] += 1
        first, last = self._last or (at, at)
        self._last = min(first, at), max(last, at)

    def _compressed(self, item: _Picture) -> Message:
        data = pictures.encode(item.image, self._settings.encoding, self._settings.quality)
        return streams.frame(item.camera, data, self._settings.encoding, item.at)

    def _check_space(self) -> None:
        free = shutil.disk_usage(self._folder).free
        if free < self._settings.reserve_mb * 1_000_000:
            self._stop(
                f"the recording ended early: {free / 1e6:.0f} MB are free on the disk and "
                f"{self._settings.reserve_mb} MB are kept in reserve. Free some space before the next episode."
            )

    def _stop(self, why: str) -> None:
        with self._changed:
            self.problem = why
            for topic, _ in self._queue:
                self._dropped[topic] += 1
            self._queue.clear()
        _log.error("episode %d: %s", self.number, why)

    def _finish(self) -> EpisodeResult:
        """Ends the thread and seals the folder; may be repeated after an exception or a signal in the middle."""
        with self._changed:
            if self._label is not None and not self._closing:
                self._closing = True
                self._enqueue(streams.topic_of(self._label), self._label, 1)
        self._thread.join(_CLOSE_TIMEOUT)
        if self._thread.is_alive():
            raise RecordingError(f"{self._folder}: the disk does not answer. Run 'tgrpo recover' on the session later.")
        result = self._seal(
            msgspec.structs.replace(
                self._result,
                duration=0.0 if self._last is None else streams.seconds(self._last[1] - self._last[0]),
                messages=dict(self._written),
                dropped=dict(self._dropped),
                incomplete=self.problem,
            )
        )
        self._sealed = True
        self._on_closed(self._target, result)
        return result

    def _seal(self, result: EpisodeResult) -> EpisodeResult:
        if not self._folder.exists():
            return result
        try:
            write_header(self._folder, self.number, self.info, result)
            if self._torn:
                return close_open(self._folder, self._target)
            with files.disk_guard(self._target):
                files.seal_folder(self._folder, self._target)
        except OSError as error:
            raise RecordingError(
                f"{self._folder}: the episode could not be closed: {error} Then run 'tgrpo recover' on the session."
            ) from error
        return result
