import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tgrpo import rotation

PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A busy machine is no defect of the function under test."""
NUMBERS = st.floats(-1.7, 1.7)
VECTORS = st.tuples(NUMBERS, NUMBERS, NUMBERS).map(np.array)


@PATIENT
@given(VECTORS)
def test_vector_and_back(vector):
    assert rotation.to_vector(rotation.from_vector(vector)) == pytest.approx(vector, abs=1e-9)


@PATIENT
@given(VECTORS, VECTORS)
def test_matrix_agrees_with_quaternion(first, second):
    a, b = rotation.from_vector(first), rotation.from_vector(second)
    product = rotation.to_matrix(a) @ rotation.to_matrix(b)
    assert rotation.to_matrix(rotation.multiply(a, b)) == pytest.approx(product, abs=1e-9)
    again = rotation.from_matrix(product)
    assert rotation.difference(again, rotation.multiply(a, b)) == pytest.approx(np.zeros(3), abs=1e-7)


@PATIENT
@given(VECTORS, VECTORS)
def test_difference_turns_start_into_goal(first, second):
    start, goal = rotation.from_vector(first), rotation.from_vector(second)
    reached = rotation.turned(start, rotation.difference(goal, start))
    assert abs(float(reached @ goal)) == pytest.approx(1.0, abs=1e-9)


def test_difference_takes_the_short_way():
    goal = rotation.from_vector(np.array([0.0, 0.0, 3.0]))
    assert rotation.difference(-goal, rotation.identity())[2] == pytest.approx(3.0)


@pytest.mark.parametrize("half_turn", [(np.pi, 0, 0), (0, np.pi, 0), (0, 0, np.pi)])
def test_matrix_of_a_half_turn(half_turn):
    quaternion = rotation.from_vector(np.array(half_turn, float))
    assert abs(float(rotation.from_matrix(rotation.to_matrix(quaternion)) @ quaternion)) == pytest.approx(1.0)


@pytest.mark.parametrize("wrong", [[0, 0, 0, 0], [1, 2, 3], [0, 0, 0, np.nan], [0, 0, 0, np.inf]])
def test_no_rotation_is_refused(wrong):
    with pytest.raises(ValueError, match="is no rotation"):
        rotation.normalised(wrong)
