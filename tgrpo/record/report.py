"""``tgrpo report``: one self-contained HTML file about a run, finished or not.

Every figure is recomputed from the run's own files; nothing is loaded from the network.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import msgspec
import tyro
import yaml
from markupsafe import Markup
from rich.console import Console

from tgrpo.errors import MissingDependencyError, SettingsError
from tgrpo.record import charts, eval_result, files, report_text, video
from tgrpo.record.charts import Series
from tgrpo.record.compare import training_verdict
from tgrpo.record.metrics import read_metrics
from tgrpo.record.run_folder import RunFolder
from tgrpo.record.stats import paired, wilson
from tgrpo.record.video import VideoInfo
from tgrpo.rewards import load_stages

_EMBED_LIMIT = 12_000_000  # bytes of video in one report
_STAGE_COLOURS = (1, 3, 0, 2, 4, 5)
"""Colour of each completed stage, the same as in the timelines of the rollouts."""
_CURVES = (
    ("return_mean", "Return", "mean of the rollouts; rewards progress as well as success"),
    ("length_mean", "Episode length", "control steps; shorter is faster"),
    ("kl", "KL", "distance from the policy before the training [nat]"),
    ("entropy", "Entropy", "of the sampled actions; a fall to zero ends exploration [nat]"),
    ("clip_fraction", "Clip fraction", "share of the ratios that the objective clipped"),
    ("ratio_max", "Largest ratio", "new over old probability of an action"),
    ("reproduction_mean", "Rollout against update", "mean difference of their log-probabilities, by rounding [nat]"),
    ("grad_norm", "Gradient norm", "before clipping"),
    ("loss", "Loss", "of the clipped objective; need not fall"),
    ("groups_skipped", "Groups without signal", "all rollouts of the group had equal returns"),
    ("steps_per_second", "Speed", "control steps of all workers per second"),
)


@dataclass(frozen=True)
class Arguments:
    """Writes the HTML report of a run or a session."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN|SESSION")]
    """The folder of the run or session."""
    output: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """The file to write; report.html in the folder by default."""
    simulation: Annotated[Path | None, tyro.conf.arg(metavar="EVAL.json")] = None
    """Of a session: an evaluation in simulation to be shown beside it."""
    verify: bool = False
    """Of a session: write nothing; recompute every number of its report from the episode files."""


@dataclass(frozen=True)
class Run:
    """Everything that a report is made from."""

    folder: Path
    settings: Mapping[str, Any]
    metrics: Sequence[Mapping[str, Any]]
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None
    summary: Mapping[str, Any]
    status: Mapping[str, Any]
    provenance: Mapping[str, Any]

    @property
    def finished(self) -> bool:
        """Whether the evaluation after the training is there."""
        return self.after is not None


def read_run(folder: Path) -> Run:
    """Reads a run folder; what is not there yet is empty.

    Raises:
        SettingsError: The folder is no run folder.
        CheckpointError: One of its files is not valid JSON.
    """
    if not (folder / "settings.yaml").is_file():
        raise SettingsError(f"{folder} is not a run folder: it has no settings.yaml. Give the folder of a training.")
    run = RunFolder(folder)
    return Run(
        folder=folder,
        settings=run.read_settings(),
        metrics=read_metrics(folder),
        before=run.read_json("eval_before.json"),
        after=run.read_json("eval_after.json"),
        summary=run.read_json("summary.json") or {},
        status=run.read_json("status.json") or {},
        provenance=run.read_json("provenance.json") or {},
    )


def render(folder: Path) -> str:
    """The report as HTML text.

    Raises:
        SettingsError: The folder is no run folder.
        CheckpointError: One of its files is not valid JSON.
    """
    run = read_run(folder)
    names = _stage_names(run)
    return report_text.template("report.html.j2").render(
        title=report_text.title(run.before, run.summary, run.settings),
        chips=report_text.chips(run.settings, run.summary, run.provenance),
        state=report_text.state(run.finished, run.status),
        headline=_headline(run),
        facts=report_text.facts(run.summary, run.metrics),
        grids=_grids(run),
        words=report_text.WORDS if run.finished else report_text.WORDS_BEFORE,
        marks=report_text.MARKS,
        trained_on=report_text.states_text((run.summary.get("init_states") or {}).get("train", [])),
        success=_success_chart(run),
        training_success=_training_success(run)[1],
        curves=_curves(run),
        terms=_terms(run),
        stages=_stage_chart(run, names),
        rollouts=_rollouts(run),
        settings=yaml.safe_dump(dict(run.settings), sort_keys=False, allow_unicode=True),
        provenance=report_text.provenance_rows(run.provenance),
        packages=run.provenance.get("packages", {}),
    )


def write(folder: Path, output: Path | None = None) -> Path:
    """Writes the report.

    Args:
        folder: The run folder.
        output: The file; ``report.html`` in the run folder by default.

    Returns:
        The file.

    Raises:
        SettingsError: The folder is no run folder.
        CheckpointError: The disk is full, or a file of the run is not valid JSON.
    """
    target = output or folder / "report.html"
    files.write_text(target, render(folder))
    return target


def main(argv: list[str]) -> int:
    """Runs ``tgrpo report``.

    Args:
        argv: Arguments after ``report``.

    Returns:
        0; 1 if a session's report says something else than its episode files.

    Raises:
        SettingsError: The folder is neither a run nor a session, or an option does not fit it.
        CheckpointError: The disk is full, or a file of a run is damaged.
    """
    arguments = tyro.cli(Arguments, args=argv, prog="tgrpo report")
    console = Console(highlight=False, soft_wrap=True)
    if (arguments.run / "session.json").is_file():
        session_page = _session_page()
        if arguments.verify:
            return int(session_page.print_verification(arguments.run, arguments.output, console))
        target: Path = session_page.write(arguments.run, arguments.output, arguments.simulation)
    elif arguments.verify or arguments.simulation:
        raise SettingsError(f"{arguments.run} is no session; --verify and --simulation are for sessions.")
    else:
        target = write(arguments.run, arguments.output)
    console.print(f"Report: {target} ({target.stat().st_size / 1e6:.1f} MB). Open it in any browser.", markup=False)
    return 0


def _session_page() -> ModuleType:
    """The part that reads recordings, which a machine that only trains does not need to have installed."""
    try:
        return importlib.import_module("tgrpo.record.session_page")
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"the report of a session needs the package {error.name!r}, which is not installed: pip install '.[record]'"
        ) from error


def _headline(run: Run) -> dict[str, Any] | None:
    """The result, or what there is of it."""
    if run.before is None:
        return None
    rows = [("before", *_rate(run.before))]
    if run.after is None:
        chart = Markup(charts.interval_chart(rows, "success rate"))
        return {"rows": rows, "protocol": report_text.protocol(run.before), "verdict": None, "chart": chart}
    rows.append(("after", *_rate(run.after)))
    pairs = paired(eval_result.outcomes(run.before), eval_result.outcomes(run.after))
    return {
        "rows": rows,
        "protocol": report_text.protocol(run.before),
        "counts": " → ".join(f"{result['successes']} of {result['n']}" for result in (run.before, run.after)),
        "points": 100 * pairs.difference,
        "pairs": pairs,
        "p": report_text.p_text(pairs.p),
        "interval": [100 * bound for bound in pairs.interval()],
        "verdict": training_verdict(pairs),
        "chart": Markup(charts.interval_chart(rows, "success rates before and after")),
    }


def _rate(result: Mapping[str, Any]) -> tuple[float, tuple[float, float]]:
    return result["successes"] / result["n"], wilson(result["successes"], result["n"])


def _grids(run: Run) -> list[dict[str, Any]]:
    """One grid of initial states for each task."""
    if run.before is None:
        return []
    before = eval_result.outcomes(run.before)
    after = eval_result.outcomes(run.after) if run.after else {}
    names = {task["task"]: task["name"] for task in run.before["tasks"]}
    grids = []
    for task in sorted(names):
        keys = sorted(key for key in before if key[0] == task)
        cells = [{"state": key[1], "kind": _kind(before[key], after.get(key))} for key in keys]
        counts = {kind: sum(cell["kind"] == kind for cell in cells) for kind in report_text.WORDS}
        grids.append({"name": names[task].replace("_", " "), "cells": cells, "counts": counts})
    return grids


def _kind(before: bool, after: bool | None) -> str:
    if after is None:
        return "both" if before else "neither"
    return {(True, True): "both", (False, True): "gained", (True, False): "lost", (False, False): "neither"}[
        before, after
    ]


def _training_success(run: Run) -> tuple[str, str]:
    """Metric and legend of success in training; a group that stops at its first success has one winner at most."""
    if run.settings.get("stop") == "synchronised" and run.settings.get("grace", 1.0) == 1.0:
        return "groups_solved", "groups of the training that a rollout solved"
    return "success_rate", "rollouts of the training, sampled"


def _success_chart(run: Run) -> Markup:
    """Success of the training rollouts, and of the held-out evaluations with their intervals."""
    x = [float(row["iteration"]) for row in run.metrics]
    measure, _ = _training_success(run)
    training = Series("training", x, [row.get(measure) for row in run.metrics], colour=1)
    points = [(0.0, run.before)] if run.before else []
    last = max(x, default=0.0)
    points += [(at, row["eval"]) for at, row in zip(x, run.metrics, strict=True) if row.get("eval")]
    if run.after:
        points = [(at, result) for at, result in points if at < last] + [(last, run.after)]
    rates = [_rate(result) for _, result in points]
    held_out = Series(
        "held-out states", [at for at, _ in points], [rate for rate, _ in rates], 0, [bounds for _, bounds in rates]
    )
    if not x:
        return Markup("")
    return Markup(charts.line_chart([training, held_out], percent=True, label="success rate", width=430, height=210))


def _curves(run: Run) -> list[dict[str, Any]]:
    x = [float(row["iteration"]) for row in run.metrics]
    found = []
    for key, name, caption in _CURVES:
        values = [row.get(key) for row in run.metrics]
        if any(value is not None for value in values):
            chart = charts.line_chart([Series(name, x, values)], label=name)
            found.append({"name": name, "caption": caption, "chart": Markup(chart)})
    return found


def _terms(run: Run) -> list[dict[str, Any]]:
    x = [float(row["iteration"]) for row in run.metrics]
    names = sorted({name for row in run.metrics for name in row.get("terms") or {}})
    found = []
    for index, name in enumerate(names):
        values = [(row.get("terms") or {}).get(name) for row in run.metrics]
        chart = charts.line_chart([Series(name, x, values, index)], label=name)
        found.append({"name": name.replace("_", " "), "chart": Markup(chart)})
    return found


def _stage_chart(run: Run, names: Sequence[str]) -> dict[str, Any] | None:
    """Share of the rollouts that completed each stage, over the iterations."""
    x = [float(row["iteration"]) for row in run.metrics]
    shares = [row.get("stages") or [] for row in run.metrics]
    count = max((len(row) for row in shares), default=0)
    if count < 2:
        return None
    # Rows end at the furthest stage that any rollout reached; beyond it nobody was.
    columns = [[row[stage] if stage < len(row) else 0.0 for row in shares] for stage in range(1, count)]
    labels = [names[index] if index < len(names) else f"stage {index + 1}" for index in range(count - 1)]
    colours = [_STAGE_COLOURS[index % charts.COLOURS] for index in range(len(labels))]
    series = [
        Series(f"{label} complete", x, column, colour)
        for label, column, colour in zip(labels, columns, colours, strict=True)
    ]
    chart = charts.line_chart(series, percent=True, label="stages completed", width=430, height=210)
    return {"chart": Markup(chart), "labels": list(zip(colours, labels, strict=True))}


def _rollouts(run: Run) -> list[dict[str, Any]]:
    """Recorded rollouts, those of one initial state side by side, embedded as far as the size limit goes."""
    infos = [(path, _video_info(path)) for path in sorted((run.folder / "videos").glob("*.mp4"))]
    order = {"before": 0, "training": 1, "after": 2}
    infos.sort(key=lambda item: (item[1].task, item[1].init_state, order.get(item[1].label, 3), item[1].iteration))
    room = _EMBED_LIMIT
    found: dict[tuple[int, int], dict[str, Any]] = {}
    longest = max((len(info.stages) for _, info in infos), default=0)
    for path, info in infos:
        size = path.stat().st_size
        source = video.data_uri(path) if size <= room else f"videos/{path.name}"
        room -= size if size <= room else 0
        group = found.setdefault((info.task, info.init_state), {"state": info.init_state, "videos": []})
        group["videos"].append(
            {
                "source": source,
                "label": f"iteration {info.iteration}" if info.label == "training" else info.label,
                "success": info.success,
                "timeline": Markup(charts.timeline(info.stages, info.stage_names, longest)),
                "legend": [
                    (min(stage, charts.COLOURS - 1), charts.stage_name(stage, info.stage_names))
                    for stage in sorted(set(info.stages))
                ],
            }
        )
    return list(found.values())


def _video_info(path: Path) -> VideoInfo:
    """The description beside a video; without one, what its name tells."""
    side = path.with_suffix(".json")
    try:
        return msgspec.json.decode(side.read_bytes(), type=VideoInfo)
    except (FileNotFoundError, msgspec.MsgspecError):
        return report_text.info_from_name(path.stem)


def _stage_names(run: Run) -> list[str]:
    """Names of the stages, from the recorded rollouts or else from the task's stage file."""
    for side in sorted((run.folder / "videos").glob("*.json")):
        names = _video_info(side).stage_names
        if names:
            return names
    try:
        subgoals = load_stages(str(run.settings.get("suite")), str(_task_name(run))).subgoals
    except SettingsError:
        return []
    # The order of several sub-goals is free, so the n-th completed stage has no name.
    return [stage.name for stage in subgoals[0].stages] if len(subgoals) == 1 else []


def _task_name(run: Run) -> str | None:
    name = run.summary.get("task_name") or (run.before and run.before["tasks"][0]["name"])
    return None if name is None else str(name)
