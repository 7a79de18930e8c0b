"""CURVE keys: who may talk to a policy server that listens beyond this machine, and `tgrpo keys`.

A key pair is two files of one line each: ``NAME.key`` is secret and only its owner may read it, ``NAME.pub`` is for
the other side. A server knows its clients by a folder of ``.pub`` files, named by robot; deleting a file locks that
robot out.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Annotated

import msgspec
import tyro
import zmq
from rich.console import Console
from zmq.utils import z85

from tgrpo.errors import SettingsError
from tgrpo.settings import Strict, validated

Key = bytes
"""40 characters of Z85."""


class ClientKeys(Strict, frozen=True):
    """What a client needs to talk to a server with keys."""

    secret: Path
    """The client's own ``NAME.key``."""
    server: Path
    """The server's ``.pub``."""


class KeysSettings(Strict, frozen=True):
    """Makes one key pair."""

    name: Annotated[Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$")], tyro.conf.Positional]
    """Whose: `server`, or the name of a robot."""
    folder: Path = Path("keys")
    """Where the two files go; made if it does not exist."""


def make(name: str, folder: Path) -> tuple[Path, Path]:
    """Writes a new key pair.

    Returns:
        The secret file, which only its owner may read, and the public one.

    Raises:
        SettingsError: One of the files exists already.
    """
    public, secret = zmq.curve_keypair()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    paths = folder / f"{name}.key", folder / f"{name}.pub"
    for path, content, mode in ((paths[0], secret, 0o600), (paths[1], public, 0o644)):
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        except FileExistsError as error:
            raise SettingsError(f"{path} exists. Whoever uses it would be locked out; delete it first.") from error
        with os.fdopen(handle, "wb") as file:
            file.write(content + b"\n")
    return paths


def secret_key(path: Path) -> Key:
    """Reads a secret key.

    Raises:
        SettingsError: The file is missing, is no key, or others may read it.
    """
    mode = _mode(path)
    if mode & 0o077:
        raise SettingsError(f"{path} has the mode {mode:04o}: others can read or change it. Run: chmod 600 {path}")
    return _read(path)


def public_key(path: Path) -> Key:
    """Reads a public key.

    Raises:
        SettingsError: The file is missing, is no key, or others may change it.
    """
    mode = _mode(path)
    if mode & 0o022:
        raise SettingsError(f"{path} has the mode {mode:04o}: others can change it. Run: chmod go-w {path}")
    return _read(path)


def allowed(folder: Path) -> dict[Key, str]:
    """Public keys of the clients that a server admits, with the names of their files.

    Raises:
        SettingsError: There is no such folder, others may change it, or one of its files is no key.
    """
    mode = _mode(folder)
    if not folder.is_dir() or mode & 0o022:
        raise SettingsError(
            f"{folder} (mode {mode:04o}) must be a folder that only its owner can change. Run: chmod 700 {folder}"
        )
    return {public_key(path): path.stem for path in sorted(folder.glob("*.pub"))}


def secure(socket: zmq.Socket[bytes], keys: ClientKeys) -> None:
    """Makes a client's socket encrypt, before it connects.

    Raises:
        SettingsError: A key file is missing or not safe.
    """
    secret = secret_key(keys.secret)
    socket.curve_secretkey = secret
    socket.curve_publickey = zmq.curve_public(secret)
    socket.curve_serverkey = public_key(keys.server)


def main(argv: list[str]) -> int:
    """``tgrpo keys``: makes a key pair and says where its halves belong."""
    settings = validated(tyro.cli(KeysSettings, prog="tgrpo keys", args=argv))
    secret, public = make(settings.name, settings.folder)
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{secret}  secret: stays with {settings.name}")
    console.print(f"{public}  public: copy it to the other side (a robot's into the server's folder of clients)")
    return 0


def _mode(path: Path) -> int:
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}. Make a key pair: tgrpo keys NAME") from error


def _read(path: Path) -> Key:
    content = path.read_bytes()[:64].strip()
    try:
        if len(z85.decode(content)) == 32:
            return content
    except (ValueError, KeyError):
        pass
    raise SettingsError(f"{path} is no key: it must hold one line of 40 characters. Make one: tgrpo keys NAME")
