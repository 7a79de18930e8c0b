"""The program of every node: what ends one that is interrupted while it still imports, which takes seconds.

Python would print a traceback and launch would say that the node has died. Nothing has been begun by then, so the
process ends at once and quietly. As soon as there is something to bring to an end, the node has handlers of its own.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from pathlib import Path


def main() -> int:
    """Entry point of the programs ``tgrpo_*_node``: runs the module of this package that the program is named after."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(0))
    module = Path(sys.argv[0]).stem.removeprefix("tgrpo_")
    code: int = importlib.import_module(f"tgrpo_ros.{module}").main()
    return code
