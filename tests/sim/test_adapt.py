"""Fine-tuning before each episode: on what, and that nothing of it stays."""

import numpy as np
import pytest
from rich.console import Console

from sim.adapt import chosen, difference, examples
from sim.evaluate import EvalSettings, evaluate
from sim.libero import task_names
from tests.demonstrations import demonstration
from tgrpo.errors import SettingsError
from tgrpo.policies import load
from tgrpo.record.demo_file import DemoWriter
from tgrpo.types import Observation

INSTRUCTION = "pick up the alphabet soup and place it in the basket"


@pytest.fixture
def write(tmp_path):
    """Writes demonstrations, a file for each instruction; returns their folder."""

    def demos(*demonstrations):
        for seed, keywords in enumerate(demonstrations):
            one = demonstration(seed=seed, **keywords)
            with DemoWriter(tmp_path / "demos" / f"{one.instruction}.hdf5", {}) as writer:
                writer.add(one)
        return str(tmp_path / "demos")

    return demos


def start(grey, instruction="put it"):
    return Observation(dict.fromkeys(("a", "b"), np.full((4, 4, 3), grey, np.uint8)), instruction, np.zeros(8))


def test_difference_by_hand():
    assert difference(start(0), start(255)) == 1.0
    assert difference(start(51), start(102)) == pytest.approx(0.2)
    half = Observation({"a": start(0).images["a"], "b": start(255).images["b"]}, "put it", None)
    assert difference(start(0), half) == pytest.approx(0.5**0.5)


def test_the_quickest_of_the_nearer_half_of_the_task_is_imitated(write, tiny_folder):
    """Of the four successes of this task two are near; the quicker of them has 2 decisions, the slower one 3."""
    others = [{"steps": 8, "grey": 100, "success": False}, {"steps": 8, "grey": 100, "instruction": "push it"}]
    near, far = [{"steps": 24, "grey": 99}, {"steps": 16, "grey": 110}], [{"steps": 8, "grey": 10}, {"grey": 200}]
    policy = load(tiny_folder)
    known = examples([write(*others, *near, *far)], policy)
    assert len(known) == 5  # a failure is no example
    seen = demonstration(grey=100).images
    found = chosen(Observation({name: views[0] for name, views in seen.items()}, "put it", None), known)
    assert len(found) == 2
    assert {int(lesson.observation.images["agentview"].mean()) for lesson in found} == {110}


def test_a_task_without_demonstration(write, tiny_folder):
    known = examples([write({})], load(tiny_folder))
    seen = Observation(known[0].lessons[0].observation.images, "fly", None)
    with pytest.raises(SettingsError, match="no demonstration of 'fly' to adapt to; make some with 'tgrpo demos'"):
        chosen(seen, known)


class Watching:
    """A pool that looks at the policies it plays."""

    def __init__(self, pool):
        self.pool, self.weights = pool, []

    def __getattr__(self, name):
        return getattr(self.pool, name)

    def play(self, units, folder, *rest):
        self.weights.append((folder / "model.safetensors").read_bytes())
        return self.pool.play(units, folder, *rest)


def test_each_episode_has_a_policy_of_its_own_and_the_old_one_stays(write, tiny_folder, pool):
    demos = write({"instruction": INSTRUCTION})
    assert INSTRUCTION.replace(" ", "_") == task_names("libero_object")[0]
    watching, before = Watching(pool), (tiny_folder / "model.safetensors").read_bytes()
    common = {"policy": str(tiny_folder), "suite": "libero_object", "tasks": "0", "mode": "fast", "max_steps": 8}
    settings = EvalSettings(**common, states="3-4", adapt=(demos,), adapt_steps=2)
    result = evaluate(settings, Console(quiet=True), watching)
    assert [(one["init_state"], one["steps"]) for one in result["episodes"]] == [(3, 8), (4, 8)]
    looked, first, second = watching.weights
    assert looked == before == (tiny_folder / "model.safetensors").read_bytes()
    assert first != before
    assert second == first  # one demonstration, one seed: each begins again from the old policy
    evaluate(EvalSettings(**common, states="3-3"), Console(quiet=True), watching)
    assert watching.weights[-1] == before
