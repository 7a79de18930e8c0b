"""Comparing evaluations: figures, warnings, refusals and the command."""

import json

import pytest

from tgrpo.errors import SettingsError
from tgrpo.record import compare as module
from tgrpo.record.compare import compare, main, training_verdict, verdict
from tgrpo.record.stats import Paired


def _bits(both, gained, lost, neither):
    return "1" * both + "0" * gained + "1" * lost + "0" * neither, "1" * both + "1" * gained + "0" * (lost + neither)


def test_worked_example(evaluation):
    first, second = _bits(27, 14, 3, 6)
    result = compare(evaluation(first), evaluation(second))
    assert (result["a"]["successes"], result["b"]["successes"], result["pairs"]) == (30, 41, 50)
    assert (result["gained"], result["lost"]) == (14, 3)
    assert result["mcnemar_p"] == pytest.approx(0.01273, abs=5e-6)
    assert result["difference"] == pytest.approx(0.22)
    low, high = result["difference_interval"]
    assert 0.04 < low < 0.22 < high < 0.40
    assert result["episodes_to_decide"] == 0
    assert result["warnings"] == []
    assert result["tasks"][0]["name"].startswith("pick_up")
    json.dumps(result, allow_nan=False)


def test_only_common_states_count(evaluation):
    result = compare(evaluation("1100", first=0), evaluation("0111", first=2))
    assert result["pairs"] == 2
    assert (result["a"]["n"], result["b"]["n"]) == (2, 2)
    assert "2 episodes of A and 2 of B have no partner" in result["warnings"][0]


def test_other_conditions_are_warned_about(evaluation):
    a = evaluation("10", mode="exact", seed=0, temperature=0.0)
    b = evaluation("11", mode="fast", seed=1, temperature=1.0)
    warnings = compare(a, b | {"mean_temperature": 0.5})["warnings"]
    assert [warning.split()[0] for warning in warnings] == ["mode", "seed", "temperature", "mean_temperature"]
    assert not compare(a, a | {"mean_temperature": 0.0})["warnings"]  # what older files do not say
    assert "'exact' in A, 'fast' in B" in warnings[0]


def test_strangers_are_refused(evaluation):
    with pytest.raises(SettingsError, match="nothing can be paired"):
        compare(evaluation("10", first=0), evaluation("10", first=10))
    with pytest.raises(SettingsError, match="suite"):
        compare(evaluation("10"), evaluation("10", suite="libero_goal"))


def test_verdicts():
    better = verdict(Paired(27, 14, 3, 6))
    assert better.startswith("B is better than A by 22.0 points: of 50 initial states, 14 are solved only by B and 3")
    assert "exact McNemar p = 0.013" in better
    assert verdict(Paired(27, 3, 14, 6)).startswith("A is better than B by 22.0 points")
    undecided = verdict(Paired(9, 1, 0, 0))
    assert undecided.startswith("No difference between A and B can be claimed")
    assert "About 50 more paired episodes would decide" in undecided
    assert "more paired episodes" not in verdict(Paired(5, 2, 2, 1))
    assert "p < 0.001" in verdict(Paired(10, 30, 0, 10))


def test_verdicts_on_a_training():
    assert training_verdict(Paired(27, 14, 3, 6)).startswith("The policy improved by 22.0 points: of 50 initial states")
    assert training_verdict(Paired(27, 3, 14, 6)).startswith("The policy got worse by 22.0 points")
    assert training_verdict(Paired(9, 1, 0, 0)).startswith("No change can be claimed")


def test_command_on_files(tmp_path, capsys, before, after):
    for name, result in (("a", before), ("b", after)):
        (tmp_path / f"{name}.json").write_text(json.dumps(result))
    out = tmp_path / "out.json"
    assert main([str(tmp_path / "a.json"), str(tmp_path / "b.json"), "--json", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "B is better than A" in printed
    assert "all pairs" in printed
    assert json.loads(out.read_text()) == compare(before, after)


def test_command_on_one_run(finished_run, capsys):
    assert main([str(finished_run)]) == 0
    assert "B is better than A" in capsys.readouterr().out


def test_unfinished_run_says_what_is_missing(unfinished_run):
    with pytest.raises(SettingsError, match=r"no eval_after\.json in this folder"):
        module.load(unfinished_run)
