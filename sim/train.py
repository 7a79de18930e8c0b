"""`tgrpo train`: fine-tunes a policy on one task, and says on held-out initial states whether it got better."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, Literal

import msgspec
import tyro
from rich.console import Console

from sim import dry_run, ranks
from sim.cluster.connect import ClusterSettings
from sim.control import Control
from sim.ranks import START
from sim.settings import PRESETS, TrainSettings, check, worker_count
from sim.training import Training
from tgrpo.errors import SettingsError, UnknownNameError
from tgrpo.policies import kind_of, sharding, shipped
from tgrpo.policies.trainable import Trainable, load_trainable
from tgrpo.record import files, provenance
from tgrpo.record.run_folder import RunFolder
from tgrpo.settings import from_builtins, to_builtins, validated
from tgrpo.spec import ActionSpec, check_compatible

SPACE = 200_000_000
"""Free disk space without which a run does not start [bytes]."""


class TrainCommand(TrainSettings, frozen=True):
    """Fine-tunes a policy on one LIBERO task with TGRPO."""

    checkpoint: Path | None = None
    """Folder of the checkpoint, if `policy` says its kind, as in `--policy openvla --checkpoint FOLDER`."""
    run_dir: Path | None = None
    """Run folder, where everything is written; a new one in `runs/`, named by the time, if not given."""
    resume: bool = False
    """Continue the run in the run folder, with the settings it has."""
    dry_run: bool = False
    """Only say what the run would take, after one optimiser step on made-up rollouts; nothing is written."""
    control: Literal["none", "stdin"] = "none"
    """Whether to obey `pause`, `resume`, `checkpoint` and `stop` on standard input; its end is a stop, too."""
    ray: bool = False
    """Play on the machines of a Ray cluster instead of this machine alone; `workers` is then not asked."""
    cluster: ClusterSettings = ClusterSettings()
    """Which cluster."""

    def settings(self) -> TrainSettings:
        """The run's settings, without what only concerns this command.

        Raises:
            SettingsError: The checkpoint is of another kind than `policy` says.
            CheckpointError: It is none.
        """
        settings = TrainSettings(**{name: getattr(self, name) for name in TrainSettings.__struct_fields__})
        if self.checkpoint is None:
            return settings
        kind = kind_of(self.checkpoint)
        if kind != self.policy:
            raise SettingsError(
                f"{self.checkpoint} is of the kind {kind!r}, not {self.policy!r}: give that as --policy."
            )
        return msgspec.structs.replace(settings, policy=str(self.checkpoint))


def parse(argv: list[str]) -> TrainCommand:
    """Reads the command line; its options change what the preset says.

    Raises:
        UnknownNameError: There is no such preset.
    """
    preset = PRESETS[_preset(argv)]
    default = TrainCommand(**{name: getattr(preset, name) for name in TrainSettings.__struct_fields__})
    return tyro.cli(TrainCommand, prog="tgrpo train", args=argv, default=default)


def main(argv: list[str]) -> int:
    """``tgrpo train``."""
    command = parse(argv)  # in each process, so that --help or a mistake ends them all
    with ranks.group():
        return ranks.follow() if sharding.rank() else _lead(command)


def _lead(command: TrainCommand) -> int:
    """The command in the process that decides."""
    console, control = Console(), Control()
    if command.resume and command.run_dir is None:
        raise SettingsError("--resume needs --run-dir: the folder of the run to continue.")
    if command.dry_run and sharding.world() > 1:
        raise SettingsError("--dry-run rehearses one process: start it without torchrun.")
    if command.ray and sharding.world() > 1:
        raise SettingsError("--ray gives rollouts to one learner: start it without torchrun.")
    if command.cluster != ClusterSettings() and not command.ray:
        raise SettingsError("--cluster.* says which Ray cluster plays, and needs --ray.")
    if command.dry_run:
        settings = command.settings()
        dry_run.show(dry_run.rehearse(startable(settings), settings), settings, console)
        return 0
    folder = command.run_dir or Path(time.strftime("runs/%Y%m%d-%H%M%S"))
    files.require_space(folder, SPACE)
    with RunFolder.resume(folder) if command.resume else _begun(folder, command.settings()) as run:
        settings = from_builtins(run.read_settings(), TrainSettings, source=str(folder / "settings.yaml"))
        if command.resume:
            refuse_changes(command.settings(), settings)
            files.verify_folder(folder / START)
        if command.control == "stdin":
            control.listen(sys.stdin.fileno())
        control.catch_interrupts()
        cluster = validated(command.cluster) if command.ray else None
        summary = Training(settings, run, control, console, cluster).execute()
    console.print(verdict(summary), highlight=False, soft_wrap=True)
    console.print(f"Report: {folder / 'report.html'}", highlight=False, soft_wrap=True)
    return 0


def startable(settings: TrainSettings) -> Trainable:
    """The policy to start from, once everything is known to fit together.

    Raises:
        SettingsError: The settings contradict each other, the task or the policy.
        CheckpointError: The policy cannot be read.
    """
    check(validated(settings))
    ranks.check(settings)
    policy = load_trainable(shipped(settings.policy))
    check_compatible(policy.spec.action, ActionSpec())
    # A policy of single actions has no chunk to execute a part of.
    if settings.execute > policy.spec.chunk > 1:
        raise SettingsError(f"execute is {settings.execute}, but the policy decides {policy.spec.chunk} actions.")
    return policy


def refuse_changes(given: TrainSettings, kept: TrainSettings) -> None:
    """Refuses to continue a run with other settings than it was begun with.

    Args:
        given: What the command line asks for; what equals its preset's default counts as not asked for.
        kept: What the run has.

    Raises:
        SettingsError: They differ.
    """
    usual = _flat(to_builtins(PRESETS[given.preset])) | {"preset": TrainSettings().preset}
    asked, has = _flat(to_builtins(given)), _flat(to_builtins(kept))
    changed = [name for name in has if asked[name] != usual[name] and asked[name] != has[name]]
    if changed:
        listed = ", ".join(f"{name} is {has[name]!r} there and {asked[name]!r} here" for name in changed)
        raise SettingsError(
            f"--resume continues a run with the settings it has: {listed}. Leave these options out, or start a new run."
        )


def verdict(summary: dict[str, Any]) -> str:
    """One sentence about a finished or stopped run."""
    if not summary["finished"]:
        return "Stopped with a checkpoint; go on with --resume."
    before, after = summary["before"], summary["after"]
    return (
        f"Held-out success {before['successes']}/{before['n']} before, {after['successes']}/{after['n']} after "
        f"({summary['gained']} gained, {summary['lost']} lost, exact McNemar p = {summary['mcnemar_p']:.3g})."
    )


def _begun(folder: Path, settings: TrainSettings) -> RunFolder:
    """A new run folder with what the run depends on; nothing is written unless the run can start."""
    policy = startable(settings)
    run = RunFolder.create(folder)
    files.write_folder(folder / START, policy.save)
    provenance.save(folder, provenance.collect(seeds={"seed": settings.seed}))
    # How rollouts are split over workers decides their batches; a machine with other cores must not change that.
    run.write_settings(msgspec.structs.replace(settings, workers=worker_count(settings)))
    return run


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    """Nested settings by dotted names."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        inner = _flat(value) if isinstance(value, dict) else {}
        flat |= {f"{name}.{key}": item for key, item in inner.items()} or {name: value}
    return flat


def _preset(argv: list[str]) -> str:
    chosen = "fast"
    for word, following in zip(argv, [*argv[1:], ""], strict=True):
        name, equals, value = word.partition("=")
        if name == "--preset":
            chosen = value if equals else following
    if chosen not in PRESETS:
        raise UnknownNameError("preset", chosen, PRESETS)
    return chosen
