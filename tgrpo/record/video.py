"""Rollout videos: H.264 in MP4, small, playable in every browser, with what happened written above the picture."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import msgspec
import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from tgrpo.errors import SettingsError
from tgrpo.record import files
from tgrpo.record.charts import stage_name
from tgrpo.types import Image

STRIP = 20  # height of the text above the picture [px]; a player's controls would cover it below
_BACKGROUND, _TEXT = (24, 26, 31), (230, 232, 236)
_SUCCESS, _FAILURE = (63, 185, 120), (224, 98, 86)


class VideoInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What the report says beside a video; lies next to it as JSON."""

    label: str
    """Which policy: ``before``, ``after`` or ``training``."""
    task: int
    """Index of the task in its suite."""
    init_state: int
    """Index of LIBERO's initial state."""
    success: bool
    """Whether the task was completed."""
    iteration: int = 0
    """Iterations of training that the policy had seen."""
    stages: list[int] = msgspec.field(default_factory=list)
    """``(T,)`` stages that were complete after each control step."""
    stage_names: list[str] = msgspec.field(default_factory=list)
    """Name of each stage."""


def write_video(path: Path, frames: Iterable[Image], *, fps: float = 20.0, quality: int = 27) -> None:
    """Writes an MP4 that appears complete or not at all.

    Args:
        path: The file.
        frames: Upright RGB pictures ``(H, W, 3)``, all of one size; an array ``(T, H, W, 3)`` or a generator.
        fps: Frames per second [1/s].
        quality: x264's constant rate factor; lower is better and bigger, 18 to 32 make sense.

    Raises:
        SettingsError: There are no frames, or they differ in size or type.
        CheckpointError: The disk is full.
    """
    files.write_with(path, lambda temporary: _encode(temporary, iter(frames), fps, quality))


def save_rollout(folder: Path, frames: Iterable[Image], info: VideoInfo, *, fps: float = 20.0) -> Path:
    """Writes a rollout's video and what the report says about it.

    Args:
        folder: The run folder.
        frames: Upright RGB pictures, see :func:`write_video`.
        info: What it shows; it names the file, so a second rollout of the same kind replaces the first.
        fps: Frames per second [1/s].

    Returns:
        The video file, ``videos/before_task0_init07.mp4`` or alike.
    """
    middle = f"_iteration{info.iteration:04d}" if info.label == "training" else ""
    name = f"{info.label}{middle}_task{info.task}_init{info.init_state:02d}"
    video = folder / "videos" / f"{name}.mp4"
    write_video(video, frames, fps=fps)
    files.write_json(video.with_suffix(".json"), msgspec.to_builtins(info))
    return video


def enlarged(image: Image, width: int = 256) -> Image:
    """A small picture ``(H, W, 3)`` as many times larger as it takes to be so wide [px], so that a line fits above."""
    times = -(-width // image.shape[1])
    return np.repeat(np.repeat(image, times, axis=0), times, axis=1)


def annotate(image: Image, text: str, *, success: bool | None = None) -> Image:
    """Writes one line above a picture.

    Args:
        image: Upright RGB ``(H, W, 3)``.
        text: The line, for example ``"step 35  grasp the bowl"``; what does not fit is cut off.
        success: Colours a mark at the right end green or red; None draws none.

    Returns:
        ``(H + STRIP, W, 3)``; the picture itself is unchanged.
    """
    height, width = image.shape[:2]
    canvas = Pillow.new("RGB", (width, height + STRIP), _BACKGROUND)
    canvas.paste(Pillow.fromarray(np.ascontiguousarray(image)), (0, STRIP))
    draw = ImageDraw.Draw(canvas)
    draw.text((6, STRIP / 2), text, fill=_TEXT, font=ImageFont.load_default(11), anchor="lm")
    if success is not None:
        radius, right, middle = 4, width - 11, STRIP / 2
        draw.rectangle((right - 11, 0, width, STRIP - 1), fill=_BACKGROUND)
        box = (right - radius, middle - radius, right + radius, middle + radius)
        draw.ellipse(box, fill=_SUCCESS if success else _FAILURE)
    return np.asarray(canvas)


def annotate_rollout(frames: Iterable[Image], info: VideoInfo, steps_per_frame: int = 1) -> Iterator[Image]:
    """Writes step and stage above each frame of a rollout, and the outcome above the last.

    Args:
        frames: Upright RGB pictures ``(H, W, 3)``.
        info: What happened in the rollout.
        steps_per_frame: Control steps between two frames.
    """
    previous: tuple[Image, int] | None = None
    for index, frame in enumerate(frames):
        if previous is not None:
            yield annotate(previous[0], _line(info, previous[1]))
        previous = frame, index * steps_per_frame
    if previous is not None:
        yield annotate(previous[0], _line(info, previous[1]), success=info.success)


def data_uri(path: Path, mime: str = "video/mp4") -> str:
    """A file as a ``data:`` address that can be embedded in HTML."""
    return f"data:{mime};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _line(info: VideoInfo, step: int) -> str:
    words = [f"step {step}"]
    if info.stages:
        words.append(stage_name(info.stages[min(step, len(info.stages) - 1)], info.stage_names))
    return "  ·  ".join(words)


def _encode(path: Path, frames: Iterator[Image], fps: float, quality: int) -> None:
    first = next(frames, None)
    if first is None:
        raise SettingsError("a video needs at least one frame.")
    height, width = first.shape[:2]
    # "faststart" puts the index first, so that a browser can play before it has everything.
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        stream: Any = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
        stream.width, stream.height = width + width % 2, height + height % 2
        stream.pix_fmt = "yuv420p"
        # The other cores are busy with rollouts.
        stream.options = {"crf": str(quality), "preset": "veryfast", "threads": "1"}
        for frame in _chain(first, frames):
            if frame.shape != first.shape or frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
                raise SettingsError(
                    f"a frame of shape {frame.shape} and type {frame.dtype}; expected uint8 {first.shape[:2]} + (3,)."
                )
            container.mux(stream.encode(av.VideoFrame.from_ndarray(_even(frame), format="rgb24")))
        container.mux(stream.encode())


def _chain(first: Image, rest: Iterator[Image]) -> Iterator[Image]:
    yield first
    yield from rest


def _even(frame: Image) -> Image:
    """Repeats the last row and column where the size is odd, which H.264's colour format cannot store."""
    height, width = frame.shape[:2]
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
