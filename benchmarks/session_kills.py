"""kill -9 of each process of a session in turn, 20 times in 40 episodes: `python -m benchmarks.session_kills`.

Real server, scene, nodes and files, in simulation, by the command that users run. Each kill hits an episode that is
being played. At the end: is every episode that was begun closed and whole, was each episode of the plan played to its
end, and how much of the open episode did a kill of the recording process cost?
"""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.tgrpo_ros.session_launch import environment, processes, start, write_plan
from tgrpo.record import recover
from tgrpo.record.episode import load
from tgrpo.record.recover import begun
from tgrpo.record.session import closed_episodes
from tgrpo.record.streams import decode

VICTIMS = (
    "tgrpo_policy_node", "tgrpo_arm_node", "tgrpo.cli serve", "tgrpo.cli sim-robot", "tgrpo_camera_node",
    "tgrpo_session_node",
)  # fmt: skip
RECORDS = "tgrpo_session_node"
"""The process whose death can cost something of a recording."""


@dataclass(frozen=True)
class Kill:
    """One of them."""

    episode: str
    victim: str
    steady: int
    """Steady time [ns]."""


def strike(session: Path, mark: str, killed: list[Kill], wanted: int) -> None:
    """Kills the next victim, if an episode is being recorded in which nothing was killed yet and the arm has moved."""
    opened = list((session / "episodes").glob("*.open")) if session.exists() else []
    if len(killed) == wanted or not opened or opened[0].name in {one.episode for one in killed}:
        return
    file = opened[0] / "episode.mcap"
    if not file.exists() or file.stat().st_size < 40_000:  # nothing has been played yet
        return
    victim = VICTIMS[len(killed) % len(VICTIMS)]
    pids = [pid for pid, words in processes(mark) if victim in words]
    if pids:
        os.kill(pids[0], signal.SIGKILL)
        killed.append(Kill(opened[0].name, victim, time.monotonic_ns()))
        print(f"{len(killed)}: {victim} in episode {opened[0].name.removesuffix('.open')}", flush=True)


def lost(session: Path, kills: list[Kill]) -> list[float]:
    """What kills of the recording process cost: from the last message that was kept to the kill [s]."""
    found = []
    for one in kills:
        if one.victim == RECORDS:
            kept = load(session / "episodes" / one.episode.removesuffix(".open")).raw
            found.append((one.steady - max(decode(raw.topic, raw.data).at.steady for raw in kept)) / 1e9)
    return found


def main() -> int:
    """Plays, kills and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=40)
    parser.add_argument("--kills", type=int, default=20)
    wanted = parser.parse_args()
    os.environ.setdefault("ROS_DOMAIN_ID", "73")
    killed: list[Kill] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        where, session = environment(folder), folder / "session"
        plan = write_plan(folder, episodes=wanted.episodes, attempts=20)
        begun_at = time.monotonic()
        process = start(
            where, "eval", plan, session, "pace:=real"
        )  # else stamps are of a clock that waits for the policy
        while process.poll() is None:
            strike(session, where["XDG_RUNTIME_DIR"], killed, wanted.kills)
            time.sleep(0.05)
        minutes = (time.monotonic() - begun_at) / 60.0
        problems = recover.problems(session)
        episodes = [load(one) for one in closed_episodes(session)]
        outcomes = Counter(episode.result.outcome for episode in episodes)
        costs = lost(session, killed)
        print("| killed | times |\n|---|---|")
        for victim, count in Counter(one.victim for one in killed).items():
            print(f"| {victim} | {count} |")
        print("\n| what | value |\n|---|---|")
        print(f"| episodes begun / closed and whole | {len(begun(session))} / {len(episodes)} |")
        print(f"| problems that `tgrpo recover --check` finds | {len(problems)} |")
        print(f"| episodes of the plan / played to their end | {wanted.episodes} / {outcomes['failure']} |")
        print(f"| outcomes | {dict(outcomes)} |")
        print(f"| lost of the open episode by a kill of its recorder, most [s] | {max(costs, default=0.0):.2f} |")
        print(f"| took [min] | {minutes:.1f} |")
        for problem in problems:
            print(problem)
        whole = not problems and len(begun(session)) == len(episodes) and outcomes["failure"] == wanted.episodes
    return 0 if whole and process.returncode == 0 else 1


if __name__ == "__main__":
    raise SystemExit(main())
