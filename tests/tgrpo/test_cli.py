import errno
import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

import tgrpo
from tgrpo import cli
from tgrpo.errors import CheckpointError, SettingsError, WorkerError


@pytest.fixture
def command(monkeypatch):
    """Registers a function as `tgrpo try`."""

    def register(function):
        monkeypatch.setattr(sys.modules[__name__], "tried", function, raising=False)
        module = sys.modules[__name__]
        monkeypatch.setitem(sys.modules, "tests_tried", module)
        point = EntryPoint("try", "tests_tried:tried", cli.GROUP)
        monkeypatch.setattr(cli, "entry_points", lambda group: [point])

    return register


def test_passes_arguments_and_exit_code(command):
    seen = []
    command(lambda argv: seen.extend(argv) or 7)
    assert cli.main(["try", "a", "--b"]) == 7
    assert seen == ["a", "--b"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SettingsError("bad setting"), 2),
        (CheckpointError("bad checkpoint"), 1),
        (WorkerError("bad worker"), 1),
        (OSError(errno.ENOSPC, "No space left on device", "/runs/x"), 1),
    ],
)
def test_known_errors_are_one_message(command, capsys, error, code):
    def fail(argv):
        raise error

    command(fail)
    assert cli.main(["try"]) == code
    assert capsys.readouterr().err.startswith("tgrpo: ")
    with pytest.raises(type(error)):
        cli.main(["--debug", "try"])


def test_defects_keep_their_traceback(command):
    def fail(argv):
        raise ZeroDivisionError

    command(fail)
    with pytest.raises(ZeroDivisionError):
        cli.main(["try"])


def test_ctrl_c(command):
    def fail(argv):
        raise KeyboardInterrupt

    command(fail)
    assert cli.main(["try"]) == 130


def test_unknown_command_suggests(capsys):
    assert cli.main(["docter"]) == 2
    assert "Did you mean 'tgrpo doctor'?" in capsys.readouterr().err


def test_missing_package_names_the_remedy(monkeypatch, capsys):
    point = EntryPoint("try", "no_such_module:main", cli.GROUP)
    monkeypatch.setattr(cli, "entry_points", lambda group: [point])
    assert cli.main(["try"]) == 1
    assert "'tgrpo try' needs the package 'no_such_module'" in capsys.readouterr().err


def test_foreign_sim_is_named(monkeypatch, tmp_path, capsys):
    (tmp_path / "sim.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "sim", raising=False)
    monkeypatch.setattr(cli, "entry_points", lambda group: [EntryPoint("train", "sim.train:main", cli.GROUP)])
    assert cli.main(["train"]) == 1
    assert str(tmp_path / "sim.py") in capsys.readouterr().err


def test_help_and_version(capsys):
    assert cli.main([]) == 2
    assert cli.main(["--help"]) == 0
    assert cli.main(["--version"]) == 0
    output = capsys.readouterr().out
    assert "doctor" in output
    assert tgrpo.__version__ in output


def test_every_command_imports_and_helps():
    for name, point in cli.commands().items():
        assert callable(cli.load(point)), name
        assert cli.SUMMARIES[name]


def test_help_imports_nothing_heavy():
    code = (
        "import sys, tgrpo.cli; tgrpo.cli.main(['--help']); "
        "sys.exit(bool({'torch', 'numpy', 'mujoco', 'rclpy', 'sim'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0
