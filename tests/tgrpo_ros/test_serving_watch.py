"""A session waits for what is learned between its episodes, and not for ever."""

from tgrpo.session import versions
from tgrpo_ros.serving_watch import Served


def session(folder, episodes):
    for number in range(episodes):
        (folder / "episodes" / f"{number:06d}").mkdir(parents=True)
    (folder / "episodes" / f"{episodes:06d}.open").mkdir(parents=True)
    (folder / "policies").mkdir()
    return Served(folder)


def test_it_goes_on_once_the_last_closed_episode_was_studied(tmp_path):
    served, asked = session(tmp_path, 3), []

    def learn():
        asked.append(versions.studied(tmp_path))
        versions.note_studied(tmp_path, len(asked) - 1)

    served.wait_for_lesson(3600.0, learn)
    assert asked == [-1, 0, 1]


def test_before_the_first_episode_and_without_a_learner_it_goes_on(tmp_path):
    served = session(tmp_path, 0)
    served.wait_for_lesson(3600.0, lambda: 1 / 0)
    (tmp_path / "episodes" / "000000").mkdir()
    asked = []
    served.wait_for_lesson(0.05, lambda: asked.append(1))
    assert asked
