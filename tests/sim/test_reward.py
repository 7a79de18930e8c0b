"""`tgrpo reward` on one task."""

from __future__ import annotations

import pytest

from sim.reward import main
from tgrpo.errors import SettingsError
from tgrpo.rewards import load_stages, read_stages

OBJECT = ("--suite", "libero_object")
TASK = "pick_up_the_alphabet_soup_and_place_it_in_the_basket"


def test_compile_writes_the_shipped_stages(tmp_path, capsys):
    out = tmp_path / "stages.yaml"
    assert main(["compile", "0", *OBJECT, "--out", str(out)]) == 0
    assert read_stages(out) == load_stages("libero_object", TASK)
    assert "Wrote" in capsys.readouterr().out


def test_audit_of_expert_and_chance(tmp_path, capsys):
    out = tmp_path / "timeline.html"
    assert main(["audit", TASK, *OBJECT, "--states", "0-0", "--policy", "none", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "passed" in said
    assert "rollouts 2, successes 1" in said
    assert "<svg" in out.read_text(encoding="utf-8")


def test_a_stage_file_of_another_task_is_refused(tmp_path):
    out = tmp_path / "stages.yaml"
    main(["compile", "1", *OBJECT, "--out", str(out)])
    with pytest.raises(SettingsError, match=r"copy it.*does not exist in this scene|copy it"):
        main(["audit", "0", *OBJECT, "--stages", str(out), "--states", "0-0"])


def test_writing_needs_a_model():
    with pytest.raises(SettingsError, match="no model named"):
        main(["write", "0"])
