"""Whether a start looks as it should: numbers by hand on small pictures."""

import numpy as np
import pytest

from tgrpo import rotation
from tgrpo.session import scene
from tgrpo.session.reference import Look, Reference, StartTolerance
from tgrpo.session.scene import SceneTolerance

TOLERANCE = SceneTolerance(block=8, contrast=0.1, changed=0.02)


def picture(value=100):
    return np.full((64, 64, 3), value, np.uint8)


def with_patch(value=200, at=(16, 24), size=8):
    image = picture()
    image[at[0] : at[0] + size, at[1] : at[1] + size] = value
    return image


def test_a_patch_changes_its_block_alone():
    change = scene.change(with_patch(), picture(), 8)
    assert change.shape == (8, 8)
    assert change[2, 3] == pytest.approx(100 / 255)
    assert np.count_nonzero(change) == 1


def test_light_that_changes_everywhere_is_no_change():
    assert not scene.change(picture(140), picture(100), 8).any()
    assert scene.problem({"a": picture(140)}, {"a": picture(100)}, TOLERANCE) == ""


def test_one_block_in_64_is_tolerated_and_two_are_not():
    assert scene.problem({"a": with_patch()}, {"a": picture()}, TOLERANCE) == ""
    said = scene.problem({"a": with_patch(size=16)}, {"a": picture()}, TOLERANCE)
    assert "6.2 % of the picture differ" in said  # 4 blocks of 64
    assert "'a'" in said


@pytest.mark.parametrize(
    ("live", "said"),
    [({}, "has no picture"), ({"a": np.zeros((32, 32, 3), np.uint8)}, "take a new one")],
)
def test_a_missing_picture_and_another_size_are_problems(live, said):
    assert said in scene.problem(live, {"a": picture()}, TOLERANCE)


def test_the_overlay_is_the_mean_and_red_where_it_differs():
    shown = scene.overlay(with_patch(), picture(), TOLERANCE)
    assert shown[0, 0].tolist() == [100, 100, 100]
    assert shown[20, 28].tolist() == [202, 75, 75]  # half of the mean 150, half of red


def test_pictures_that_cannot_be_compared_are_refused():
    with pytest.raises(ValueError, match="cannot be compared"):
        scene.change(picture(), picture()[:32], 8)


class TestReference:
    def look(self, x=0.4, turn=0.0, image=None):
        quaternion = rotation.from_vector(np.array([0.0, 0.0, turn]))
        return Look(np.array([x, 0.0, 0.3]), quaternion, {"agentview": picture() if image is None else image})

    @pytest.fixture
    def reference(self, tmp_path):
        reference = Reference(tmp_path, task=1, start=2)
        assert not reference.taken
        reference.take(self.look())
        return reference

    def test_the_same_start_is_right(self, reference):
        assert reference.taken
        assert reference.folder.name == "1-2"
        assert reference.problem(self.look(), StartTolerance()) == ""
        assert list(reference.images()) == ["agentview"]

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"x": 0.4149}, "15 mm from the start, 10 mm are allowed"),
            ({"turn": 0.08}, "turned by 0.08 rad"),
            ({"image": with_patch(size=24)}, "sees another scene"),
        ],
    )
    def test_another_one_is_not(self, reference, change, said):
        assert said in reference.problem(self.look(**change), StartTolerance())

    def test_people_get_an_overlay(self, reference):
        reference.problem(self.look(image=with_patch(size=24)), StartTolerance())
        assert (reference.folder.parent / "1-2.agentview.overlay.png").is_file()
        assert list(reference.images()) == ["agentview"]  # it is no reference itself
