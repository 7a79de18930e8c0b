"""A simulated scene seen from the robot side: starts ``tgrpo sim-robot`` as a child and talks to it."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import zmq

from tgrpo import sim_link
from tgrpo.errors import RobotFault, SettingsError
from tgrpo_ros.child import find_command

START_PATIENCE = 300.0
"""How long a scene may take to load [s]."""
ANSWER_PATIENCE = 30.0
"""How long an answer may take [s]; a reset of a scene takes the longest."""
M = TypeVar("M", bound=sim_link.Message)


class SceneLink:
    """One client's connection to a scene."""

    def __init__(self, address: str) -> None:
        """Connects; the scene need not be there yet.

        Args:
            address: ZeroMQ address of the scene.
        """
        self.address = address
        self._context = zmq.Context()
        self._connect()

    def ask(self, request: sim_link.Message, kind: type[M], patience: float = ANSWER_PATIENCE) -> M:
        """Sends a request and waits for its reply.

        Args:
            request: What to ask.
            kind: Type of the reply.
            patience: How long it may take [s].

        Raises:
            RobotFault: The scene refuses or does not answer in time.
        """
        self._socket.send(sim_link.encode(request))
        ready = dict(self._poller.poll(int(patience * 1000.0)))
        if self._socket not in ready:
            # A late reply must not be taken for that of the next request.
            self._disconnect()
            self._connect()
            what = "has ended" if ready else f"has not answered for {patience:g} s; is it running?"
            raise RobotFault(f"the simulated arm at {self.address} {what}")
        reply = sim_link.decode_reply(self._socket.recv())
        if isinstance(reply, sim_link.Refused):
            raise RobotFault(f"the simulated arm refuses: {reply.reason}")
        if not isinstance(reply, kind):
            raise RobotFault(f"the simulated arm answered with {type(reply).__name__} instead of {kind.__name__}")
        return reply

    def close(self) -> None:
        """Disconnects."""
        self._disconnect()
        self._context.term()

    def _connect(self) -> None:
        socket: zmq.Socket[bytes] = self._context.socket(zmq.DEALER)
        socket.linger, socket.maxmsgsize = 0, sim_link.LIMIT
        # The end of the other process is noticed at once, and not only when patience ends.
        self._monitor: zmq.Socket[bytes] = socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        socket.connect(self.address)
        self._socket = socket
        self._poller = zmq.Poller()
        self._poller.register(socket, zmq.POLLIN)
        self._poller.register(self._monitor, zmq.POLLIN)

    def _disconnect(self) -> None:
        self._socket.disable_monitor()
        self._monitor.close(linger=0)  # or the context would wait for it for ever
        self._socket.close()


class SceneProcess:
    """A scene in a child process, which ends with this one.

    Attributes:
        address: Where arms and cameras connect.
        description: What the scene is.
    """

    def __init__(self, options: Sequence[str] = (), patience: float = START_PATIENCE) -> None:
        """Starts the scene and waits until it answers.

        Args:
            options: Of ``tgrpo sim-robot``, for example ``["--suite", "libero_goal", "--pace", "fast"]``.
            patience: How long loading may take [s].

        Raises:
            RobotFault: It ended or did not answer in time.
        """
        self._folder = tempfile.TemporaryDirectory(prefix="tgrpo-scene-")
        self.address = f"ipc://{Path(self._folder.name) / 'scene'}"
        command = [find_command(), "sim-robot", "--address", self.address, "--with-parent", *options]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
        try:
            self.description = wait_for_scene(self.address, patience, self._alive)
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Process id of the scene."""
        return self._process.pid

    def close(self) -> None:
        """Ends the scene."""
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()

    def __enter__(self) -> SceneProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _alive(self) -> None:
        if (code := self._process.poll()) is not None:
            raise RobotFault(f"the simulated arm ended with code {code} before it was ready; see its messages")


def wait_for_scene(
    address: str, patience: float = START_PATIENCE, check: Callable[[], None] = lambda: None
) -> sim_link.Description:
    """Waits until a scene has loaded and says what it is.

    Args:
        address: Of the scene.
        patience: How long that may take [s].
        check: Called between two attempts; raises if there is nothing to wait for any more.

    Raises:
        SettingsError: There is no address.
        RobotFault: It does not answer.
    """
    if not address:
        raise SettingsError("the robot 'sim' needs the address of a scene: start one with `tgrpo sim-robot`.")
    link, until = SceneLink(address), time.monotonic() + patience
    try:
        while time.monotonic() < until:
            with contextlib.suppress(RobotFault):
                return link.ask(sim_link.Describe(), sim_link.Description, 2.0)
            check()
        raise RobotFault(f"the simulated arm at {address} was not ready after {patience:g} s; start `tgrpo sim-robot`.")
    finally:
        link.close()
