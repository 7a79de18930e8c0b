"""MCAP files: flushed to disk while they are written, and read up to the first damaged byte.

Every message lies in a chunk with a checksum and carries a number that counts all messages of the file, so a missing
chunk is noticed as surely as a changed one.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import zstandard
from mcap.exceptions import McapError
from mcap.records import Channel, Chunk, DataEnd, Message
from mcap.stream_reader import StreamReader, breakup_chunk
from mcap.writer import CompressionType, Writer

from tgrpo import __version__
from tgrpo.errors import RecordingError
from tgrpo.record import streams

_RECORD_LIMIT = 256 << 20  # [bytes]; a damaged length must not reserve more memory than this
_DAMAGE = (McapError, struct.error, ValueError, LookupError, OverflowError, zstandard.ZstdError)


@dataclass(frozen=True)
class Raw:
    """One message as it lies in the file."""

    topic: str
    time: int
    """Steady time on the scale of the time of day at the file's start [ns]."""
    data: bytes


class _Sink:
    """A file without buffers of its own, so that after a flush everything is with the kernel."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        self._position = 0

    def write(self, data: bytes) -> int:
        """Writes everything or raises."""
        rest = memoryview(data)
        while rest:
            written = os.write(self.descriptor, rest)
            self._position += written
            rest = rest[written:]
        return len(data)

    def tell(self) -> int:
        """Bytes written so far."""
        return self._position

    def flush(self) -> None:
        """Waits until everything written would survive a power cut."""
        os.fsync(self.descriptor)


class _Bounded:
    """Refuses to read what a damaged length claims and the file does not have, before any memory is reserved."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._left = os.fstat(stream.fileno()).st_size

    def read(self, length: int) -> bytes:
        """Exactly ``length`` bytes."""
        if length > self._left:
            raise ValueError(f"{length} bytes are wanted and {self._left} are left")
        self._left -= length
        return self._stream.read(length)


class McapWriter:
    """Writes one MCAP file. After :meth:`flush` everything written before would survive a power cut."""

    def __init__(self, path: Path) -> None:
        """Creates the file.

        Args:
            path: The file; it must not exist.
        """
        self._sink = _Sink(path)
        self._writer = Writer(cast(IO[bytes], self._sink), compression=CompressionType.ZSTD)
        self._writer.start(library=f"tgrpo {__version__}")
        self._channels: dict[str, int] = {}
        self._sequence = 0

    def write(self, raw: Raw) -> None:
        """Appends one message.

        Raises:
            OSError: The disk is full.
        """
        channel = self._channels.get(raw.topic) or self._register(raw.topic)
        self._writer.add_message(channel, raw.time, raw.data, raw.time, self._sequence)
        self._sequence += 1

    def flush(self) -> None:
        """Ends the chunk and waits for the disk.

        Raises:
            OSError: The disk is full.
        """
        self._writer.flush()

    def finish(self) -> None:
        """Writes the index and closes the file.

        Raises:
            OSError: The disk is full.
        """
        self._writer.finish()
        self._sink.flush()
        self.abandon()

    def abandon(self) -> None:
        """Closes the file as it is."""
        os.close(self._sink.descriptor)

    def _register(self, topic: str) -> int:
        schema = self._writer.register_schema(streams.schema_name(topic), "jsonschema", streams.schema(topic))
        self._channels[topic] = self._writer.register_channel(topic, "json", schema)
        return self._channels[topic]


def read(path: Path) -> Iterator[Raw]:
    """Reads the messages of a file in the order in which they were written.

    Yields:
        Only messages whose chunk has the checksum that it was written with.

    Raises:
        RecordingError: The file is missing; or it ends early or is damaged, after all messages before that place.
    """
    try:
        with path.open("rb") as stream:
            yield from _messages(stream)
    except FileNotFoundError as error:
        raise RecordingError(f"{path}: no such file.") from error
    except _DAMAGE as error:
        raise RecordingError(f"{path}: it ends early or is damaged: {str(error) or type(error).__name__}.") from error


def _messages(stream: IO[bytes]) -> Iterator[Raw]:
    topics: dict[int, str] = {}
    count = 0
    ended = False
    bounded = cast(IO[bytes], _Bounded(stream))
    for record in StreamReader(bounded, emit_chunks=True, record_size_limit=_RECORD_LIMIT).records:
        if isinstance(record, Message):
            raise ValueError("a message lies outside of the chunks")
        ended = ended or isinstance(record, DataEnd)
        for inner in breakup_chunk(_checked(record)) if isinstance(record, Chunk) else ():
            if isinstance(inner, Channel):
                topics[inner.id] = inner.topic
            elif isinstance(inner, Message):
                if inner.sequence != count:
                    raise ValueError(f"message {count} is missing")
                count += 1
                yield Raw(topics[inner.channel_id], inner.log_time, inner.data)
    if not ended:
        raise ValueError("its end is missing")


def _checked(chunk: Chunk) -> Chunk:
    """Unpacks a chunk and compares its checksum, also where the checksum was damaged into "none"."""
    if chunk.uncompressed_size > _RECORD_LIMIT or zstandard.frame_content_size(chunk.data) != chunk.uncompressed_size:
        raise ValueError("the size of a chunk is damaged")
    data = zstandard.decompress(chunk.data, chunk.uncompressed_size)
    if zlib.crc32(data) != chunk.uncompressed_crc:
        raise ValueError("the checksum of a chunk differs")
    return Chunk(
        compression="",
        data=data,
        message_end_time=chunk.message_end_time,
        message_start_time=chunk.message_start_time,
        uncompressed_crc=chunk.uncompressed_crc,
        uncompressed_size=chunk.uncompressed_size,
    )
