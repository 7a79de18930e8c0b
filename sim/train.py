"""`tgrpo train`: fine-tunes a policy on one task, and says on held-out initial states whether it got better.

The loop itself is :mod:`sim.loop`; here is what surrounds it: the run folder, evaluation before and after,
checkpoints, requests from outside and the report.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Literal

import tyro
from rich.console import Console

from sim import loop
from sim.console import Bar
from sim.control import Control
from sim.evaluate import outcomes
from sim.libero import MAX_STEPS, resolve_task, task_names
from sim.rollout import Unit, UnitResult
from sim.settings import PRESETS, TrainSettings, check, shipped, state_range, worker_count
from sim.vector import WorkerPool, WorkerSettings
from tgrpo.errors import CheckpointError, UnknownNameError
from tgrpo.learner import Learner
from tgrpo.policies.tiny import TinyPolicy
from tgrpo.record import eval_result, provenance, report, stats
from tgrpo.record.metrics import MetricsWriter
from tgrpo.record.run_folder import RunFolder, State
from tgrpo.record.video import write_video
from tgrpo.settings import from_builtins, validated

SPACE = 200_000_000
"""Free disk space without which a run does not start [bytes]."""


class Training:
    """One run, from its folder to its report."""

    def __init__(self, settings: TrainSettings, run: RunFolder, control: Control, console: Console) -> None:
        """Loads the policy and starts nothing yet.

        Args:
            settings: The run.
            run: Where everything is written.
            control: Requests from outside.
            console: Where a person watches.
        """
        check(settings)
        self.settings, self.run, self.control, self.console = settings, run, control, console
        self.task = resolve_task(settings.suite, settings.task)
        self.task_name = task_names(settings.suite)[self.task]
        policy = TinyPolicy.load(shipped(settings.policy))
        policy.exploration = settings.exploration
        self.learner = Learner(policy, settings.learner, temperature=settings.temperature, seed=settings.seed)
        self.iteration = 0
        self.totals = {"environment_steps": 0, "episodes": 0, "training": 0.0, "evaluation": 0.0}
        self._acting = Path(tempfile.mkdtemp(prefix="tgrpo-acting-"))

    def resume(self) -> None:
        """Continues from the newest intact checkpoint; without one, starts from the beginning."""
        if not self.run.checkpoints():
            return
        folder = self.run.latest_checkpoint()
        state = self.learner.load_state(folder)
        self.iteration, self.totals = state["iteration"], state["totals"]
        self.console.print(f"Resuming after iteration {self.iteration} from {folder}.")

    def execute(self) -> dict[str, Any]:
        """Runs to the end or to a stop; returns the content of ``summary.json``."""
        settings = WorkerSettings(mode=self.settings.mode, stop=self.settings.stop)
        try:
            with WorkerPool(worker_count(self.settings), settings) as pool:
                self._evaluate_once(pool, "before")
                self._train(pool)
                if not self.control.stopping:
                    self._evaluate_once(pool, "after")
        finally:
            shutil.rmtree(self._acting, ignore_errors=True)
        return self._finish()

    def _train(self, pool: WorkerPool) -> None:
        settings = self.settings
        resumed = self.iteration if self.run.checkpoints() else None
        with MetricsWriter(self.run.path, resume_after=resumed) as metrics:
            while self.iteration < settings.iterations and not self.control.stopping:
                self._status("training")
                started = time.monotonic()
                with Bar(
                    self.console, f"iteration {self.iteration + 1}/{settings.iterations}", self._episodes()
                ) as bar:
                    row = loop.iterate(
                        settings,
                        self.task,
                        self.iteration,
                        MAX_STEPS[settings.suite],
                        pool,
                        self._act(),
                        self.learner,
                        lambda result: self._show(result, bar),
                    )
                self.iteration += 1
                self._count(row, time.monotonic() - started)
                if settings.evaluate_every and self.iteration % settings.evaluate_every == 0:
                    result = self._evaluate(pool)
                    row["eval"] = {"successes": result["successes"], "n": result["n"]}
                metrics.write({"iteration": self.iteration, "seconds": self.totals["training"], **row})
                self._print_row(row)
                if self.iteration % settings.checkpoint_every == 0 or self.control.take_checkpoint():
                    self._checkpoint()
                if self.control.paused:
                    self._status("paused")
                    self.control.wait_while_paused()
            self._checkpoint()

    def _evaluate_once(self, pool: WorkerPool, when: Literal["before", "after"]) -> None:
        name = f"eval_{when}.json"
        if self.run.read_json(name) is not None:
            return
        if when == "before" and self.iteration:
            raise CheckpointError(f"{self.run.path / name} is missing, so an improvement cannot be shown; start anew.")
        self.run.write_json(name, self._evaluate(pool, f"evaluating {when}", when))

    def _evaluate(self, pool: WorkerPool, what: str = "evaluating", video: str = "") -> dict[str, Any]:
        settings = self.settings
        states = state_range(settings.held_out_states)
        self._status("evaluating")
        started = time.monotonic()
        units = [
            Unit(
                suite=settings.suite,
                task=self.task,
                init_state=state,
                execute=settings.execute,
                keep=False,
                film=bool(video) and place < 2,
                group=place,
            )
            for place, state in enumerate(states)
        ]
        with Bar(self.console, what, len(units)) as bar:
            results = pool.play(units, self._act(), lambda result: self._show(result, bar))
        for result in results:
            if result.frames:
                self._film(result, video)
        self.totals["evaluation"] += time.monotonic() - started
        return eval_result.summarise(
            outcomes(results),
            policy=settings.policy,
            suite=settings.suite,
            mode=settings.mode,
            names={self.task: self.task_name},
            provenance={},
        )

    def _act(self) -> Path:
        """Folder of the policy as it is now, for the workers."""
        folder = self._acting / f"{self.iteration:06d}"
        if not folder.exists():
            for old in self._acting.iterdir():
                shutil.rmtree(old)
            folder.mkdir()
            self.learner.export(folder)
        return folder

    def _checkpoint(self) -> None:
        def write(folder: Path) -> None:
            self.learner.export(folder)
            self.learner.save_state(folder, {"iteration": self.iteration, "totals": self.totals})

        self.run.save_checkpoint(self.iteration, write)
        self.run.prune(keep_last=2)

    def _finish(self) -> dict[str, Any]:
        before, after = (self.run.read_json(f"eval_{when}.json") for when in ("before", "after"))
        settings = self.settings
        summary: dict[str, Any] = {
            "schema": "tgrpo/summary/1",
            "suite": settings.suite,
            "task": self.task,
            "task_name": self.task_name,
            "init_states": {
                "train": list(state_range(settings.train_states)),
                "held_out": list(state_range(settings.held_out_states)),
            },
            "seed": settings.seed,
            "environment_steps": self.totals["environment_steps"],
            "episodes": self.totals["episodes"],
            "seconds": {
                "training": self.totals["training"],
                "evaluation": self.totals["evaluation"],
                "total": self.totals["training"] + self.totals["evaluation"],
            },
            "finished": after is not None,
        }
        for name, result in (("before", before), ("after", after)):
            summary[name] = None if result is None else {"successes": result["successes"], "n": result["n"]}
        if before is not None and after is not None:
            pairs = stats.paired(eval_result.outcomes(before), eval_result.outcomes(after))
            summary |= {
                "gained": pairs.gained,
                "lost": pairs.lost,
                "mcnemar_p": stats.mcnemar_exact(pairs.gained, pairs.lost),
            }
        self.run.write_json("summary.json", summary)
        report.write(self.run.path)
        self._status("finished")
        return summary

    def _count(self, row: dict[str, Any], seconds: float) -> None:
        self.totals["environment_steps"] += row["environment_steps"]
        self.totals["episodes"] += row["episodes"]
        self.totals["training"] += seconds

    def _episodes(self) -> int:
        return self.settings.groups * self.settings.group_size

    def _show(self, result: UnitResult, bar: Bar) -> None:
        bar.episode(result)
        last = result.trajectories[0]
        if result.frames:
            self.run.write_frame(result.frames[-1])
        elif last.observations:
            self.run.write_frame(next(iter(last.observations[-1].images.values())))

    def _film(self, result: UnitResult, when: str) -> None:
        outcome = "success" if result.trajectories[0].success else "failure"
        write_video(self.run.path / "videos" / f"{when}_state{result.unit.init_state:02d}_{outcome}.mp4", result.frames)

    def _print_row(self, row: dict[str, Any]) -> None:
        left = self.totals["training"] / self.iteration * (self.settings.iterations - self.iteration)
        held_out = f", held-out {row['eval']['successes']}/{row['eval']['n']}" if "eval" in row else ""
        self.console.print(
            f"iteration {self.iteration:3d}/{self.settings.iterations}: "
            f"success {row['success_rate']:4.0%}, return {row['return_mean']:6.1f}, length {row['length_mean']:5.0f}, "
            f"kl {row['kl']:.4f}, clipped {row['clip_fraction']:3.0%}, {row['steps_per_second']:.0f} steps/s"
            f"{held_out}; {left:.0f} s left",
            highlight=False,
        )

    def _status(self, state: State, message: str = "") -> None:
        self.run.write_status(state, self.iteration, self.settings.iterations, message)


class TrainCommand(TrainSettings, frozen=True):
    """Fine-tunes a policy on one LIBERO task with TGRPO."""

    run_dir: Path = Path("runs/latest")
    """Run folder; everything is written there."""
    resume: bool = False
    """Continue the run in the run folder, with the settings it has."""
    control: Literal["none", "stdin"] = "none"
    """Whether to obey `pause`, `resume`, `checkpoint` and `stop` on standard input."""

    def settings(self) -> TrainSettings:
        """The run's settings, without what only concerns this command."""
        return TrainSettings(**{name: getattr(self, name) for name in TrainSettings.__struct_fields__})


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
    console = Console()
    command = parse(argv)
    settings, folder = validated(command.settings()), command.run_dir
    check(settings)
    resolve_task(settings.suite, settings.task)
    control = Control()
    if command.control == "stdin":
        control.listen(sys.stdin)
    with RunFolder.resume(folder) if command.resume else RunFolder.create(folder) as run:
        if command.resume:
            settings = from_builtins(run.read_settings(), TrainSettings, source=str(folder / "settings.yaml"))
        else:
            run.write_settings(settings)
            provenance.save(folder, provenance.collect(seeds={"seed": settings.seed}))
        control.catch_interrupts()
        try:
            training = Training(settings, run, control, console)
            training.resume()
            summary = training.execute()
        except BaseException as error:
            run.write_status("failed", 0, settings.iterations, str(error))
            raise
    console.print(verdict(summary))
    console.print(f"Report: {folder / 'report.html'}", highlight=False)
    return 0


def verdict(summary: dict[str, Any]) -> str:
    """One sentence about a finished or stopped run."""
    if not summary["finished"]:
        return "Stopped with a checkpoint; go on with --resume."
    before, after = summary["before"], summary["after"]
    return (
        f"Held-out success {before['successes']}/{before['n']} before, {after['successes']}/{after['n']} after "
        f"({summary['gained']} gained, {summary['lost']} lost, exact McNemar p = {summary['mcnemar_p']:.3g})."
    )


def _preset(argv: list[str]) -> str:
    chosen = "fast"
    for word, following in zip(argv, [*argv[1:], ""], strict=True):
        name, equals, value = word.partition("=")
        if name == "--preset":
            chosen = value if equals else following
    if chosen not in PRESETS:
        raise UnknownNameError("preset", chosen, PRESETS)
    return chosen
