"""A dry run: one real optimiser step, no simulator, nothing written."""

import pytest

from sim import dry_run
from sim.settings import TrainSettings
from tgrpo import cli
from tgrpo.errors import SettingsError
from tgrpo.learner import LearnerSettings
from tgrpo.policies.trainable import load_trainable


@pytest.fixture
def settings(tiny_folder):
    return TrainSettings(
        policy=str(tiny_folder),
        suite="libero_object",
        task=0,
        iterations=3,
        groups=2,
        group_size=4,
        execute=8,
        max_steps=80,
        held_out_states="6-7",
        evaluate_every=2,
        workers=2,
        learner=LearnerSettings(minibatch=16, lora_rank=4, epochs=2),
    )


def test_a_rehearsal_changes_the_weights_and_counts_the_run(settings):
    policy = load_trainable(settings.policy)
    forecast = dry_run.rehearse(policy, settings)
    # Adapters begin at 0, so what is not 0 was moved by the optimiser.
    assert any(bool(value.any()) for name, value in policy.model.state_dict().items() if "lora_B" in name)
    # 3 iterations x 2 groups x 4 rollouts; 24 and (2 + 1) x 2 episodes of 80 steps; 24 x 10 decisions, twice.
    assert (forecast.episodes, forecast.evaluated) == (24, 6)
    assert forecast.steps == 30 * 80
    assert forecast.optimiser_steps == 30
    assert forecast.rows == 16
    assert 0 < forecast.trained < forecast.parameters
    assert forecast.update_seconds == pytest.approx(480 / 16 * forecast.step_seconds)


def test_made_up_groups_have_contrast_and_name_their_seed(settings):
    policy = load_trainable(settings.policy)
    first, _ = dry_run.made_up(policy, settings)
    again, _ = dry_run.made_up(policy, settings)
    assert [t.rewards.sum() for t in first.trajectories] == [t.rewards.sum() for t in again.trajectories]
    assert len({t.rewards.sum() for t in first.trajectories}) == 4
    assert all(chunk.log_probs is not None for t in first.trajectories for chunk in t.chunks)


def test_the_command_prints_the_forecast_and_writes_nothing(settings, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", "--dry-run", "--policy", settings.policy, "--learner.minibatch", "16"]) == 0
    printed = capsys.readouterr().out
    assert "optimiser step" in printed
    assert "environment steps" in printed
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_could_not_start_fails_dry_too(settings, capsys):
    assert cli.main(["train", "--dry-run", "--policy", settings.policy, "--execute", "99"]) == 2
    assert "execute is 99" in capsys.readouterr().err


def test_weights_that_are_not_finite_are_noticed(settings):
    policy = load_trainable(settings.policy)
    policy.model.head.bias.data.fill_(float("nan"))
    with pytest.raises(SettingsError, match="made-up rollouts is nan"):
        dry_run.rehearse(policy, settings)
