"""Random and adversarial commands, clocks, states and hand-overs against the safety layer, judged by its output alone.

The full count is that of ``benchmarks/safety.py``; this is a part of it that takes seconds.
"""

import numpy as np
import pytest

from benchmarks.safety import Adversary, judge

TICKS = 2500


@pytest.mark.parametrize("seed", [0, 1])
def test_no_output_breaks_a_limit(seed):
    adversary = Adversary(seed)
    record = adversary.play(TICKS)
    assert judge(record, adversary.settings) == dict.fromkeys(judge(record, adversary.settings), 0)
    assert adversary.commands > 600
    assert adversary.faults > 0
    assert np.ptp(record.positions, axis=0).max() > 0.03
