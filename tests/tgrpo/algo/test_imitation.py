"""What the augmentations of few demonstrations change, and what they leave alone."""

import numpy as np
import torch

from tgrpo.algo import imitation


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
