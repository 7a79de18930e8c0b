"""An Intel RealSense by its serial number, in a process that is killed and started anew when it hangs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import numpy as np

from tgrpo.errors import MissingDependencyError, RobotFault
from tgrpo_ros.drivers import realsense_messages as messages
from tgrpo_ros.drivers.base import Frame, Intrinsics
from tgrpo_ros.drivers.link import ChildProcess, failed
from tgrpo_ros.robot_config import CameraConfig

MODULE = "tgrpo_ros.drivers.realsense_process"
OPEN_PATIENCE = 15.0
"""How long opening may take, with a reset of the hardware [s]."""
SILENCE = 2.0
"""A camera that sends nothing for so long is started anew [s]."""
_log = logging.getLogger(__name__)


class Restarts:
    """How often a camera may be started anew: a loose cable must not be papered over for ever."""

    def __init__(self, count: int = 3, window: float = 60.0) -> None:
        """Starts with the whole budget.

        Args:
            count: Restarts within the window.
            window: [s].
        """
        self._count, self._window = count, window
        self._done: list[float] = []

    def spend(self, now: float) -> bool:
        """Counts one restart.

        Returns:
            Whether it is permitted.
        """
        self._done = [when for when in self._done if now - when < self._window]
        if len(self._done) >= self._count:
            return False
        self._done.append(now)
        return True

    @property
    def recent(self) -> int:
        """Restarts within the window, as of the last one."""
        return len(self._done)


class RealSense:
    """A RealSense; see :class:`tgrpo_ros.drivers.base.Camera`.

    Attributes:
        options: What exposure and white balance read back as.
        intrinsics: Projection of the colour stream, as the camera was calibrated.
        restarts: How often the camera was started anew.
    """

    still = False

    def __init__(self, config: CameraConfig, clock: Callable[[], float] = time.monotonic) -> None:
        """Opens the camera.

        Args:
            config: Its serial number and settings.
            clock: Steady time [s].

        Raises:
            MissingDependencyError: pyrealsense2 or libusb is not installed.
            RobotFault: The camera is missing or cannot be opened.
        """
        self.name = config.name
        self.options: dict[str, float] = {}
        self.intrinsics: Intrinsics | None = None
        self.restarts = 0
        self._config, self._clock = config, clock
        self._budget = Restarts()
        self._newest: messages.Picture | None = None
        self._sequence = -1
        self._process: ChildProcess[messages.FromCamera] | None = None
        self._closed, self._given_up, self._trouble = False, "", ""
        self._open(reset=False)

    @property
    def pid(self) -> int | None:
        """Process id of the process that holds the camera."""
        return None if self._process is None else self._process.pid

    def read(self, timeout: float) -> Frame | None:
        """The newest picture that was not read yet.

        Args:
            timeout: How long to wait for one [s].

        Raises:
            RobotFault: The camera is lost and the restarts are used up.
        """
        if self._closed:
            return None
        until = self._clock() + timeout
        while True:
            self._listen(max(0.0, until - self._clock()))
            if self._newest is not None:
                return self._take(self._newest)
            if self._process is not None and self._clock() - self._heard > SILENCE:
                self._restart(f"nothing for {SILENCE:g} s")
            if self._clock() >= until:
                return None

    def close(self) -> None:
        """Ends the process."""
        self._closed = True
        if self._process is not None:
            self._process.close()
            self._process = None

    def _listen(self, timeout: float) -> None:
        if self._given_up:
            raise RobotFault(self._given_up)
        if self._process is None:
            self._restart(self._trouble)
            return
        try:
            arrived = self._process.channel.receive(timeout)
            failed(arrived)
        except (EOFError, RobotFault) as error:
            self._restart(str(error))
            return
        for message in arrived:
            self._heard = self._clock()
            if isinstance(message, messages.Picture):
                self._newest = message

    def _take(self, picture: messages.Picture) -> Frame:
        self._newest = None
        self._sequence += 1
        image = np.frombuffer(picture.data, np.uint8).reshape(picture.height, picture.width, 3)
        return Frame(image, picture.captured, self._sequence, picture.domain)

    def _restart(self, why: str) -> None:
        if self._process is not None:
            self._process.kill()
            self._process = None
        if not self._budget.spend(self._clock()):
            self._given_up = f"camera {self.name!r} is lost: {why}. Check its cable and port, then start it again."
            raise RobotFault(self._given_up)
        self.restarts += 1
        _log.warning("camera %r: %s; started anew", self.name, why)
        try:
            self._open(reset=self._budget.recent > 1)
        except RobotFault as error:
            self._trouble = str(error)
            _log.warning("%s", error)

    def _open(self, reset: bool) -> None:
        config = self._config
        process: ChildProcess[messages.FromCamera] = ChildProcess(MODULE, messages.FromCamera)
        try:
            process.channel.send(
                messages.Open(
                    serial=config.serial,
                    file=config.file,
                    width=config.width,
                    height=config.height,
                    rate=config.rate,
                    exposure=config.exposure,
                    white_balance=config.white_balance,
                    reset=reset,
                )
            )
            opened = self._wait_until_open(process)
        except (EOFError, RobotFault) as error:
            process.kill()
            if "pip install" in str(error):
                raise MissingDependencyError(str(error)) from error
            raise RobotFault(f"camera {self.name!r} cannot be opened: {error}") from error
        self.options, self.intrinsics = opened.options, opened.intrinsics
        self._process, self._heard = process, self._clock()

    def _wait_until_open(self, process: ChildProcess[messages.FromCamera]) -> messages.Opened:
        until = self._clock() + OPEN_PATIENCE
        while self._clock() <= until:
            arrived = process.channel.receive(0.2)
            failed(arrived)
            for message in arrived:
                if isinstance(message, messages.Opened):
                    return message
        raise RobotFault(f"it has not opened for {OPEN_PATIENCE:g} s")
