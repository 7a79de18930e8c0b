"""The evaluation JSON and its table."""

import io
import json

import pytest
from rich.console import Console

from tgrpo.errors import SettingsError
from tgrpo.record import eval_result
from tgrpo.record.eval_result import EpisodeResult, summarise


def _two_tasks():
    episodes = [EpisodeResult(task=3, init_state=i, success=i < 45, steps=100) for i in reversed(range(50))]
    episodes += [EpisodeResult(task=0, init_state=i, success=i < 9, steps=100) for i in range(10)]
    return summarise(episodes, policy="p", suite="s", names={0: "first"}, provenance={"commit": "abc"})


def test_summary_of_two_tasks():
    result = _two_tasks()
    assert (result["schema"], result["successes"], result["n"], result["rate"]) == ("tgrpo/eval/1", 54, 60, 0.9)
    assert [(task["task"], task["name"]) for task in result["tasks"]] == [(0, "first"), (3, "task 3")]
    assert result["tasks"][0]["wilson"] == pytest.approx([0.596, 0.982], abs=5e-4)
    assert result["tasks"][1]["wilson"] == pytest.approx([0.786, 0.957], abs=5e-4)
    assert result["macro"] == pytest.approx(0.9)
    assert [episode["init_state"] for episode in result["episodes"][:3]] == [0, 1, 2]
    assert result["provenance"] == {"commit": "abc"}


def test_file_round_trip(tmp_path):
    result = _two_tasks()
    (tmp_path / "eval.json").write_text(json.dumps(result))
    assert eval_result.read(tmp_path / "eval.json") == result
    assert eval_result.outcomes(result)[3, 44] is True
    assert eval_result.outcomes(result)[3, 45] is False


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        ("{", "not a JSON file"),
        ("[]", "schema None is not an evaluation"),
        ('{"schema": "tgrpo/compare/1"}', "schema 'tgrpo/compare/1' is not an evaluation"),
        ('{"schema": "tgrpo/eval/1", "episodes": [{"task": 1}]}', "missing required field `init_state`"),
    ],
)
def test_read_refuses(tmp_path, content, message):
    path = tmp_path / "eval.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SettingsError, match=message):
        eval_result.read(path)


def test_read_refuses_a_folder(tmp_path):
    with pytest.raises(SettingsError, match="not a JSON file"):
        eval_result.read(tmp_path)


def test_nothing_to_summarise():
    with pytest.raises(SettingsError, match="at least one episode"):
        summarise([], policy="p", suite="s", names={})


def test_one_state_twice_is_refused():
    episode = EpisodeResult(task=0, init_state=4, success=True)
    with pytest.raises(SettingsError, match="task 0 has initial state 4 twice"):
        summarise([episode, episode], policy="p", suite="s", names={})


def test_table():
    text = io.StringIO()
    eval_result.print_table(_two_tasks(), Console(file=text, width=100))
    for words in ("0 first", "9/10", "59.6 to 98.2 %", "54/60", "90.0 %", "mean of the tasks"):
        assert words in text.getvalue()
