"""The folder for sockets and locks that only this user may reach."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from tgrpo.errors import SettingsError


def path() -> Path:
    """Where it is: in ``$XDG_RUNTIME_DIR`` if there is one, else in the folder for temporary files."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return Path(runtime, "tgrpo") if runtime else Path(tempfile.gettempdir(), f"tgrpo-{os.getuid()}")


def ensure(folder: Path) -> Path:
    """Makes a folder that only we may enter, and returns it.

    Raises:
        SettingsError: It exists and others may enter it, or it is not ours.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise SettingsError(f"{folder} must be a folder of yours with the mode 0700. Run: chmod 700 {folder}")
    return folder
