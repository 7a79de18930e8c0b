"""The real pyrealsense2, whose played devices are unplugged while the file named by CAMERA_PLUG exists.

A recording cannot be pulled out of a port; librealsense's own `unload_device` is what that looks like to a driver.
"""

import importlib
import os
import sys
import threading
import time
from pathlib import Path

HERE = str(Path(__file__).parent)
sys.path = [place for place in sys.path if place != HERE]
del sys.modules["pyrealsense2"]
real = importlib.import_module("pyrealsense2")
pulled = Path(os.environ["CAMERA_PLUG"])
Context = real.context


class context(Context):  # noqa: N801  (the library's own name)
    """A context whose devices come and go with the file."""

    def load_device(self, path):
        device = super().load_device(path)
        if pulled.exists():
            self.unload_device(path)
            return device
        threading.Thread(target=self._watch, args=(path,), daemon=True).start()
        return device

    def _watch(self, path):
        while not pulled.exists():
            time.sleep(0.005)
        self.unload_device(path)


class config(real.config):  # noqa: N801
    """Leaves the device to the context: one that the pipeline opens by itself, to repeat it, has no plug."""

    def enable_device_from_file(self, path, repeat):
        pass


real.context, real.config = context, config
