"""``tgrpo replay``: plays a recorded episode in the terminal, and as a video with what happened above the picture."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from tgrpo.errors import SettingsError
from tgrpo.record import video
from tgrpo.record.charts import stage_name
from tgrpo.record.episode import Episode, load
from tgrpo.record.steps import Pictures, Steps, steps
from tgrpo.record.streams import Action, Event, Label, PolicyReply, Stage
from tgrpo.types import Image

_BAR = "▁▂▃▄▅▆▇█"
_WIDTH = 72


@dataclass(frozen=True)
class Arguments:
    """Plays a recorded episode: its streams, what happened when, and its picture."""

    episode: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="EPISODE")]
    """The episode's folder."""
    speed: float = 0.0
    """Times as fast as it was; 0 prints everything at once."""
    video: Annotated[Path | None, tyro.conf.arg(metavar="FILE.mp4")] = None
    """Also write a video."""
    camera: str = ""
    """Camera of the video; the first by default."""


def timeline(episode: Episode) -> list[tuple[float, str]]:
    """What happened, as seconds since the first control step and a line for people, in order."""
    actions = episode.of(Action)
    found = [(reply.at.steady, f"policy failed: {reply.error}") for reply in episode.of(PolicyReply) if reply.error]
    found += [
        (event.at.steady, "  ".join(word for word in (event.kind, event.reason, event.text) if word))
        for event in episode.of(Event)
    ]
    found += [(one.at.steady, f"stage {one.stage} complete  {one.name}".rstrip()) for one in episode.of(Stage)]
    found += [
        (after.at.steady, f"{after.source} in control from step {after.step}")
        for before, after in zip([None, *actions], actions, strict=False)
        if before is None or before.source != after.source
    ]
    found += [
        (label.at.steady, f"{label.outcome} by {label.source}  {label.reason}".rstrip()) for label in episode.of(Label)
    ]
    start = actions[0].at.steady if actions else min((at for at, _ in found), default=0)
    return [((at - start) / 1e9, text) for at, text in sorted(found)]


def sparkline(values: list[float], width: int = _WIDTH) -> str:
    """A curve as one line of text, ``width`` characters at most."""
    if not values:
        return ""
    columns = min(width, len(values))
    picked = [values[index * len(values) // columns] for index in range(columns)]
    low, high = min(picked), max(picked)
    scale = (len(_BAR) - 1) / (high - low) if high > low else 0.0
    return "".join(_BAR[round((value - low) * scale)] for value in picked)


def film(episode: Episode, camera: str) -> Iterator[Image]:
    """The picture of each control step with step, stage and who is in control written above it."""
    table = steps(episode)
    shown = Pictures(episode, camera, table.stamps)
    labels = list(episode.of(Stage))
    for index in range(len(table)):
        stage = max((label.stage for label in labels if label.at.steady <= table.stamps[index]), default=0)
        words = [f"step {index}", table.source[index]]
        if episode.info.stage_names:
            words.append(stage_name(stage, episode.info.stage_names))
        last = index == len(table) - 1 and episode.result.counted
        success = episode.result.outcome == "success" if last else None
        yield video.annotate(video.enlarged(shown[index]), "  ·  ".join(words), success=success)


def print_episode(episode: Episode, console: Console, speed: float = 0.0) -> None:
    """Prints head, streams, timeline and actions.

    Args:
        episode: The episode.
        console: Where to.
        speed: Times as fast as it was; 0 does not wait.
    """
    info, result = episode.info, episode.result
    console.print(
        f"episode {episode.number}: {result.outcome} after {result.duration:.1f} s. {info.instruction}", markup=False
    )
    console.print(f"policy {info.policy} {info.version}, {info.purpose}, pair {info.pair}, {info.robot}", markup=False)
    for words in (result.reason, result.notes, result.incomplete):
        if words:
            console.print(words, markup=False)
    console.print(_streams(episode))
    passed = 0.0
    for at, text in timeline(episode):
        if speed > 0:
            time.sleep(max(0.0, at - passed) / speed)
            passed = max(passed, at)
        console.print(f"{at:8.2f} s  {text}", markup=False)
    _print_actions(steps(episode), console)


def main(argv: list[str]) -> int:
    """Runs ``tgrpo replay``.

    Args:
        argv: Arguments after ``replay``.

    Returns:
        0.

    Raises:
        SettingsError: The speed is negative.
        RecordingError: The episode is damaged, not closed, or has no such camera.
    """
    arguments = tyro.cli(Arguments, args=argv, prog="tgrpo replay")
    if arguments.speed < 0:
        raise SettingsError(f"speed {arguments.speed}: must not be negative; 1 is as fast as it was, 0 does not wait.")
    episode = load(arguments.episode)
    console = Console(highlight=False, soft_wrap=True)
    print_episode(episode, console, arguments.speed)
    if arguments.video is not None:
        camera = arguments.camera or next(iter(episode.cameras()), "")
        video.write_video(arguments.video, film(episode, camera), fps=episode.info.rate)
        console.print(f"Video: {arguments.video}", markup=False)
    return 0


def _streams(episode: Episode) -> Table:
    table = Table(title="streams", title_justify="left")
    for name in ("topic", "messages", "per second", "dropped"):
        table.add_column(name, justify="left" if name == "topic" else "right")
    result = episode.result
    for topic in sorted({*result.messages, *result.dropped}):
        count = result.messages.get(topic, 0)
        rate = f"{count / result.duration:.1f}" if result.duration else ""
        table.add_row(topic, str(count), rate, str(result.dropped.get(topic, 0)))
    return table


def _print_actions(table: Steps, console: Console) -> None:
    names = ("x", "y", "z", "rx", "ry", "rz", "gripper")
    for index in range(table.executed.shape[1]):
        values = table.executed[:, index].tolist()
        if values:
            name = names[index] if len(names) == table.executed.shape[1] else f"action {index}"
            console.print(f"{name:>8} {sparkline(values)} {min(values):+.3f} to {max(values):+.3f}", markup=False)
    if table.intervention.any():
        marks = "".join("█" if value else "·" for value in _picked(table.intervention.tolist()))
        console.print(f"{'human':>8} {marks} {int(table.intervention.sum())} of {len(table)} steps", markup=False)


def _picked(values: list[bool]) -> list[bool]:
    columns = min(_WIDTH, len(values))
    return [any(values[i * len(values) // columns : (i + 1) * len(values) // columns]) for i in range(columns)]
