"""The report of a session: one self-contained HTML file that carries its own numbers, so that it can be verified."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup
from rich.console import Console

from tgrpo.errors import SettingsError
from tgrpo.record import charts, eval_result, files, replay, report_text, session_numbers, video
from tgrpo.record.charts import Series
from tgrpo.record.episode import COUNTED, load
from tgrpo.record.recover import EPISODES

SIMULATION = "simulation.json"
"""Copy of the evaluation in simulation that the report shows beside the session."""
_EMBED_LIMIT = 12_000_000  # bytes of video in one report
_VIDEOS = 8
_SEARCH = re.compile(r'<script type="application/json" id="numbers">(.*?)</script>', re.DOTALL)
_TOLERANCE = 1e-9  # relative; the order of sums may differ between machines


def write(path: Path, output: Path | None = None, simulation: Path | None = None) -> Path:
    """Writes the report of a session.

    Args:
        path: The session folder.
        output: The file; ``report.html`` in the session folder by default.
        simulation: Evaluation JSON to be shown beside the session; it is copied into the session folder.

    Returns:
        The file.

    Raises:
        SettingsError: The folder is no session, or the evaluation is none.
        CheckpointError: The disk is full.
    """
    if simulation is not None:
        files.write_json(path / SIMULATION, eval_result.read(simulation))
    numbers = session_numbers.of_session(path)
    _films(path, numbers["rows"])
    target = output or path / "report.html"
    files.write_text(target, render(path, numbers))
    return target


def verify(path: Path, report: Path | None = None) -> list[str]:
    """Recomputes every number of a report from the episode files.

    Args:
        path: The session folder.
        report: The report; ``report.html`` in the session folder by default.

    Returns:
        What differs, one line each; empty if nothing does.

    Raises:
        SettingsError: There is no report, or it carries no numbers.
    """
    target = report or path / "report.html"
    try:
        text = target.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise SettingsError(f"{target}: no such file. Write it with 'tgrpo report {path}'.") from error
    match = _SEARCH.search(text)
    if match is None:
        raise SettingsError(f"{target} carries no numbers, so it is no report of a session.")
    numbers = session_numbers.of_session(path)
    found = differences(json.loads(match[1]), json.loads(json.dumps(numbers)))
    if not found and text != render(path, numbers):
        found = ["the text of the report is not what its numbers give; it was edited, or made by another version"]
    return found


def print_verification(path: Path, report: Path | None, console: Console) -> int:
    """Prints what :func:`verify` finds.

    Returns:
        0 if nothing differs, 1 otherwise.
    """
    found = verify(path, report)
    for line in found:
        console.print(f"differs: {line}", markup=False, style="red")
    if not found:
        console.print("Verified: every number of the report follows from the episode files.")
    return 1 if found else 0


def differences(claimed: Any, computed: Any, where: str = "numbers") -> list[str]:
    """Leaves at which two JSON values differ, as ``place: claimed, computed``."""
    if isinstance(claimed, dict) and isinstance(computed, dict):
        names = [*claimed, *(name for name in computed if name not in claimed)]
        pairs = [(f"{where}.{name}", claimed.get(name), computed.get(name)) for name in names]
    elif isinstance(claimed, list) and isinstance(computed, list) and len(claimed) == len(computed):
        pairs = [(f"{where}[{i}]", a, b) for i, (a, b) in enumerate(zip(claimed, computed, strict=True))]
    else:
        if _same(claimed, computed):
            return []
        return [f"{where}: the report says {claimed!r}, the files give {computed!r}"]
    return [line for place, a, b in pairs for line in differences(a, b, place)]


def render(path: Path, numbers: Mapping[str, Any]) -> str:
    """The report as HTML text.

    Args:
        path: The session folder, for its videos and provenance.
        numbers: See :func:`tgrpo.record.session_numbers.numbers`.
    """
    provenance = _json(path / "provenance.json") or {}
    simulation = _json(path / SIMULATION)
    return report_text.template("session.html.j2").render(
        numbers=numbers,
        embedded=Markup(json.dumps(numbers, allow_nan=False).replace("<", "\\u003c")),
        title=numbers["name"] or "Session",
        date=str(provenance.get("date", ""))[:10],
        rates=_rates(numbers, simulation),
        simulation=simulation,
        paths=[_e_path(one, numbers["stop_at"]) for one in numbers["comparisons"]],
        verdicts=[_verdict(one, numbers["stop_at"]) for one in numbers["comparisons"]],
        interventions=_intervention_chart(numbers["interventions"]),
        seconds=_over_episodes(numbers["rows"], "time_to_success", "time to success", numbers["policies"]),
        lag=_over_episodes(numbers["rows"], "lag", "lag", numbers["policies"], 1000),
        jerk=_over_episodes(numbers["rows"], "jerk", "jerk", numbers["policies"]),
        videos=_videos(path, numbers["rows"]),
        provenance=report_text.provenance_rows(provenance),
        packages=provenance.get("packages", {}),
        p_text=report_text.p_text,
    )


def _rates(numbers: Mapping[str, Any], simulation: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """One chart of success rates for each task, simulation beside robot."""
    tasks = {task["task"]: task["name"] for policy in numbers["policies"] for task in policy["tasks"]}
    simulated = {task["task"]: task for task in (simulation or {}).get("tasks", [])}
    found = []
    for number, name in sorted(tasks.items()):
        rows = [("simulation", simulated[number])] if number in simulated else []
        rows += [(one["name"], task) for one in numbers["policies"] for task in one["tasks"] if task["task"] == number]
        bars = [(_short(label), task["rate"], tuple(task["wilson"])) for label, task in rows]
        chart = charts.interval_chart(bars, f"success rates of {name}", left=170, pitch=34)
        counts = [(label, f"{task['successes']}/{task['n']}", _percents(task["wilson"])) for label, task in rows]
        found.append({"name": name.replace("_", " "), "chart": Markup(chart), "counts": counts})
    return found


def _verdict(one: Mapping[str, Any], threshold: float) -> str:
    """What a comparison says, in plain words."""
    points = f"{100 * one['difference']:+.1f} points"
    low, high = (f"{100 * bound:+.1f}" for bound in one["difference_interval"])
    claims = {
        "better": f"{one['policy']} is better than {one['baseline']}",
        "worse": f"{one['policy']} is worse than {one['baseline']}",
        "undecided": f"No difference between {one['policy']} and {one['baseline']} can be claimed yet",
    }
    when = f", decided after {one['decided_after']} pairs" if one["decided_after"] else ""
    last = one["e_better"][-1] if one["e_better"] else 1.0
    facts = f"{points} (95 % interval {low} to {high}), e-value {charts.number(last)}, claimed at {threshold:g}"
    if one["paired"]:
        facts += f", exact McNemar p {report_text.p_text(one['mcnemar_p'])}; {one['gained']} start states gained"
        facts += f" and {one['lost']} lost of {one['pairs']}"
    else:
        facts += f"; no shared start states, probability of being better {one['probability_better']:.3f}"
    return f"{claims[one['verdict']]}{when}: {facts}."


def _e_path(one: Mapping[str, Any], threshold: float) -> Markup:
    """E-values after each pair, on a logarithmic axis, with the value at which a difference is claimed."""
    better = [1.0, *one["e_better"]]
    x = [float(index) for index in range(len(better))]
    series = [Series("claimed at", [0.0, x[-1] or 1.0], [threshold, threshold], 5), Series("better", x, better, 0)]
    if one["paired"]:
        series.append(Series("worse", x, [1.0, *one["e_worse"]], 1))
    # Below this an e-value says nothing more; the axis would only get longer.
    floored = [Series(item.name, item.x, [max(1e-3, value or 0.0) for value in item.y], item.colour) for item in series]
    label = f"e-values of {one['policy']} against {one['baseline']}"
    chart = charts.line_chart(floored, log=True, label=label, x_name="pair", smoothed=False, width=430, height=210)
    return Markup(chart)


def _intervention_chart(interventions: Mapping[str, Any]) -> Markup:
    blocks = interventions["blocks"]
    if not blocks:
        return Markup("")
    series = Series(
        "interventions per episode",
        [(block["first"] + block["last"]) / 2 for block in blocks],
        [block["per_episode"] for block in blocks],
        3,
        [tuple(block["interval"]) for block in blocks],
    )
    return Markup(charts.line_chart([series], label=series.name, x_name="episode", width=430, height=210))


def _over_episodes(
    rows: Sequence[Mapping[str, Any]], key: str, name: str, policies: Sequence[Mapping[str, Any]], scale: float = 1.0
) -> Markup:
    """One dot for each evaluated episode, one colour for each policy."""
    series = []
    for colour, policy in enumerate(one["name"] for one in policies):
        counted = [row for row in rows if row["purpose"] == "eval" and row["outcome"] in COUNTED]
        mine = [row for row in counted if row["policy"] == policy and row[key] is not None]
        points = [(row["episode"], row[key] * scale) for row in mine]
        if points:
            x, y = zip(*points, strict=True)
            series.append(Series(policy, x, y, colour, [(value, value) for value in y]))
    return Markup(charts.line_chart(series, label=name, x_name="episode")) if series else Markup("")


def _chosen(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Episodes that are shown: of each policy some failures and a success, those that were not counted last."""
    order = {"failure": 0, "success": 1, "aborted": 2, "interrupted": 3, "infrastructure": 3}
    rank: dict[tuple[str, str], int] = {}
    ranked = []
    for row in rows:
        kind = row["policy"], row["outcome"]
        rank[kind] = rank.get(kind, 0) + 1
        if row["steps"] > 1:
            ranked.append((rank[kind], order[row["outcome"]], row["episode"], row))
    shown = [row for *_, row in sorted(ranked, key=lambda item: item[:3])[:_VIDEOS]]
    return sorted(shown, key=lambda row: int(row["episode"]))


def _film_path(path: Path, row: Mapping[str, Any]) -> Path:
    return path / "videos" / f"{row['episode']:06d}_{row['seal'][:8]}.mp4"


def _films(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Makes the videos that the report shows and that are not there yet."""
    for row in _chosen(rows):
        target = _film_path(path, row)
        if not target.exists():
            episode = load(path / EPISODES / f"{row['episode']:06d}")
            if episode.cameras():
                video.write_video(target, replay.film(episode, episode.cameras()[0]), fps=episode.info.rate)


def _videos(path: Path, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    room = _EMBED_LIMIT
    found = []
    for row in _chosen(rows):
        file = _film_path(path, row)
        if not file.exists():
            continue
        size = file.stat().st_size
        source = video.data_uri(file) if size <= room else f"videos/{file.name}"
        room -= size if size <= room else 0
        found.append({"source": source, **{name: row[name] for name in ("episode", "policy", "outcome", "reason")}})
    return found


def _json(path: Path) -> dict[str, Any] | None:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, (int, float)) and isinstance(b, (int, float)) and not isinstance(a, bool):
        return math.isclose(a, b, rel_tol=_TOLERANCE, abs_tol=1e-12)
    return bool(a == b)


def _short(label: str, limit: int = 22) -> str:
    return label if len(label) <= limit else label[: limit - 1] + "…"


def _percents(interval: Sequence[float]) -> str:
    return eval_result.interval_text(interval)
