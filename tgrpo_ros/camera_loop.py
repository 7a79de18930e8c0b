"""Reads one camera in a thread and hands its pictures on."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from tgrpo.errors import TgrpoError
from tgrpo_ros.drivers.base import Camera, Frame
from tgrpo_ros.frames import FrameSender
from tgrpo_ros.meter import Meter

PATIENCE = 0.1
"""How long one attempt to read may take [s]."""
_log = logging.getLogger(__name__)


class CameraLoop:
    """From a driver to everybody who looks.

    Attributes:
        meter: Of the pictures.
        failure: Why the loop has ended by itself; empty while it runs.
    """

    def __init__(self, camera: Camera, sender: FrameSender, show: Callable[[Frame], None]) -> None:
        """Prepares.

        Args:
            camera: Used by this loop alone from now on.
            sender: The same.
            show: Called with each picture, after it was sent.
        """
        self._camera, self._sender, self._show = camera, sender, show
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="camera", daemon=True)
        self.meter, self.failure = Meter(), ""

    def start(self) -> None:
        """Begins to read."""
        self._thread.start()

    def close(self) -> None:
        """Ends the thread; camera and sender stay open. May be called more than once."""
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                frame = self._camera.read(PATIENCE)
                if frame is None:
                    self._sender.greet()
                    continue
                self._sender.send(frame)
                self.meter.tick(time.monotonic())
                self._show(frame)
        except TgrpoError as error:
            _log.error("the camera has ended: %s", error)
            self.failure = str(error)
        except Exception as error:  # noqa: BLE001  (whatever a driver raises, people are told why there are no pictures)
            _log.exception("the camera has failed")
            self.failure = str(error) or type(error).__name__
