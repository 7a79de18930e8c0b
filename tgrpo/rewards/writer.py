"""Stage files written by a language model: asked, checked, corrected, and never executed.

Source: the TGRPO paper (arXiv 2506.08440) has a model write the reward from the task description, the objects'
positions and key poses of demonstrations. Here the answer is data in the schema of :mod:`tgrpo.rewards.spec`, so
nothing that a model says can do more than be a bad reward, and ``tgrpo reward audit`` finds those.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import msgspec
import yaml

from tgrpo.errors import SettingsError
from tgrpo.rewards.bddl import Problem, parse
from tgrpo.rewards.compile import instruction
from tgrpo.rewards.review import MAX_STAGES, offered_quantities, problems
from tgrpo.rewards.spec import StageFile
from tgrpo.settings import from_builtins

ATTEMPTS = 4
"""The first answer and three corrections."""
MAX_ANSWER = 40_000
"""Longest answer that is read [characters]."""

Ask = Callable[[str], str]
"""Sends a prompt to a model and returns its answer."""
Audit = Callable[[StageFile], Sequence[str]]
"""Plays a stage file on recorded rollouts and returns what is wrong with it."""


@dataclass(frozen=True)
class Task:
    """What a model is told."""

    suite: str
    task: str
    bddl: str
    """Definition of the task."""
    poses: str = ""
    """Positions of objects at the start and of the hand at key moments of demonstrations, as text."""
    example: str = ""
    """A stage file of another task, as YAML."""


@dataclass(frozen=True)
class Written:
    """An accepted stage file and how it came about."""

    stages: StageFile
    prompt: str
    """The first prompt."""
    rejected: tuple[tuple[str, ...], ...]
    """What was wrong with each answer before."""


def prompt(task: Task) -> str:
    """The question for a model."""
    problem = parse(task.bddl)
    names = ", ".join(sorted(offered_quantities(problem)))
    parts = [
        f"Write the dense reward of a robot task as a stage file in YAML. Task: {instruction(task.task)}.",
        "A stage file is data. It lists sub-goals, each with stages in order; a stage names the conditions under which "
        "it is reached (alternatives of conjunctions, each 'quantity < number' with < <= > >=), looser conditions "
        "under which it is kept, and shaping: quantities that fall ('near') or rise ('amount') on the way to it.",
        f"Use at most {MAX_STAGES} stages. The last stage of the sub-goals must be reached exactly at the conjuncts of "
        'the goal, for example ["predicate/on(a,b) >= 1"]. schema is tgrpo/stages/1, '
        f"suite is {task.suite}, task is {task.task}, language is {instruction(task.task)!r}.",
        f"Quantities of this scene: {names}. Derived: distance(A,B), distance_xy(A,B), lift(A), held(OBJECT); "
        "A and B are eef, objects, regions or your own references. Positions are in metres.",
        f"Definition of the task:\n{task.bddl.strip()}",
    ]
    parts += [f"Positions in demonstrations:\n{task.poses}"] if task.poses else []
    parts += [f"A stage file of another task:\n{task.example}"] if task.example else []
    return "\n\n".join([*parts, "Answer with the YAML of the stage file only."])


def correction(question: str, answer: str, errors: Sequence[str]) -> str:
    """The question after an answer that was refused."""
    listed = "\n".join(f"- {error}" for error in errors)
    return (
        f"{question}\n\nYour last answer was:\n{answer[:MAX_ANSWER]}\n\nIt was refused:\n{listed}\n\n"
        "Correct this and answer with the whole stage file in YAML only."
    )


def read(answer: str, task: Task) -> StageFile:
    """Turns an answer into a stage file of the task; other suites, tasks and goals are refused by the review.

    Raises:
        SettingsError: The answer is too long, is not YAML or does not fit the schema.
    """
    if len(answer) > MAX_ANSWER:
        raise SettingsError(f"the answer has {len(answer)} characters; at most {MAX_ANSWER} are read.")
    fenced = re.search(r"```(?:ya?ml|json)?\s*\n(.*?)```", answer, re.DOTALL)
    text = fenced.group(1) if fenced else answer
    if re.search(r"(?m)(^|[\s\[{,:-])[&*]\w", text):
        raise SettingsError("anchors and aliases are not allowed; write everything out.")
    try:
        data: Any = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise SettingsError(f"the answer is not valid YAML: {str(error)[:500]}") from error
    stages = from_builtins(data, StageFile, source="answer")
    if (stages.suite, stages.task) != (task.suite, task.task):
        raise SettingsError(f"suite and task are {stages.suite}/{stages.task}, not {task.suite}/{task.task}.")
    return stages


def review(answer: str, task: Task, problem: Problem, audit: Audit) -> tuple[StageFile | None, list[str]]:
    """A stage file or what is wrong with the answer; it is audited once it is valid."""
    try:
        stages = read(answer, task)
    except (SettingsError, msgspec.MsgspecError) as error:
        return None, [str(error)]
    found = problems(stages, problem)
    return stages, found if found else list(audit(stages))


def write(task: Task, ask: Ask, audit: Audit = lambda stages: ()) -> Written:
    """Asks until an answer passes, :data:`ATTEMPTS` times at most.

    Args:
        task: What the model is told.
        ask: Sends a prompt to the model.
        audit: Says what is wrong with a valid stage file on recorded rollouts.

    Raises:
        SettingsError: No answer passed; the message has what was wrong with the last one.
    """
    question, problem = prompt(task), parse(task.bddl)
    current, rejected = question, list[tuple[str, ...]]()
    for _ in range(ATTEMPTS):
        answer = ask(current)
        stages, errors = review(answer, task, problem, audit)
        if stages is not None and not errors:
            return Written(stages, question, tuple(rejected))
        rejected.append(tuple(errors))
        current = correction(question, answer, errors)
    raise SettingsError(
        f"none of {ATTEMPTS} answers is a usable stage file of {task.suite}/{task.task}. The last one: "
        f"{'; '.join(rejected[-1])} Try another model, or compile the stages with 'tgrpo reward compile'."
    )


def document(written: Written, model: str, now: datetime | None = None) -> str:
    """The stage file as YAML, with where it comes from in comments."""
    when = (now or datetime.now(timezone.utc)).isoformat(timespec="seconds")
    head = [f"Written by the model {model!r} on {when}, answer {len(written.rejected) + 1}.", "Prompt:"]
    lines = [*head, *(f"  {line}" for line in written.prompt.splitlines())]
    comments = "".join(f"# {line}".rstrip() + "\n" for line in lines)
    body = yaml.safe_dump(msgspec.to_builtins(written.stages), sort_keys=False, allow_unicode=True)
    return comments + body
