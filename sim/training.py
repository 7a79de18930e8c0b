"""One training run: evaluation before and after, checkpoints, requests from outside, the report.

The loop itself is :mod:`sim.loop`; here is what surrounds it.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console

from sim import film, loop, ranks
from sim.cluster.connect import LOOPBACK, ClusterSettings
from sim.cluster.pool import RayPool
from sim.console import Bar
from sim.control import Control
from sim.evaluate import outcomes, side_by_side
from sim.libero import resolve_task, task_names
from sim.pool import CancelledRolloutsError, Pool
from sim.ranks import START
from sim.rollout import Unit, UnitResult
from sim.settings import TrainSettings, state_range, step_limit
from sim.shared import SharedPolicy, acting
from sim.vector import WorkerPool
from tgrpo.algo.samplers import Outcome
from tgrpo.errors import CheckpointError
from tgrpo.learner import Learner
from tgrpo.policies import sharding
from tgrpo.policies.trainable import load_trainable
from tgrpo.record import eval_result, provenance, report, stats
from tgrpo.record.metrics import MetricsWriter
from tgrpo.record.run_folder import RunFolder, State
from tgrpo.rewards import load_stages

FILMED = 2
"""Evaluation episodes that become videos."""
STOPPED = "stopped with a checkpoint; go on with --resume"


class Training:
    """One run, from its folder to its report.

    Attributes:
        iteration: Iterations that are done.
        learner: The policy in training; there once :meth:`execute` has begun.
    """

    learner: Learner

    def __init__(
        self,
        settings: TrainSettings,
        run: RunFolder,
        control: Control,
        console: Console,
        cluster: ClusterSettings | None = None,
    ) -> None:
        """Starts nothing yet.

        Args:
            settings: The run.
            run: Where everything is written; it has the policy to start from.
            control: Requests from outside.
            console: Where a person watches.
            cluster: Plays the rollouts; the workers of this machine do if not given.
        """
        self.settings, self.run, self.control, self.console, self._cluster = settings, run, control, console, cluster
        self.task = resolve_task(settings.suite, settings.task)
        self.task_name = task_names(settings.suite)[self.task]
        self.iteration = 0
        self.totals = {"environment_steps": 0, "simulated_steps": 0, "episodes": 0, "training": 0.0, "evaluation": 0.0}
        self.memory = loop.Memory()
        self._saved: int | None = None
        self._shared: SharedPolicy | None = None
        self._stop_noticed = False
        # Hidden like every file under construction, so that a killed run's is removed by the next one.
        self._acting = run.path / ".tmp-acting"

    def execute(self, pool: Pool | None = None) -> dict[str, Any]:
        """Runs to the end or to a stop, from the newest checkpoint if there is one.

        Args:
            pool: Workers to use; its own by default.

        Returns:
            The content of ``summary.json``.

        Raises:
            TgrpoError: The run failed; its status says so, and what was saved can be continued.
        """
        try:
            self._prepare()
            with contextlib.ExitStack() as stack:
                if not self.learner.policy.merges:
                    host = LOOPBACK if self._cluster is None else self._cluster.host
                    self._shared = stack.enter_context(
                        SharedPolicy(self.learner.policy, self.settings.group_size, host)
                    )
                if pool is None:
                    pool = stack.enter_context(self._workers())
                if sharding.world() > 1:
                    pool = ranks.DividedPool(pool, self.learner)
                self._run(pool)
            return self._finish()
        except BaseException as error:
            with contextlib.suppress(OSError):  # a full disk must not hide the reason
                self._status("failed", str(error) or type(error).__name__)
            raise
        finally:
            shutil.rmtree(self._acting, ignore_errors=True)

    def _prepare(self) -> None:
        self._status("starting")
        settings = self.settings
        # An update runs while the workers wait, so it may have their cores.
        torch.set_num_threads(ranks.worker_count(settings))
        policy = load_trainable(self.run.path / START)
        policy.exploration, policy.mean_temperature = settings.exploration, settings.mean_temperature
        self.learner = (
            ranks.learner(policy, settings, self.run.path)
            if sharding.world() > 1
            else Learner(policy, settings.learner, temperature=settings.temperature, seed=settings.seed)
        )
        if self.run.checkpoints():
            folder = self.run.latest_checkpoint()
            state = self.learner.load_state(folder)
            self.iteration, self.totals = state["iteration"], self.totals | state["totals"]
            self.memory.outcomes = [Outcome(*outcome) for outcome in state.get("outcomes", [])]
            self._saved = self.iteration
            self.console.print(
                f"Resuming after iteration {self.iteration} from {folder}.", highlight=False, soft_wrap=True
            )

    def _workers(self) -> WorkerPool | RayPool:
        settings = ranks.worker_settings(self.settings)
        if self._cluster is None:
            return WorkerPool(ranks.worker_count(self.settings), settings)
        return RayPool(self._cluster, settings)

    def _run(self, pool: Pool) -> None:
        try:
            self._evaluate_once(pool, "before")
            self._train(pool)
            if not self.control.stopping:
                self._evaluate_once(pool, "after")
        except CancelledRolloutsError:
            self._checkpoint()

    def _train(self, pool: Pool) -> None:
        settings = self.settings
        with MetricsWriter(self.run.path, resume_after=self._saved) as metrics:
            while self.iteration < settings.iterations and not self.control.stopping:
                row = self._iterate(pool)
                if settings.evaluate_every and self.iteration % settings.evaluate_every == 0:
                    row |= self._measure(pool)
                metrics.write(row)
                self._print_row(row)
                if self.control.take_checkpoint() or self.iteration % settings.checkpoint_every == 0:
                    self._checkpoint()
                self._pause()
        self._checkpoint()

    def _iterate(self, pool: Pool) -> dict[str, Any]:
        settings = self.settings
        self._status("training")
        started = time.monotonic()
        what = f"iteration {self.iteration + 1}/{settings.iterations}"
        # Other collectors decide on the way how many rollouts they want.
        total = settings.groups * settings.group_size if settings.collector == "flat" else None
        with Bar(self.console, what, total) as bar:
            row = loop.iterate(
                settings,
                self.task,
                self.iteration,
                pool,
                self._act(),
                self.learner,
                lambda result: self._show(result, bar),
                self.memory,
            )
        self.iteration += 1
        self.totals["environment_steps"] += row["environment_steps"]
        self.totals["simulated_steps"] += row["simulated_steps"]
        self.totals["episodes"] += row["episodes"]
        self.totals["training"] += time.monotonic() - started
        goals = load_stages(settings.suite, self.task_name).subgoals
        missing = 1 + sum(len(goal.stages) for goal in goals) - len(row["stages"])
        return row | {
            "iteration": self.iteration,
            "seconds": self.totals["training"],
            "environment_steps": self.totals["environment_steps"],
            "simulated_steps": self.totals["simulated_steps"],
            "episodes": self.totals["episodes"],
            "stages": [*row["stages"], *[0.0] * missing],
        }

    def _pause(self) -> None:
        if self.control.paused:
            self._status("paused")
            self.console.print(f"Paused after iteration {self.iteration}.", highlight=False)
        while self.control.paused:
            if self.control.take_checkpoint():
                self._checkpoint()
            self.control.wait_while_paused(0.2)

    def _measure(self, pool: Pool) -> dict[str, Any]:
        """Held-out success on the way; nothing if a stop comes in between."""
        try:
            result = self._evaluate(pool, "evaluating")
        except CancelledRolloutsError:
            return {}
        return {"eval": {"successes": result["successes"], "n": result["n"]}}

    def _evaluate_once(self, pool: Pool, when: Literal["before", "after"]) -> None:
        name = f"eval_{when}.json"
        if self.run.read_json(name) is not None:
            return
        if when == "before" and self.iteration:
            raise CheckpointError(f"{self.run.path / name} is missing, so an improvement cannot be shown; start anew.")
        self.run.write_json(name, self._evaluate(pool, f"evaluating {when}", when))

    def _evaluate(self, pool: Pool, what: str, video: str = "") -> dict[str, Any]:
        settings = self.settings
        self._status("evaluating")
        started = time.monotonic()
        states = state_range(settings.held_out_states)
        episode = Unit(
            suite=settings.suite,
            task=self.task,
            init_states=(0,),
            execute=settings.execute,
            max_steps=step_limit(settings),
            keep=False,
            rewards=bool(video),
        )
        units = side_by_side(states, [0] * len(states), FILMED if video else 0, episode)
        with Bar(self.console, what, len(states)) as bar:
            results = pool.play(units, self._act(), lambda result: self._show(result, bar), self._notice_stop)
        for result in results:
            if result.frames:
                film.save(self.run.path, result, video)
        self.totals["evaluation"] += time.monotonic() - started
        return {"mean_temperature": settings.mean_temperature} | eval_result.summarise(
            outcomes(results),
            policy=str(self.run.checkpoint(self.iteration)) if self.iteration else settings.policy,
            suite=settings.suite,
            mode=settings.mode,
            names={self.task: self.task_name},
            provenance=provenance.collect(seeds={"seed": settings.seed}),
        )

    def _act(self) -> Path:
        """Folder of the policy as it is now, for the workers."""
        return acting(self._acting / f"{self.iteration:06d}", self.learner, self._shared)

    def _checkpoint(self) -> None:
        if self._saved == self.iteration:
            return

        def write(folder: Path) -> None:
            self.learner.export(folder)
            progress = {"iteration": self.iteration, "totals": self.totals, "outcomes": self.memory.outcomes}
            self.learner.save_state(folder, progress)

        self.run.save_checkpoint(self.iteration, write)
        self.run.prune(keep_last=2)
        self._saved = self.iteration

    def _finish(self) -> dict[str, Any]:
        before, after = (self.run.read_json(f"eval_{when}.json") for when in ("before", "after"))
        summary = self._summary(before, after)
        self.run.write_json("summary.json", summary)
        report.write(self.run.path)
        self._status("finished", "" if summary["finished"] else STOPPED)
        return summary

    def _summary(self, before: dict[str, Any] | None, after: dict[str, Any] | None) -> dict[str, Any]:
        settings, totals = self.settings, self.totals
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
            "environment_steps": totals["environment_steps"],
            "episodes": totals["episodes"],
            "seconds": {
                "training": totals["training"],
                "evaluation": totals["evaluation"],
                "total": totals["training"] + totals["evaluation"],
            },
            "finished": after is not None,
        }
        for name, result in (("before", before), ("after", after)):
            summary[name] = None if result is None else {"successes": result["successes"], "n": result["n"]}
        if before is not None and after is not None:
            pairs = stats.paired(eval_result.outcomes(before), eval_result.outcomes(after))
            summary |= {"gained": pairs.gained, "lost": pairs.lost, "mcnemar_p": pairs.p}
        return summary

    def _show(self, result: UnitResult, bar: Bar) -> None:
        bar.episode(result)
        self._notice_stop()
        last = result.trajectories[0]
        if result.frames:
            self.run.write_frame(result.frames[-1])
        elif last.observations:
            self.run.write_frame(next(iter(last.observations[-1].images.values())))

    def _notice_stop(self) -> bool:
        """Whether a stop was asked for; says so once."""
        if self.control.stopping and not self._stop_noticed:
            self._stop_noticed = True
            self._status("stopping")
            self.console.print("Stopping with a checkpoint; Ctrl-C again ends at once.", highlight=False)
        return self.control.stopping

    def _print_row(self, row: dict[str, Any]) -> None:
        left = self.totals["training"] / self.iteration * (self.settings.iterations - self.iteration)
        kl = "" if row["kl"] is None else f", kl {row['kl']:.4f}"
        held_out = f", held-out {row['eval']['successes']}/{row['eval']['n']}" if "eval" in row else ""
        self.console.print(
            f"iteration {self.iteration:3d}/{self.settings.iterations}: "
            f"solved {row['success_rate']:4.0%}, groups {row['groups_solved']:4.0%}, "
            f"stages {sum(row['stages'][1:]):.1f}, return {row['return_mean']:5.1f}{kl}, "
            f"{row['steps_per_second']:.0f} steps/s"
            f"{held_out}; {left:.0f} s left",
            highlight=False,
            soft_wrap=True,
        )

    def _status(self, state: State, message: str = "") -> None:
        self.run.write_status(state, self.iteration, self.settings.iterations, message)
