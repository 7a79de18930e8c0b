"""A process that records until it is stopped; prints the step of every message that has been flushed to disk.

Usage: python recording_process.py SESSION STEPS
"""

import signal
import sys
import time
from pathlib import Path

from tests.tgrpo.record.episodes import INFO, picture
from tgrpo.record import mcap_file
from tgrpo.record.recorder import RecorderSettings
from tgrpo.record.session import SessionFolder, SessionInfo
from tgrpo.record.streams import Action, now

flush = mcap_file.McapWriter.flush


def say(writer):
    """Flushes, and says so afterwards."""
    flush(writer)
    print(f"flushed {writer._sequence}", flush=True)


def stop(*_):
    """What a program does at SIGTERM."""
    raise SystemExit(0)


def main():
    mcap_file.McapWriter.flush = say
    signal.signal(signal.SIGTERM, stop)
    path = Path(sys.argv[1])
    settings = RecorderSettings(encoding="png", reserve_mb=0, queue_frames=512, flush_seconds=0.05)
    exists = (path / "session.json").exists()
    with SessionFolder.resume(path, settings) if exists else SessionFolder.create(path, SessionInfo(), settings) as s:
        while True:
            with s.begin(INFO) as recorder:
                print(f"begun {recorder.number}", flush=True)
                for step in range(int(sys.argv[2])):
                    recorder.frame("agentview", picture(step))
                    recorder.put(Action(at=now(), step=step, source="policy", executed=[float(step)] * 7))
                    time.sleep(0.005)
                recorder.close("success")
            print(f"closed {recorder.number}", flush=True)


if __name__ == "__main__":
    main()
