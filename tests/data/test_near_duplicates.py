"""Near-duplicates: found whatever was done to the copy, and not where images are of one kind only."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from monai_diffclf.data.near_duplicates import near_duplicates


def small(image: np.ndarray) -> np.ndarray:
    tensor = torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))[None, None]
    return torch.nn.functional.interpolate(tensor, (16, 16), mode="area")[0, 0].numpy()


@pytest.fixture
def scenes() -> np.ndarray:
    """Images of one kind: the same body, and structures of their own."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    body = np.exp(-2 * (x**2 + y**2))
    own = np.kron(rng.normal(size=(60, 8, 8)), np.ones((1, 8, 8)))
    return np.clip(0.6 * body + 0.05 * own + 0.2, 0, 1)


def test_images_of_one_kind_are_not_alike(scenes):
    thumbnails = np.stack([small(image) for image in scenes])
    flat = thumbnails.reshape(len(thumbnails), -1)
    assert np.corrcoef(flat).mean() > 0.9  # what a plain correlation says
    assert list(near_duplicates(thumbnails)) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image,
        lambda image: 0.5 * image + 0.3,
        lambda image: np.clip(image + np.random.default_rng(1).normal(size=image.shape) * 0.05, 0, 1),
        lambda image: np.round(image * 20) / 20,
        lambda image: image**1.2,
        lambda image: np.roll(image, 1, axis=0),
    ],
    ids=["same", "window", "noise", "rounded", "gamma", "shifted by 1 of 64"],
)
def test_changed_copies_are_found(scenes, change):
    thumbnails = np.stack([small(image) for image in [*scenes, change(scenes[7])]])
    ((i, j, similarity),) = near_duplicates(thumbnails)
    assert (i, j) == (7, 60)
    assert 0.9 <= similarity <= 1


def test_few_images_and_images_without_contrast(scenes):
    assert list(near_duplicates(np.zeros((0, 16, 16), np.float32))) == []
    pair = np.stack([small(scenes[0]), small(scenes[0] * 0.9)])
    assert [(i, j) for i, j, _ in near_duplicates(pair)] == [(0, 1)]
    assert list(near_duplicates(np.stack([small(scenes[0]), small(scenes[1])]))) == []
    assert list(near_duplicates(np.full((5, 16, 16), 0.5, np.float32))) == []


def test_blocks_give_every_pair_once(scenes, monkeypatch):
    thumbnails = np.stack([small(image) for image in [*scenes, *scenes]])
    expected = [(i, i + 60) for i in range(60)]
    assert sorted((i, j) for i, j, _ in near_duplicates(thumbnails)) == expected
    monkeypatch.setattr("monai_diffclf.data.near_duplicates._BLOCK", 7)
    assert sorted((i, j) for i, j, _ in near_duplicates(thumbnails)) == expected
