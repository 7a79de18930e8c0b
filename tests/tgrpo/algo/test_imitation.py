"""What the augmentations of few demonstrations change, and what they leave alone."""

import numpy as np
import torch

from tgrpo.algo import imitation

SPREAD = np.array([0.1, 0.2, 0.05, 1.0, 1.0, 1.0, 0.01, 0.01], np.float32)


def test_proprioception_is_shaken_by_its_share_and_the_axis_angle_is_not():
    rng = np.random.default_rng(0)
    body = np.arange(8, dtype=np.float32)
    found = np.stack([imitation.jittered(body, SPREAD, 0.5, rng) for _ in range(4000)])
    assert found.dtype == np.float32
    assert (found[:, 3:6] == body[3:6]).all()
    moves = [0, 1, 2, 6, 7]
    np.testing.assert_allclose(found.std(axis=0)[moves], 0.5 * SPREAD[moves], rtol=0.05)
    np.testing.assert_allclose(found.mean(axis=0), body, atol=0.01)
    assert (imitation.jittered(body, SPREAD, 0.0, rng) == body).all()


def test_pictures_move_as_a_whole_and_edges_repeat():
    picture = torch.arange(5 * 5 * 3, dtype=torch.uint8).view(1, 1, 5, 5, 3).expand(40, 2, 5, 5, 3)
    found = imitation.shifted(picture, 1, np.random.default_rng(0))
    assert found.shape == picture.shape
    middles = {tuple(pixel.tolist()) for pixel in found[:, :, 2, 2].flatten(0, 1)}
    assert middles == {tuple(p.tolist()) for p in picture[0, 0, 1:4, 1:4].flatten(0, 1)}  # all nine shifts


def test_soft_labels_are_gaussians_and_hard_ones_the_bin():
    labels = imitation.soft_labels(9, 1.0)
    assert torch.allclose(labels.sum(1), torch.ones(9))
    assert torch.allclose(labels[4, 5] / labels[4, 4], torch.exp(torch.tensor(-0.5)))
    assert torch.equal(imitation.soft_labels(9, 0.0), torch.eye(9))
