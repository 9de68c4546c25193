"""Kinds of images for typicality, and the scores it is compared with."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.uncertainty.kinds import CORRUPTIONS, DEVELOPMENT, FOREIGN, HELD_OUT, corrupt
from benchmarks.uncertainty.unlikeness import energy, mahalanobis, nearest, twenty_statistics

IMAGES = np.random.default_rng(0).uniform(0.2, 0.8, (3, 28, 28)).astype(np.float32)


def test_kinds_held_out_are_not_those_of_development():
    for data, kinds in DEVELOPMENT.items():
        assert not set(kinds) & set(HELD_OUT[data])
        assert {*kinds, *HELD_OUT[data]} <= {*CORRUPTIONS, *FOREIGN}


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_corruptions_keep_shape_and_range_and_are_repeatable(kind):
    colour = np.repeat(IMAGES[..., None], 3, 3)
    for images in (colour,) if kind == "grey" else (IMAGES, colour):
        made = corrupt(images, kind)
        assert made.shape == images.shape and made.dtype == np.float32
        assert made.min() >= 0 and made.max() <= 1
        assert np.array_equal(made, corrupt(images, kind))
        assert np.allclose(made, images, atol=1e-6) == (kind in ("none", "grey"))


def test_closed_forms():
    np.testing.assert_allclose(corrupt(IMAGES, "inversion"), 1 - IMAGES)
    np.testing.assert_allclose(corrupt(IMAGES, "contrast").std((1, 2)), IMAGES.std((1, 2)) / 2, rtol=1e-5)
    assert np.array_equal(corrupt(IMAGES, "rotation")[0], np.rot90(IMAGES[0]))
    assert (corrupt(IMAGES, "occlusion") == 0).sum((1, 2)).tolist() == [49] * 3
    assert float((corrupt(IMAGES, "noise") - IMAGES).std()) == pytest.approx(0.1, rel=0.1)
    with pytest.raises(ValueError, match="kind: expected one of .* got 'fog'"):
        corrupt(IMAGES, "fog")


def test_scores_of_unlikeness():
    rng = np.random.default_rng(1)
    known = rng.standard_normal((4000, 3)) * [1, 2, 3]
    far = np.array([[2.0, 0, 0], [0, 4.0, 0], [0, 0, 6.0]])
    np.testing.assert_allclose(mahalanobis(known)(far), 4.0, rtol=0.15)
    along = nearest(np.array([[1.0, 0.0]] * 10 + [[0.0, 5.0]]))
    np.testing.assert_allclose(along(np.array([[3.0, 0.0], [0.0, 2.0]])), [0, 2**0.5])
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Identity())
    logits = torch.tensor([[1.0, 1.0], [3.0, -5.0]]).reshape(2, 2, 1, 1)
    np.testing.assert_allclose(energy(network, logits), -torch.logsumexp(logits.flatten(1), 1).numpy(), rtol=1e-6)


def test_twenty_statistics():
    images = torch.from_numpy(IMAGES)[:, None] * 2 - 1
    found = twenty_statistics(images)
    assert found.shape == (3, 20) and np.isfinite(found).all()
    np.testing.assert_allclose(found[:, 0], images.mean((1, 2, 3)), rtol=1e-5, atol=1e-7)
    assert np.isfinite(twenty_statistics(torch.zeros(1, 3, 28, 28))[:, [0, 1, *range(4, 20)]]).all()
