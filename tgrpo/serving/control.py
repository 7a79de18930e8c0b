"""The socket of whoever owns the server: replaces the policy, and `tgrpo swap`.

It is a file in a folder that only its owner may enter, apart from the data socket, so that no client can reach it.
"""

from __future__ import annotations

import logging
import math
import stat
import threading
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import tyro
import zmq
from rich.console import Console

from tgrpo import private_folder
from tgrpo.errors import CheckpointError, PolicyError, SettingsError, TgrpoError
from tgrpo.policies import shipped
from tgrpo.serving.core import Core
from tgrpo.serving.model import replacement
from tgrpo.settings import Strict, validated

log = logging.getLogger(__name__)
POLL_MS = 200
"""How soon the thread notices that it should end [ms]."""


class Swap(Strict, frozen=True, tag="swap"):
    """Asks the server to serve another checkpoint folder."""

    folder: Annotated[str, msgspec.Meta(max_length=4096)]


class Answer(Strict, frozen=True):
    """What became of it."""

    result: Literal["done", "failed"]
    text: str
    """The version that is served now, or why the old one is kept."""


class SwapSettings(Strict, frozen=True):
    """Replaces the policy of a running server, between two batches."""

    policy: Annotated[str, tyro.conf.Positional]
    """Checkpoint: a folder, or the name of one that ships with the package."""
    port: int = 5757
    """Port of the server on this machine."""
    control: Path | None = None
    """Its control socket, if it was started with --control."""
    timeout_s: Annotated[float, msgspec.Meta(gt=0)] = 600.0
    """How long loading may take [s]."""


def default_path(port: int) -> Path:
    """Where the control socket of a server with this port lies."""
    return private_folder.path() / f"serve-{port}.sock"


class Control:
    """Answers on the control socket in a thread of its own."""

    def __init__(self, core: Core, path: Path) -> None:
        """Listens.

        Raises:
            SettingsError: The folder is not ours alone, or the path is too long for a socket.
        """
        self._core = core
        self._path = path
        private_folder.ensure(path.parent)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.REP)
        self._socket.setsockopt(zmq.LINGER, 500)
        self._socket.setsockopt(zmq.MAXMSGSIZE, 8192)
        try:
            self._socket.bind(f"ipc://{path}")
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            raise SettingsError(f"cannot make the control socket {path}: {error.strerror}. Give --control.") from error
        path.chmod(0o600)
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stops listening and removes the socket; does not wait for a policy that is being loaded."""
        self._closing = True
        self._thread.join(timeout=2.0)
        if not self._thread.is_alive():
            self._context.term()
        self._path.unlink(missing_ok=True)

    def _run(self) -> None:
        with self._socket as socket:
            while not self._closing:
                if socket.poll(POLL_MS):
                    socket.send(msgspec.msgpack.encode(self._carried_out(socket.recv())))

    def _carried_out(self, message: bytes) -> Answer:
        try:
            folder = Path(msgspec.msgpack.decode(message, type=Swap).folder)
            model, change = replacement(folder, self._core.model, self._core.max_batch)
            self._core.swap(model, change)
        except (TgrpoError, OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            log.warning("still serving %s: %s", self._core.model.version, error)
            return Answer(result="failed", text=str(error))
        except Exception as error:
            log.error("still serving %s", self._core.model.version, exc_info=error)
            return Answer(result="failed", text=f"the new policy failed with {error!r}")
        return Answer(result="done", text=model.version)


def swap(folder: Path, path: Path, timeout_s: float) -> str:
    """Asks the server behind a control socket to serve another checkpoint.

    Returns:
        The version that is served now.

    Raises:
        SettingsError: There is no such socket.
        CheckpointError: The server kept the old policy; the message says why.
        PolicyError: No answer in time.
    """
    if not path.exists() or not stat.S_ISSOCK(path.stat().st_mode):
        raise SettingsError(f"{path}: no server has its control socket there. Is 'tgrpo serve' running with this port?")
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(f"ipc://{path}")
        socket.send(msgspec.msgpack.encode(Swap(folder=str(folder.resolve()))))
        if not socket.poll(math.ceil(timeout_s * 1000.0)):
            raise PolicyError(f"no answer from {path} within {timeout_s:g} s; the server may still be loading.")
        answer = msgspec.msgpack.decode(socket.recv(), type=Answer)
    if answer.result == "failed":
        raise CheckpointError(f"the server keeps its policy: {answer.text}")
    return answer.text


def main(argv: list[str]) -> int:
    """``tgrpo swap``: replaces the policy of a running server."""
    settings = validated(tyro.cli(SwapSettings, prog="tgrpo swap", args=argv))
    path = settings.control or default_path(settings.port)
    version = swap(shipped(settings.policy), path, settings.timeout_s)
    Console(highlight=False).print(f"now serving {version}", markup=False)
    return 0
