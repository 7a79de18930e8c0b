"""Finding and reading stage files."""

from __future__ import annotations

from pathlib import Path

from tgrpo.errors import SettingsError, UnknownNameError
from tgrpo.rewards.machine import StageMachine
from tgrpo.rewards.spec import StageFile
from tgrpo.settings import load_yaml

FOLDER = Path(__file__).parent / "stages"
"""Where the stage files of this package lie: ``<suite>/<task>.yaml``."""


def available() -> dict[str, list[str]]:
    """Lists the tasks that have a stage file, by suite."""
    return {
        folder.name: sorted(path.stem for path in folder.glob("*.yaml"))
        for folder in sorted(FOLDER.iterdir())
        if folder.is_dir()
    }


def load_stages(suite: str, task_name: str) -> StageFile:
    """Reads the stage file of a task.

    Args:
        suite: For example ``libero_object``.
        task_name: For example ``pick_up_the_milk_and_place_it_in_the_basket``.

    Raises:
        UnknownNameError: There is no stage file for the task; the message lists those there are.
        SettingsError: The stage file is not valid.
    """
    suites = available()
    if suite not in suites:
        raise UnknownNameError("suite with stage files", suite, suites)
    if task_name not in suites[suite]:
        raise UnknownNameError(f"task with a stage file in {suite}", task_name, suites[suite])
    return read_stages(FOLDER / suite / f"{task_name}.yaml")


def read_stages(path: Path) -> StageFile:
    """Reads and checks any stage file, for example one that lies next to a checkpoint.

    Raises:
        SettingsError: The file is missing, does not fit the schema, or names something that cannot be read.
    """
    stages = load_yaml(path, StageFile)
    try:
        StageMachine(stages)
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from error
    return stages
