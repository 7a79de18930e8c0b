"""`tgrpo eval`: which episodes are played, and what is said about them."""

import json
from pathlib import Path

import av
import msgspec
import pytest
from rich.console import Console

from sim.evaluate import EvalSettings, evaluate, outcomes, plan, select_tasks
from sim.libero import task_names
from sim.rollout import play
from tgrpo import cli
from tgrpo.errors import SettingsError, UnknownNameError
from tgrpo.policies import load
from tgrpo.record import eval_result
from tgrpo.record.compare import compare

QUIET = Console(quiet=True)


@pytest.mark.parametrize(
    ("text", "tasks"),
    [
        ("all", list(range(10))),
        ("0", [0]),
        ("3,7", [3, 7]),
        ("0-2,8", [0, 1, 2, 8]),
        ("2,2,1-2", [2, 1]),
        ("pick_up_the_milk_and_place_it_in_the_basket, 0", [7, 0]),
    ],
)
def test_tasks_by_number_range_and_name(text, tasks):
    assert select_tasks("libero_object", text) == tasks


@pytest.mark.parametrize("text", ["10", "8-10", "milk", "", "-1"])
def test_tasks_that_do_not_exist(text):
    with pytest.raises(UnknownNameError):
        select_tasks("libero_object", text)


def test_episodes_of_a_task_are_played_side_by_side_and_filmed_ones_alone():
    units = plan(EvalSettings(suite="libero_object", tasks="0,3", states="4-14", seed=2, videos=Path("videos")))
    states = [(4,), (5, 6, 7, 8, 9, 10, 11, 12), (13, 14)]
    assert [(unit.task, unit.init_states) for unit in units] == [(t, s) for t in (0, 3) for s in states]
    assert [unit.seeds for unit in units] == [tuple(200_006 + state for state in unit.init_states) for unit in units]
    assert all(unit.group is None and not unit.keep for unit in units)
    assert [unit.film for unit in units] == [unit.rewards for unit in units] == [True, False, False] * 2
    assert {unit.env_seed for unit in units} == {2}


def test_a_film_of_a_task_without_stages_needs_none():
    [unit] = plan(EvalSettings(suite="libero_90", tasks="0", states="0-0", videos=Path("videos")))
    assert unit.film
    assert not unit.rewards


def test_states_that_do_not_exist():
    with pytest.raises(SettingsError, match="0-49"):
        plan(EvalSettings(suite="libero_object", states="45-55"))


@pytest.fixture(scope="module")
def result(pool, replay_folder, tmp_path_factory):
    videos = tmp_path_factory.mktemp("videos")
    settings = EvalSettings(
        suite="libero_object",
        policy=str(replay_folder),
        tasks="0",
        states="1-4",
        mode="fast",
        videos=videos,
        max_steps=120,
    )
    return evaluate(settings, QUIET, pool), videos


def test_the_json_has_what_was_agreed(result):
    data, _ = result
    assert data["schema"] == "tgrpo/eval/1"
    assert {"policy", "suite", "mode", "seed", "temperature", "provenance", "macro"} <= data.keys()
    assert data["n"] == len(data["episodes"]) == 4
    assert data["episodes"][0] | {"seconds": 0} == {
        "task": 0, "init_state": 1, "success": True, "steps": 106, "planned": 0, "seconds": 0
    }  # fmt: skip
    [task] = data["tasks"]
    assert task["name"] == task_names("libero_object")[0]
    assert task["successes"] == data["successes"] == sum(episode["success"] for episode in data["episodes"])


def test_parallel_equals_serial(result, blind_env, replay_folder):
    data, _ = result
    settings = EvalSettings(
        suite="libero_object", policy=str(replay_folder), tasks="0", states="1-4", mode="fast", max_steps=120
    )
    alone = [
        msgspec.structs.replace(unit, init_states=(state,), seeds=(seed,))
        for unit in plan(settings)
        for state, seed in zip(unit.init_states, unit.seeds, strict=True)
    ]
    serial = outcomes([play(blind_env, load(replay_folder), unit) for unit in alone])
    assert [(e["init_state"], e["success"], e["steps"]) for e in data["episodes"]] == [
        (e.init_state, e.success, e.steps) for e in serial
    ]


def test_the_film_plays_as_fast_as_the_robot_moved(result):
    _, videos = result
    [file] = videos.glob("*.mp4")
    assert file.name == "task0_init01_success.mp4"
    with av.open(str(file)) as video:
        stream = video.streams.video[0]
        assert stream.average_rate == 10
        assert stream.frames == 106 // 2 + 1


def test_the_command_writes_what_compare_reads(result, replay_folder, tmp_path, monkeypatch, capsys):
    data, _ = result
    monkeypatch.setattr("sim.evaluate.evaluate", lambda settings, console: data)
    file = tmp_path / "a.json"
    assert cli.main(["eval", str(replay_folder), "--json", str(file)]) == 0
    assert "pick up the alphabet soup" in " ".join(capsys.readouterr().out.split())
    assert eval_result.read(file) == json.loads(json.dumps(data))
    assert compare(data, data)["mcnemar_p"] == 1.0


@pytest.mark.parametrize(("mean", "solved"), [(None, 0), (1.0, 2)])
def test_the_shipped_policy_with_the_mean_of_its_bins(pool, mean, solved):
    """Its likeliest bins solve neither of these two, the mean of its bins both; seed 0."""
    settings = EvalSettings(suite="libero_object", tasks="0", states="28-29", mode="fast", mean_temperature=mean)
    result = evaluate(settings, QUIET, pool)
    assert (result["successes"], result["mean_temperature"]) == (solved, mean or 0.0)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["no/such/policy"], "no/such/policy"),
        (["--suite", "libero_moon"], "libero_moon"),
        (["--states", "7-3"], "7-3"),
        (["--temperature", "-1"], "temperature"),
    ],
)
def test_wrong_options_are_one_message(replay_folder, capsys, options, word):
    policy = [] if not options[0].startswith("--") else [str(replay_folder)]
    assert cli.main(["eval", *policy, *options]) == 2
    assert word in capsys.readouterr().err
