"""Parameters of the trainer node, and how they become the options of ``tgrpo train``."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tgrpo.errors import SettingsError
from tgrpo_ros.parameters import Option

# One that keeps its default (an empty text, 0, or -1 for the seed) is not passed on: `tgrpo train` decides.
OPTIONS = (
    Option("suite", "", "LIBERO suite of the task"),
    Option("task", "", "task of the suite, by number or by name"),
    Option("preset", "", "algorithm settings: fast, or paper for the method as published"),
    Option("policy", "", "checkpoint to start from: a folder, the name of one that ships, or the kind of `checkpoint`"),
    Option("checkpoint", "", "folder of a checkpoint of the kind that policy says, such as openvla"),
    Option("seed", -1, "seed of everything that is drawn", low=-1),
    Option("iterations", 0, "rounds of rollouts and updates"),
    Option("groups", 0, "groups of rollouts in one iteration"),
    Option("group_size", 0, "rollouts of one group"),
    Option("mode", "", "simulator: exact equals stock LIBERO, fast simplifies pictures"),
    Option("train_states", "", "initial states that groups start from, as in 0-24"),
    Option("held_out_states", "", "initial states of the evaluation, as in 25-49"),
    Option("evaluate_every", 0, "iterations between evaluations"),
    Option("workers", 0, "simulator processes; one for each core if not given", high=1024),
)
NODE_ONLY = (
    Option("run_dir", "", "run folder; empty: a new one in runs/"),
    Option("resume", False, "continue the run in run_dir"),
    Option("train_args", "", "further options of `tgrpo train`, as in a shell"),
    Option("image_rate", 2.0, "greatest rate of ~/image/compressed [1/s]", low=0.01, high=30.0),
)


def train_command(program: str, settings: Mapping[str, Any]) -> tuple[list[str], Path]:
    """Builds the command line of the training loop.

    Args:
        program: Path of the ``tgrpo`` command.
        settings: Value of each parameter by name.

    Returns:
        Program and arguments, and the run folder they name.

    Raises:
        SettingsError: ``train_args`` cannot be read as a shell would.
    """
    try:
        further = shlex.split(settings["train_args"])
    except ValueError as error:
        raise SettingsError(f"train_args {settings['train_args']!r}: {error}. Close every quote.") from error
    folder = Path(settings["run_dir"] or time.strftime("runs/%Y%m%d-%H%M%S")).expanduser()
    command = [program, "train", "--run-dir", str(folder), "--control", "stdin"]
    for option in OPTIONS:
        if settings[option.name] != option.default:
            command += [f"--{option.name.replace('_', '-')}", str(settings[option.name])]
    if settings["resume"]:
        command.append("--resume")
    return [*command, *further], folder
