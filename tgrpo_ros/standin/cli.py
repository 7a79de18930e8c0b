"""The command ``tgrpo-launch``, in use like ``ros2 launch``."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

from tgrpo_ros.standin.actions import DeclareLaunchArgument, LaunchDescription
from tgrpo_ros.standin.context import Context
from tgrpo_ros.standin.modules import install, load
from tgrpo_ros.standin.substitutions import find_prefix, text

USAGE = """usage: tgrpo-launch [-s] PACKAGE FILE.launch.py [name:=value ...]
       tgrpo-launch [-s] PATH [name:=value ...]

Runs a launch file where ROS 2's own launch is not installed. -s, --show-args: only show its arguments."""


def find_file(positional: list[str]) -> Path:
    """Path of the launch file.

    Args:
        positional: A path, or a package and the name of a file in it.

    Raises:
        LookupError: There is no such package or file.
    """
    if len(positional) == 1:
        path = Path(positional[0]).resolve()
    else:
        package, name = positional
        path = find_prefix(package, os.environ) / "share" / package / "launch" / name
    if not path.is_file():
        near = sorted(found.name for found in path.parent.glob("*.launch.py"))
        raise LookupError(f"launch file '{path}' not found; there: {', '.join(near) or 'no launch file'}")
    return path


def arguments_text(description: LaunchDescription, context: Context) -> str:
    """Describes the arguments of a launch file as ``ros2 launch --show-args`` does."""
    lines = ["Arguments (pass arguments as '<name>:=<value>'):"]
    for argument in description.entities:
        if isinstance(argument, DeclareLaunchArgument):
            lines += ["", f"    '{argument.name}':", f"        {argument.description or 'no description given'}"]
            if argument.choices is not None:
                lines[-1] += f". Valid choices are: {list(argument.choices)}"
            if argument.default_value is not None:
                lines.append(f"        (default: '{text(context, argument.default_value)}')")
    return "\n".join(lines)


def launch(path: Path, arguments: dict[str, str], *, show: bool = False) -> int:
    """Runs one launch file to its end.

    Returns:
        The exit code: 0, or 1 if an action or a handler raised.
    """
    install()
    context = Context(arguments)

    def stop(number: int, _: object) -> None:
        threading.Thread(target=context.shutdown, args=(signal.Signals(number).name,)).start()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    try:
        description = load(str(path))
        if show:
            sys.stdout.write(arguments_text(description, context) + "\n")
            return 0
        with context.lock:
            description.visit(context)
    except Exception as error:  # noqa: BLE001  (whatever a launch file raises ends the launch, as in ROS)
        context.fail(error)
    return context.run()


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``tgrpo-launch``."""
    words = sys.argv[1:] if argv is None else argv
    show = bool({"-s", "--show-args"} & set(words))
    pairs = [(word.split(":=", 1)[0], word.split(":=", 1)[1]) for word in words if ":=" in word]
    positional = [word for word in words if ":=" not in word and word not in ("-s", "--show-args")]
    if not 1 <= len(positional) <= 2 or any(word.startswith("-") for word in positional):
        sys.stderr.write(USAGE + "\n")
        return 2
    try:
        path = find_file(positional)
    except LookupError as error:
        sys.stderr.write(f"tgrpo-launch: {error}\n")
        return 1
    return launch(path, dict(pairs), show=show)


if __name__ == "__main__":
    sys.exit(main())
