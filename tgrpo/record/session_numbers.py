"""The numbers of a session: a pure function of its episodes' rows, shown by the report and recomputed to verify it."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, get_args

from tgrpo.errors import RecordingError
from tgrpo.record import episode_row, exact, sequential
from tgrpo.record.episode import COUNTED, Outcome, load
from tgrpo.record.eval_result import rate
from tgrpo.record.exact import clopper_pearson, count_rate, median_interval
from tgrpo.record.recover import begun
from tgrpo.record.session import SessionInfo, closed_episodes, read_info
from tgrpo.record.stats import Paired, macro

SCHEMA = "tgrpo/session-numbers/1"
_BLOCKS = 10  # of episodes, in the chart of interventions at most
_log = logging.getLogger(__name__)

Row = Mapping[str, Any]


def of_session(path: Path) -> dict[str, Any]:
    """The numbers of a session, from its episode files and nothing else.

    An episode that cannot be trusted is named and no number contains it: which of them are damaged has nothing to do
    with how they ended.

    Raises:
        SettingsError: The folder is no session.
    """
    rows, damaged = [], []
    for folder in closed_episodes(path):
        try:
            rows.append(episode_row.row(load(folder, cameras=())))
        except RecordingError as error:
            _log.warning("left out of all numbers: %s", error)
            # Without the session's place, so that a copy elsewhere has the same numbers.
            damaged.append({"episode": int(folder.name), "problem": str(error).replace(f"{path}/", "")})
    return numbers(rows, read_info(path), len(begun(path)), damaged)


def numbers(rows: Sequence[Row], info: SessionInfo, commanded: int, damaged: Sequence[Row] = ()) -> dict[str, Any]:
    """The numbers of a session.

    Success rates count evaluation episodes with the outcome success or failure. One in which a human took over is no
    success of the policy. Infrastructure failures, aborts and interruptions are listed and never counted.

    Args:
        rows: One for each closed episode, see :func:`tgrpo.record.episode_row.row`, in order.
        info: The session.
        commanded: Episodes that were begun, from the journal.
        damaged: ``episode`` and ``problem`` of each closed episode that has no row because it cannot be read.

    Returns:
        A JSON-ready dict.
    """
    counted = [row for row in rows if row["outcome"] in COUNTED]
    evaluated = _first_of_each([row for row in counted if row["purpose"] == "eval"])
    policies = _in_order(row["policy"] for row in evaluated)
    baseline = next((name for name in policies if info.baseline in (name, name.partition(" ")[0])), None)
    baseline = baseline or next(iter(policies), None)
    others = [name for name in policies if name != baseline]
    return {
        "schema": SCHEMA,
        "name": info.name,
        "stop_at": info.stop_at,
        "episodes": {
            "begun": commanded,
            "closed": len(rows) + len(damaged),
            "damaged": [dict(one) for one in damaged],
            "outcomes": _outcomes(rows),
            "not_counted": [
                {name: row[name] for name in ("episode", "policy", "outcome", "reason")}
                for row in rows
                if row["outcome"] not in COUNTED
            ],
        },
        "policies": [_policy(name, [row for row in evaluated if row["policy"] == name]) for name in policies],
        "comparisons": [_comparison(str(baseline), other, evaluated, info.stop_at) for other in others],
        "interventions": _interventions([row for row in counted if row["purpose"] == "correct"] or counted),
        "safety": _safety(rows),
        "warnings": _warnings(rows, evaluated, commanded, damaged),
        "rows": [dict(row) for row in rows],
    }


def _outcomes(rows: Sequence[Row]) -> dict[str, int]:
    found = Counter(row["outcome"] for row in rows)
    return {name: found[name] for name in get_args(Outcome) if found[name]}


def _first_of_each(rows: Sequence[Row]) -> list[Row]:
    """Without repetitions: of one policy, task and start state the first episode counts."""
    seen = set()
    found = []
    for row in rows:
        key = row["policy"], row["task"], row["pair"]
        if row["pair"] is None or key not in seen:
            found.append(row)
        seen.add(key)
    return found


def _policy(name: str, rows: Sequence[Row]) -> dict[str, Any]:
    tasks = [_task([row for row in rows if row["task"] == task]) for task in sorted({row["task"] for row in rows})]
    mean, interval = macro([(task["successes"], task["n"]) for task in tasks])
    seconds = [row["time_to_success"] for row in rows if row["autonomous_success"]]
    successes = sum(row["autonomous_success"] for row in rows)
    return {
        "name": name,
        **rate(successes, len(rows)),
        "clopper_pearson": list(clopper_pearson(successes, len(rows))),
        "macro": mean,
        "macro_interval": list(interval),
        "assisted": sum(row["outcome"] == "success" and row["human_steps"] > 0 for row in rows),
        "tasks": tasks,
        "seconds_to_success": _median(seconds),
        "lag": _median([row["lag"] for row in rows if row["lag"] is not None]),
        "jerk": _median([row["jerk"] for row in rows if row["jerk"] is not None]),
        "latency_p50": _median([row["latency_p50"] for row in rows if row["latency_p50"] is not None]),
        "latency_p95": max((row["latency_p95"] for row in rows if row["latency_p95"] is not None), default=None),
        "failures": dict(Counter(row["reason"] or "unnamed" for row in rows if row["outcome"] == "failure")),
    }


def _task(rows: Sequence[Row]) -> dict[str, Any]:
    names = rows[0]["stage_names"]
    return {
        "task": rows[0]["task"],
        "name": rows[0]["task_name"],
        **rate(sum(row["autonomous_success"] for row in rows), len(rows)),
        "stages": [
            {"name": name, **rate(sum(len(row["stages"]) > index for row in rows), len(rows))}
            for index, name in enumerate(names)
        ],
    }


def _median(values: Sequence[float]) -> dict[str, Any]:
    interval = median_interval(values)
    return {
        "n": len(values),
        "median": median(values) if values else None,
        "interval": None if interval is None else list(interval),
    }


def _comparison(first: str, second: str, rows: Sequence[Row], threshold: float) -> dict[str, Any]:
    """Two policies: paired where they share start states, in blocks of one episode each where they do not."""
    a, b = ([row for row in rows if row["policy"] == name] for name in (first, second))
    pairs = _pairs(a, b)
    if pairs:
        return {"baseline": first, "policy": second, "paired": True, **_paired(pairs, threshold)}
    short = min(len(a), len(b))
    outcomes = [[row["autonomous_success"] for row in group] for group in (a, b)]
    counts = [(sum(group), len(group)) for group in outcomes]
    values = list(sequential.block_path(outcomes[0][:short], outcomes[1][:short]))
    crossed = next((index + 1 for index, value in enumerate(values) if value >= threshold), None)
    return {
        "baseline": first,
        "policy": second,
        "paired": False,
        "difference": counts[1][0] / counts[1][1] - counts[0][0] / counts[0][1],
        "difference_interval": list(exact.newcombe(counts[0], counts[1])),
        "probability_better": exact.probability_better(counts[0], counts[1]),
        "e_better": values,
        "decided_after": crossed,
        "verdict": "better" if crossed else "undecided",
    }


def _paired(pairs: Sequence[tuple[bool, bool]], threshold: float) -> dict[str, Any]:
    table = Paired(
        both=sum(a and b for a, b in pairs),
        gained=sum(b and not a for a, b in pairs),
        lost=sum(a and not b for a, b in pairs),
        neither=sum(not a and not b for a, b in pairs),
    )
    path = sequential.e_path(pairs)
    decided = path.decided(threshold)
    return {
        "pairs": table.pairs,
        **{name: getattr(table, name) for name in ("both", "gained", "lost", "neither")},
        "difference": table.difference,
        "difference_interval": list(table.interval()),
        "mcnemar_p": table.p,
        "e_better": list(path.better),
        "e_worse": list(path.worse),
        "decided_after": decided[0] if decided else None,
        "verdict": decided[1] if decided else "undecided",
    }


def _pairs(a: Sequence[Row], b: Sequence[Row]) -> list[tuple[bool, bool]]:
    """Outcomes from shared start states, in the order in which the later episode of each pair was run."""
    first, second = ({(row["task"], row["pair"]): row for row in rows if row["pair"] is not None} for rows in (a, b))
    shared = sorted(first.keys() & second.keys(), key=lambda key: max(first[key]["episode"], second[key]["episode"]))
    return [(first[key]["autonomous_success"], second[key]["autonomous_success"]) for key in shared]


def _interventions(rows: Sequence[Row]) -> dict[str, Any]:
    """Interventions per episode over the session, in blocks of consecutive episodes, and first half against second.

    Of the correction episodes if there are any: nobody is meant to take over in an evaluation.
    """
    size = max(1, math.ceil(len(rows) / _BLOCKS))
    blocks = [rows[start : start + size] for start in range(0, len(rows), size)]
    half = len(rows) // 2
    halves = [(sum(row["interventions"] for row in part), len(part)) for part in (rows[:half], rows[half:])]
    return {
        "total": sum(row["interventions"] for row in rows),
        "blocks": [_block(block) for block in blocks],
        "first_half": {"interventions": halves[0][0], "episodes": halves[0][1]},
        "second_half": {"interventions": halves[1][0], "episodes": halves[1][1]},
        "halves_p": exact.rates_differ(*halves),
    }


def _block(rows: Sequence[Row]) -> dict[str, Any]:
    total, steps = sum(row["interventions"] for row in rows), sum(row["steps"] for row in rows)
    return {
        "first": rows[0]["episode"],
        "last": rows[-1]["episode"],
        "episodes": len(rows),
        "interventions": total,
        "per_episode": total / len(rows),
        "interval": list(count_rate(total, len(rows))),
        "human_share": sum(row["human_steps"] for row in rows) / steps if steps else 0.0,
    }


def _safety(rows: Sequence[Row]) -> dict[str, Any]:
    """Holds and faults of all episodes, by reason."""
    holds: dict[str, dict[str, Any]] = {}
    faults: Counter[str] = Counter()
    for row in rows:
        faults.update(row["faults"])
        for reason, hold in row["holds"].items():
            one = holds.setdefault(reason, {"count": 0, "seconds": 0.0, "episodes": 0})
            one["count"] += hold["count"]
            one["seconds"] += hold["seconds"]
            one["episodes"] += 1
    return {"holds": holds, "faults": dict(faults)}


def _warnings(rows: Sequence[Row], evaluated: Sequence[Row], commanded: int, damaged: Sequence[Row]) -> list[str]:
    found = [f"episode {one['episode']} is damaged and in no number: {one['problem']}" for one in damaged]
    there = len(rows) + len(damaged)
    if commanded != there:
        found.append(f"{commanded} episodes were begun and {there} are there; run 'tgrpo recover'.")
    chosen = {row["episode"] for row in evaluated}
    repeated = [
        row["episode"]
        for row in rows
        if row["purpose"] == "eval" and row["outcome"] in COUNTED and row["episode"] not in chosen
    ]
    if repeated:
        found.append(f"episodes {_list(repeated)} repeat a start state, so they are listed and not counted.")
    assisted = [row["episode"] for row in evaluated if row["human_steps"] > 0]
    if assisted:
        found.append(f"in the evaluation episodes {_list(assisted)} a human took over: no success of the policy.")
    lossy = [row["episode"] for row in rows if row["dropped"] or row["incomplete"]]
    if lossy:
        found.append(f"the recordings of episodes {_list(lossy)} have gaps; their labels count all the same.")
    return found


def _list(values: Iterable[int]) -> str:
    return ", ".join(map(str, values))


def _in_order(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
