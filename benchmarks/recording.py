"""What recording costs the caller, and what a kill costs the recording.

Usage: python benchmarks/recording.py [--kills 20] [--seconds 20]
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tgrpo.record.episode import EpisodeInfo, load
from tgrpo.record.session import SessionFolder, SessionInfo
from tgrpo.record.streams import Action, RobotState, now

RATE = 20.0
CAMERAS = ("agentview", "wrist")


def picture() -> np.ndarray:
    """A picture ``(256, 256, 3)`` with edges and some noise, so that its JPEG is as large as a camera's."""
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 255, (16, 16, 3), np.uint8).repeat(16, 0).repeat(16, 1)
    return np.clip(blocks.astype(int) + rng.normal(0, 3, blocks.shape), 0, 255).astype(np.uint8)


def record(path: Path, seconds: float) -> None:
    """Records at the rate of a robot and prints what each control step cost, or for ever with ``seconds`` 0."""
    image, costs, step = picture(), [], 0
    with _session(path) as session, session.begin(EpisodeInfo()) as recorder:
        start, cpu = time.perf_counter(), time.process_time()
        while not seconds or step < seconds * RATE:
            time.sleep(max(0.0, start + step / RATE - time.perf_counter()))
            before = time.perf_counter()
            for camera in CAMERAS:
                recorder.frame(camera, image)
            for _ in range(5):
                recorder.put(RobotState(at=now(), position=[0.1] * 3, axis_angle=[0.2] * 3, joints=[0.3] * 7))
            recorder.put(Action(at=now(), step=step, source="policy", executed=[0.1] * 7, policy=[0.1] * 7))
            costs.append(time.perf_counter() - before)
            if not seconds:
                print(time.monotonic_ns(), flush=True)
            step += 1
        share = (time.process_time() - cpu) / (time.perf_counter() - start)
        before = time.perf_counter()
        result = recorder.close("success")
        closing = time.perf_counter() - before
    p50, p99, worst = 1000 * np.quantile(costs, [0.5, 0.99, 1.0])
    print(f"cost of a control step for the caller: median {p50:.2f} ms, p99 {p99:.2f} ms, worst {worst:.2f} ms")
    print(f"processor {100 * share:.1f} % of a core, closing {closing:.2f} s, dropped {sum(result.dropped.values())}")
    size = sum(file.stat().st_size for file in session.episodes()[-1].iterdir())
    print(f"{size / 1e6 / result.duration * 60:.1f} MB a minute")


def _session(path: Path) -> SessionFolder:
    return SessionFolder.resume(path) if (path / "session.json").exists() else SessionFolder.create(path, SessionInfo())


def kill(path: Path, kills: int) -> None:
    """Kills a recording again and again at random instants, and measures what is missing at the end."""
    rng = random.Random(0)
    said = []
    for _ in range(kills):
        command = [sys.executable, __file__, "--victim", str(path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ})
        lines = [process.stdout.readline()]
        time.sleep(rng.uniform(0.3, 3.0))
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.read().splitlines()
        process.wait()
        said.append(max(int(line) for line in lines if line.strip()))
    with SessionFolder.resume(path) as session:
        episodes = [load(folder, cameras=()) for folder in session.episodes()]
    lost = [(at - episode.of(Action)[-1].at.steady) / 1e9 for at, episode in zip(said, episodes, strict=True)]
    print(f"{kills} kills: {len(episodes)} episodes recovered, {np.median(lost):.2f} s lost, at most {max(lost):.2f} s")


def main() -> None:
    """Runs both measurements."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--victim", type=Path)
    arguments = parser.parse_args()
    if arguments.victim:
        record(arguments.victim, 0.0)
        return
    with tempfile.TemporaryDirectory() as folder:
        record(Path(folder) / "cost", arguments.seconds)
        kill(Path(folder) / "kills", arguments.kills)


if __name__ == "__main__":
    main()
