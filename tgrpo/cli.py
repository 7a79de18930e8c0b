"""The command ``tgrpo``: finds a subcommand, runs it and turns errors into one clear message.

Commands that need the simulator are found through the entry point group ``tgrpo.commands``, so this
package never imports them by name. Nothing heavy is imported before a command has been chosen.
"""

from __future__ import annotations

import difflib
import errno
import importlib
import os
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points

from rich.console import Console

from tgrpo import __version__
from tgrpo.errors import MissingDependencyError, SettingsError, TgrpoError
from tgrpo.ownership import check_sim_package

GROUP = "tgrpo.commands"
OWN = {
    "doctor": "tgrpo.doctor:main",
    "compare": "tgrpo.record.compare:main",
    "convert": "tgrpo.policies.vla.convert:main",
    "report": "tgrpo.record.report:main",
    "serve": "tgrpo.serving.command:main",
    "swap": "tgrpo.serving.control:main",
    "keys": "tgrpo.keys:main",
    "export": "tgrpo.record.export:main",
    "replay": "tgrpo.record.replay:main",
    "recover": "tgrpo.record.recover:main",
    "learn": "tgrpo.session.learn:main",
    "judge": "tgrpo.session.judge:main",
    "distill": "tgrpo.session.distill:main",
    "bench": "tgrpo.algo.bench.command:main",
}
SUMMARIES = {
    "train": "fine-tune a policy with TGRPO in LIBERO",
    "cluster": "start Ray on this machine, or add it to a cluster, for the rollouts of train",
    "eval": "measure the success rate of a policy",
    "compare": "compare two evaluations, paired on the same initial states",
    "report": "write the HTML report of a run or a session",
    "export": "write recorded episodes as LIBERO demonstrations or a LeRobot dataset",
    "replay": "play a recorded episode: its streams, events and picture",
    "recover": "close the episodes that a killed recorder left open, and check a session",
    "learn": "improve a session's policy from its corrections, labelled or ranked episodes",
    "judge": "say which of two episodes of a session is better, for learn",
    "distill": "teach one policy what the policies of several sessions can do",
    "demos": "generate demonstrations with the scripted expert",
    "sft": "train a policy on demonstrations",
    "serve": "serve a policy to robots and simulators",
    "swap": "replace the policy of a running server",
    "keys": "make keys for a server that others reach over the network",
    "convert": "convert component files of OpenVLA-OFT to safetensors",
    "reward": "audit a task's stage reward, or have one written",
    "bench": "compare estimators of advantages on a problem with known answers",
    "session": "play, record and correct episodes of a plan at an arm, real or simulated",
    "sim-robot": "drive a LIBERO scene like an arm",
    "doctor": "check this machine: rendering, packages, ROS, ports, disk",
}
EXIT_FAILURE, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130

Command = Callable[[list[str]], int]


def commands() -> dict[str, EntryPoint]:
    """All subcommands by name, the usual order of work first."""
    own = [EntryPoint(name, target, GROUP) for name, target in OWN.items()]
    found = {point.name: point for point in [*entry_points(group=GROUP), *own]}
    order = list(SUMMARIES)
    return dict(sorted(found.items(), key=lambda item: order.index(item[0]) if item[0] in order else len(order)))


def load(point: EntryPoint) -> Command:
    """Imports a subcommand.

    Raises:
        MissingDependencyError: A package it needs is not installed, or a foreign ``sim`` is in the way.
    """
    if point.module.partition(".")[0] == "sim":
        check_sim_package()
    try:
        command: Command = getattr(importlib.import_module(point.module), point.attr)
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"'tgrpo {point.name}' needs the package {error.name!r}, which is not installed. "
            "Install everything: make setup, or in the checkout: pip install '.[train,sim]'; on a robot PC '.[record]'"
        ) from error
    return command


def usage() -> str:
    """The help text of ``tgrpo``."""
    lines = [f"  {name:<10} {SUMMARIES.get(name, '')}".rstrip() for name in commands()]
    return "\n".join(
        [
            "usage: tgrpo [--debug] COMMAND ...",
            "",
            *lines,
            "",
            "tgrpo COMMAND --help describes a command. --debug shows tracebacks. --version prints the version.",
        ]
    )


def run(name: str, argv: list[str]) -> int:
    """Runs one subcommand.

    Raises:
        SettingsError: There is no such subcommand.
    """
    known = commands()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean 'tgrpo {close[0]}'?" if close else ""
        raise SettingsError(f"unknown command {name!r}.{hint} Commands: {', '.join(known)}.")
    return load(known[name])(argv)


def explain(error: Exception) -> tuple[str, int] | None:
    """Message and exit code of an error that a user can act on; nothing for a defect of ours."""
    if isinstance(error, TgrpoError):
        return str(error), EXIT_USAGE if isinstance(error, SettingsError) else EXIT_FAILURE
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f" at {error.filename}" if error.filename else ""
        return f"no space left on the disk{where}. Free some and continue the run with --resume.", EXIT_FAILURE
    return None


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``tgrpo``.

    Args:
        argv: Arguments without the program's name; the process's own by default.

    Returns:
        The exit code: 0 done, 1 failed, 2 wrong use, 130 interrupted.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    debug = bool(os.environ.get("TGRPO_DEBUG"))
    while arguments and arguments[0] == "--debug":
        debug = True
        arguments.pop(0)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        Console(highlight=False).print(usage(), markup=False)
        return 0 if arguments else EXIT_USAGE
    if arguments[0] == "--version":
        Console(highlight=False).print(__version__, markup=False)
        return 0
    try:
        return run(arguments[0], arguments[1:])
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Exception as error:
        explained = explain(error)
        if explained is None or debug:
            raise
        message, code = explained
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"tgrpo: {message}", markup=False, style="red")
        return code


if __name__ == "__main__":
    sys.exit(main())
