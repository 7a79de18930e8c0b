"""Files that are either complete or absent, and folders that notice when one of their bytes has changed.

A file is written beside its place, flushed to disk and renamed over it. A folder gets a manifest with the SHA-256 of
each of its files, and a seal over the manifest itself, before it is renamed.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tgrpo.errors import CheckpointError

MANIFEST = "manifest.json"
_SCHEMA = "tgrpo/manifest/1"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_HIDDEN = ".tmp-"


def write_bytes(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Replaces a file by new content; a reader sees the old or the new bytes, never a mixture.

    Args:
        path: The file; missing parents are made.
        data: Its new content.
        durable: Waits until the bytes would survive a power cut.

    Raises:
        CheckpointError: The disk is full; the previous file is untouched.
    """
    write_with(path, lambda temporary: _write(temporary, data), durable=durable)


def write_with(path: Path, writer: Callable[[Path], None], *, durable: bool = True) -> None:
    """Replaces a file by what a function writes, see :func:`write_bytes`.

    Args:
        path: The file; missing parents are made.
        writer: Called once with the name of a file that it must write.
        durable: Waits until the bytes would survive a power cut.

    Raises:
        CheckpointError: The disk is full; the previous file is untouched.
    """
    with disk_guard(path), _temporary(path) as temporary:
        writer(temporary)
        if durable:
            sync(temporary)
        temporary.replace(path)
        if durable:
            sync(path.parent)


def write_text(path: Path, text: str) -> None:
    """Replaces a text file, see :func:`write_bytes`."""
    write_bytes(path, text.encode())


def write_json(path: Path, data: Any) -> None:
    """Replaces a JSON file, see :func:`write_bytes`."""
    write_text(path, json.dumps(data, indent=1, allow_nan=False) + "\n")


def write_folder(path: Path, writer: Callable[[Path], None]) -> None:
    """Writes a folder of files so that it appears complete, with checksums, or not at all.

    Args:
        path: The folder; one that exists already is replaced.
        writer: Called once with an empty folder that it fills; subfolders are allowed.

    Raises:
        CheckpointError: The disk is full; what was at ``path`` is untouched and nothing else is left behind.
    """
    with disk_guard(path), _temporary(path) as temporary:
        temporary.mkdir(parents=True)
        writer(temporary)
        seal_folder(temporary, path)


def seal_folder(source: Path, path: Path) -> None:
    """Gives a filled folder its manifest and moves it to its place, see :func:`write_folder`.

    Args:
        source: The folder as it is; it is gone afterwards.
        path: Its place on the same disk; a folder that is there already is replaced.

    Raises:
        OSError: The disk is full; ``source`` is still there, perhaps with a manifest.
    """
    files = {name: _describe(source / name) for name in _names(source) if name != MANIFEST}
    manifest = {"schema": _SCHEMA, "files": files, "seal": _seal(files)}
    (source / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    for folder, _, names in os.walk(source, topdown=False):
        for name in names:
            sync(Path(folder, name))
        sync(Path(folder))
    _move_over(source, path)
    sync(path.parent)


def seal_of(path: Path) -> str:
    """The seal of a folder that :func:`verify_folder` has accepted: one hash for all of its bytes."""
    return str(json.loads((path / MANIFEST).read_text(encoding="utf-8"))["seal"])


def append_line(path: Path, line: str) -> None:
    """Adds one line to a text file and waits until it would survive a power cut.

    A line that a killed writer left unfinished stays a line of its own.

    Raises:
        CheckpointError: The disk is full.
    """
    with disk_guard(path), path.open("a+b") as stream:
        end = stream.seek(0, os.SEEK_END)
        if end:
            stream.seek(end - 1)
            line = line if stream.read(1) == b"\n" else "\n" + line
        stream.write(f"{line}\n".encode())
        stream.flush()
        os.fsync(stream.fileno())


def lock_folder(path: Path) -> int | None:
    """Claims a folder for this process until it ends or closes the descriptor.

    Args:
        path: The folder; the lock is its file ``.lock``.

    Returns:
        An open file descriptor, or None if another process holds the lock.
    """
    descriptor = os.open(path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def verify_folder(path: Path) -> list[str]:
    """Checks every byte of a folder that :func:`write_folder` made.

    Returns:
        Names of its files, relative to the folder.

    Raises:
        CheckpointError: The folder is missing, incomplete or damaged. The message names the file and, where there is
            one, the newest folder beside it that is intact.
    """
    problem, names = _inspect(path)
    if problem is None:
        return names
    neighbour = newest_intact(path.parent, ignore=path)
    remedy = f"The newest intact one beside it is {neighbour}." if neighbour else "No intact one lies beside it."
    raise CheckpointError(f"{path}: {problem}. {remedy}")


def newest_intact(parent: Path, ignore: Path | None = None) -> Path | None:
    """The last folder by name under ``parent`` whose bytes are all as they were written.

    Args:
        parent: Where to look.
        ignore: A folder that is not considered.
    """
    if not parent.is_dir():
        return None
    folders = sorted((folder for folder in parent.iterdir() if folder.is_dir() and folder != ignore), reverse=True)
    return next((folder for folder in folders if folder.name[0] != "." and _inspect(folder)[0] is None), None)


def require_space(path: Path, size: int) -> None:
    """Refuses to start what would not fit on the disk.

    Args:
        path: Where it will be written; parents that do not exist yet are fine.
        size: Bytes it will need.

    Raises:
        CheckpointError: Less than that is free.
    """
    existing = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if free < size:
        raise CheckpointError(
            f"{path}: {size / 1e6:.0f} MB are needed and {free / 1e6:.0f} MB are free. "
            "Free some space or choose another folder."
        )


@contextmanager
def disk_guard(path: Path) -> Iterator[None]:
    """Turns the many ways in which a full disk shows into one clear message.

    Raises:
        CheckpointError: The disk, the quota or the permitted size of a file was exceeded in the block.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, CheckpointError) or not _is_full(error):
            raise
        raise CheckpointError(
            f"{path}: the disk is full, so it was not written and its previous state is untouched. "
            "Free some space and resume."
        ) from error


def _is_full(error: Exception) -> bool:
    # safetensors wraps the system's error in its own type and keeps only the text.
    wrapped = any(f"(os error {number})" in str(error) for number in _FULL)
    return wrapped or (isinstance(error, OSError) and error.errno in _FULL)


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """A hidden name beside ``path``, removed again whatever happens in the block."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f"{_HIDDEN}{path.name}-{uuid.uuid4().hex[:8]}"
    try:
        yield temporary
    finally:
        if temporary.is_dir():
            # The outcome is decided by now; what cannot be removed is a leftover for the next resume.
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def remove_leftovers(parent: Path) -> None:
    """Removes the hidden files and folders of writers that were killed; nobody may be writing in ``parent``."""
    for leftover in parent.glob(f"{_HIDDEN}*"):
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()


def _move_over(source: Path, target: Path) -> None:
    """Renames a folder; one that is in the way goes aside first, as a rename cannot replace a filled folder."""
    if not target.exists():
        source.rename(target)
        return
    with _temporary(target) as aside:
        target.rename(aside)
        try:
            source.rename(target)
        except OSError:
            aside.rename(target)
            raise


def _inspect(path: Path) -> tuple[str | None, list[str]]:
    """What is wrong with a folder, or None and its files."""
    if not path.is_dir():
        return "no such folder", []
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        files = manifest["files"]
        if manifest["schema"] != _SCHEMA or manifest["seal"] != _seal(files):
            return f"{MANIFEST} is damaged", []
    except FileNotFoundError:
        return f"{MANIFEST} is missing, so the folder is incomplete", []
    except (OSError, ValueError, LookupError, TypeError):
        return f"{MANIFEST} is damaged", []
    for name, expected in files.items():
        if not (path / name).is_file():
            return f"{name} is missing", []
        if _describe(path / name) != expected:
            return f"{name} is damaged: its checksum differs", []
    return None, list(files)


def _names(folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


def _describe(file: Path) -> dict[str, Any]:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return {"sha256": digest.hexdigest(), "bytes": file.stat().st_size}


def _seal(files: Any) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, would survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
