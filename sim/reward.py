"""`tgrpo reward`: audits the stage reward of a task, compiles one from its BDDL, or has a language model write one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
import tyro
from rich.console import Console

from sim import audit, libero, stock
from sim.settings import check_states, state_range
from tgrpo.errors import SettingsError
from tgrpo.policies import load, shipped
from tgrpo.policies.base import Policy
from tgrpo.rewards import StageFile, load_stages, read_stages, writer
from tgrpo.rewards.audit import Verdict, judge
from tgrpo.rewards.bddl import parse
from tgrpo.rewards.compile import compile_bddl
from tgrpo.rewards.endpoint import Endpoint, ask
from tgrpo.rewards.review import problems
from tgrpo.settings import Strict, dump_yaml, validated


class RewardCommand(Strict, frozen=True):
    """Audits, compiles or writes the stage reward of a LIBERO task."""

    action: Annotated[Literal["audit", "compile", "write"], tyro.conf.Positional]
    """`audit` plays rollouts and judges; `compile` reads the BDDL goal; `write` asks a language model."""
    task: Annotated[str, tyro.conf.Positional]
    """Index or name of the task."""
    suite: str = "libero_spatial"
    """LIBERO suite of the task."""
    stages: Path | None = None
    """Stage file to audit; the shipped one if not given."""
    states: Annotated[str, msgspec.Meta(pattern=r"^\d+-\d+$")] = "0-4"
    """Initial states to play from."""
    policy: str = "tiny-libero"
    """Checkpoint that plays besides the expert and chance; `none` leaves it out."""
    max_steps: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Step limit of an episode; the suite's own if not given."""
    out: Path | None = None
    """File for the timeline (`audit`, HTML) or for the stage file (YAML)."""
    endpoint: Endpoint = Endpoint(model="")
    """Model to ask."""


def main(argv: list[str]) -> int:
    """Runs `tgrpo reward`; the exit code is 1 if an audit finds something."""
    command = validated(tyro.cli(RewardCommand, args=argv, prog="tgrpo reward"))
    console = Console(highlight=False, soft_wrap=True)
    task = libero.resolve_task(command.suite, command.task)
    name = libero.task_names(command.suite)[task]
    bddl = Path(stock.bddl_file(command.suite, task)).read_text(encoding="utf-8")
    if command.action == "compile":
        stages = compile_bddl(bddl, command.suite, name)
        out = command.out or Path(f"{name}.yaml")
        dump_yaml(stages, out)
        console.print(f"Wrote {out}.", markup=False)
        return 0
    check_states(command.suite, task, command.states)
    if command.action == "write":
        return _write(command, task, bddl, console)
    stages = read_stages(command.stages) if command.stages else load_stages(command.suite, name)
    found = problems(stages, parse(bddl))
    if found:
        raise SettingsError(f"the stage file does not fit {command.suite}/{name}: {' '.join(found)}")
    verdict = audited(command, task, stages, command.out)
    console.print(describe(name, verdict), markup=False)
    return 1 if verdict.problems else 0


def describe(task: str, verdict: Verdict) -> str:
    """The verdict in words."""

    def number(value: float | None) -> str:
        return "unknown" if value is None else f"{value:.3f}"

    lines = [
        f"{task}: {'FAILED' if verdict.problems else 'passed'}",
        f"  rollouts {verdict.rollouts}, successes {verdict.successes}",
        f"  score of initial states at most {verdict.start:.3f}, of success states at least {number(verdict.end)}",
        f"  rank correlation of progress with success {number(verdict.correlation)}, "
        f"pairs in order {number(verdict.ordered)}",
        *(f"  {problem}" for problem in verdict.problems),
    ]
    return "\n".join(lines)


def audited(command: RewardCommand, task: int, stages: StageFile, out: Path | None = None) -> Verdict:
    """Plays the rollouts of an audit and judges.

    Args:
        command: Which, and from where.
        task: Index of the task.
        stages: Its stage file.
        out: File for the timeline, if one is wanted.
    """
    policy: Policy | None = None if command.policy == "none" else load(shipped(command.policy))
    size = 224 if policy is None else policy.spec.observation.size
    cameras = ("agentview",) if policy is None else policy.spec.observation.cameras
    env = libero.make(command.suite, task, mode="fast", cameras=cameras, size=size)
    found = audit.rollouts(env, stages, state_range(command.states), policy, command.max_steps)
    env.close()
    if out is not None:
        audit.write_timeline(out, env.name, found)
    return judge(found)


def _write(command: RewardCommand, task: int, bddl: str, console: Console) -> int:
    if not command.endpoint.model:
        raise SettingsError("no model named; add --endpoint.model NAME (and --endpoint.url for a server of your own).")
    env = libero.make(command.suite, task, mode="fast")
    request = writer.Task(command.suite, env.name, bddl, poses=audit.poses(env, state_range(command.states)[0]))
    written = writer.write(
        request,
        lambda prompt: ask(command.endpoint, prompt),
        lambda stages: audited(command, task, stages).problems,
    )
    out = command.out or Path(f"{env.name}.yaml")
    out.write_text(writer.document(written, command.endpoint.model), encoding="utf-8")
    console.print(f"Wrote {out} after {len(written.rejected)} corrections.", markup=False)
    return 0
