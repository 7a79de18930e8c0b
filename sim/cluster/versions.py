"""Weights on their way to other machines: only files that a machine does not have yet, through Ray's object store.

A version is a list of files by their SHA-256. A checkpoint of adapters refers to its base, so that only the adapters
travel; a merged one travels whole, but for the files that did not change.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from tgrpo.errors import CheckpointError


@dataclass(frozen=True)
class Version:
    """A checkpoint folder as it travels."""

    name: str
    """Of the folder, and twelve digits that change with any of its bytes."""
    files: dict[str, str]
    """SHA-256 of each file by its name relative to the folder."""
    contents: dict[str, Any]
    """Reference to the bytes of each file by their SHA-256."""


class Shelf:
    """The side that sends: keeps the newest version in the object store."""

    def __init__(self, put: Callable[[bytes], Any]) -> None:
        """Nothing is stored.

        Args:
            put: Stores bytes and returns a reference to them.
        """
        self._put = put
        self._newest = Version("", {}, {})

    def version(self, folder: Path) -> Version:
        """A folder as a version; bytes that the last one had are not stored again, others of it are let go.

        Raises:
            CheckpointError: There is no such folder.
        """
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        if not paths:
            raise CheckpointError(f"{folder} is not a checkpoint: it has no policy.json.")
        files: dict[str, str] = {}
        contents: dict[str, Any] = {}
        for path in paths:
            data = path.read_bytes()
            digest = hashlib.sha256(data).hexdigest()
            files[path.relative_to(folder).as_posix()] = digest
            if digest not in contents:
                contents[digest] = self._newest.contents.get(digest) or self._put(data)
        whole = hashlib.sha256("".join(f"{name}\0{digest}\n" for name, digest in files.items()).encode()).hexdigest()
        self._newest = Version(f"{folder.name}-{whole[:12]}", files, contents)
        return self._newest


class Cache:
    """The side that receives: folders of the newest version, which share unchanged files with the one before."""

    def __init__(self, root: Path, get: Callable[[Any], bytes]) -> None:
        """Holds nothing.

        Args:
            root: Where versions go; it exists and is this process's alone.
            get: Fetches the bytes of a reference.
        """
        self._root, self._get = root, get
        self._known: dict[str, Path] = {}

    def folder(self, version: Version) -> Path:
        """Folder of a version; what is missing of it is fetched, and older versions are removed.

        Raises:
            CheckpointError: A file would lie outside of the folder, or is not what the version says.
        """
        folder = self._root / version.name
        if folder.exists():
            return folder
        partial = self._root / f".tmp-{version.name}"
        shutil.rmtree(partial, ignore_errors=True)
        for name, digest in version.files.items():
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts:
                raise CheckpointError(f"version {version.name} has a file {name!r} outside of its folder.")
            self._place(partial / path, digest, version.contents)
        partial.rename(folder)
        for old in [path for path in self._root.iterdir() if path != folder]:
            shutil.rmtree(old)
        self._known = {digest: folder / name for name, digest in version.files.items()}
        return folder

    def _place(self, path: Path, digest: str, contents: dict[str, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if digest in self._known:
            os.link(self._known[digest], path)
            return
        data = self._get(contents[digest])
        found = hashlib.sha256(data).hexdigest()
        if found != digest:
            raise CheckpointError(f"{path.name} was damaged on its way: its SHA-256 is {found}, not {digest}.")
        path.write_bytes(data)
        path.chmod(0o600)  # it may be the key to a policy that is served
