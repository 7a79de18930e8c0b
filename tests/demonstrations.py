"""Demonstrations for tests that need some and do not care what happens in them."""

import numpy as np

from tgrpo.record.demo_file import Demonstration

CAMERAS = ("agentview", "robot0_eye_in_hand")


def demonstration(steps=16, every=8, grey=0, instruction="put it", **changes):
    """An arm that rests, in grey pictures of 32 px of every so many steps."""
    actions, frames = np.zeros((steps, 7), np.float32), np.arange(0, steps, every, dtype=np.int32)
    about = {"suite": "libero_spatial", "task": 0, "task_name": "put_it", "instruction": instruction}
    seen = dict.fromkeys(CAMERAS, np.full((len(frames), 32, 32, 3), grey, np.uint8))
    recorded = {"executed": actions, "proprio": np.zeros((steps, 8), np.float32), "frames": frames, "images": seen}
    return Demonstration(**about, actions=actions, **recorded, **changes)
