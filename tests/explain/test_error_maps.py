"""Maps of differences: additive, signed, and of the same sum after smoothing and up-sampling."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from monai_diffclf.explain import class_difference, decision_map, overlay, rival_class, smooth_map, upsample_map


def maps_of(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_two_classes_give_one_map():
    maps, predicted = maps_of(3, 2, 5, 4), torch.tensor([0, 1, 1])
    difference = decision_map(maps, predicted)
    assert torch.equal(difference, class_difference(maps, predicted))
    assert torch.equal(difference[0], maps[0, 1] - maps[0, 0])
    assert torch.equal(decision_map(maps, 1 - predicted), -difference), "signed"


@pytest.mark.parametrize("size", [(6, 4), (4, 3, 5)], ids=str)
def test_rival_is_the_runner_up(size):
    maps = maps_of(4, 5, *size)
    mean = maps.flatten(2).mean(2)
    order = mean.argsort(1)
    best = decision_map(maps, order[:, 0])
    torch.testing.assert_close(best.flatten(1).mean(1), mean.sort(1).values[:, 1] - mean.sort(1).values[:, 0])
    assert torch.equal(best, decision_map(maps, order[:, 0], rival=order[:, 1]))
    assert torch.equal(rival_class(maps, order[:, 0]), order[:, 1])
    # Explaining a class that lost: the rival is the best of the others.
    lost = decision_map(maps, order[:, 3])
    assert torch.equal(lost, decision_map(maps, order[:, 3], rival=order[:, 0]))
    assert bool((lost.flatten(1).mean(1) < 0).all())


@pytest.mark.parametrize("function", [class_difference, decision_map, rival_class])
@pytest.mark.parametrize(
    ("maps", "classes", "message"),
    [
        (torch.zeros(2, 1, 4, 4), [0, 0], r"error_maps: expected \[B, K, \*spatial\] with K of at least 2, got \[2, 1"),
        (torch.zeros(2, 3, 4, 4), [0], r"expected one class an image, \[2\], got \[1\]"),
        (torch.zeros(2, 3, 4, 4), [0, 3], r"expected class numbers from 0 to 2, got 3"),
        (torch.zeros(2, 3, 4, 4), [-1, 0], r"expected class numbers from 0 to 2, got -1"),
    ],
    ids=["classes", "length", "too large", "negative"],
)
def test_refuses(function, maps, classes, message):
    with pytest.raises(ValueError, match=message):
        function(maps, torch.tensor(classes))


def test_refuses_a_class_as_its_own_rival():
    with pytest.raises(ValueError, match="rival: expected another class than predicted"):
        decision_map(maps_of(2, 3, 4, 4), torch.tensor([0, 1]), rival=torch.tensor([2, 1]))


@pytest.mark.parametrize("size", [(32, 32), (17, 9), (8, 12, 10)], ids=str)
@pytest.mark.parametrize("sigma", [None, 0.7, 5.0])
def test_smoothing_is_scipys_and_keeps_the_sum(size, sigma, device):
    maps = maps_of(3, *size)
    smoothed = smooth_map(maps.to(device), sigma).cpu()
    assert smoothed.dtype == maps.dtype
    torch.testing.assert_close(smoothed.double().flatten(1).sum(1), maps.double().flatten(1).sum(1), rtol=0, atol=1e-4)
    width = min(size) / 16 if sigma is None else sigma
    expected = gaussian_filter(maps.double().numpy(), (0, *[width] * len(size)), mode="reflect")
    np.testing.assert_allclose(smoothed, expected, atol=1e-6)


@pytest.mark.parametrize(("maps", "sigma"), [((2, 8, 8), 0), ((2, 8, 8), -1.0)])
def test_smoothing_refuses_sigma(maps, sigma):
    with pytest.raises(ValueError, match="sigma: expected a positive number of pixels"):
        smooth_map(torch.zeros(maps), sigma)


def test_smoothing_refuses_class_maps():
    with pytest.raises(ValueError, match=r"maps: expected \[B, H, W\] or \[B, H, W, D\], got \[8, 8\]"):
        smooth_map(torch.zeros(8, 8))


@pytest.mark.parametrize(
    ("small", "large"),
    [((4, 4), (32, 32)), ((4, 6), (13, 7)), ((4, 4), (4, 4)), ((1, 3), (5, 9)), ((2, 3, 4), (8, 9, 20))],
    ids=str,
)
def test_up_sampling_keeps_the_sum_of_every_pixel(small, large, device):
    maps = maps_of(3, *small)
    enlarged = upsample_map(maps.to(device), large).cpu()
    assert enlarged.shape == (3, *large)
    torch.testing.assert_close(enlarged.double().flatten(1).sum(1), maps.double().flatten(1).sum(1), rtol=0, atol=1e-5)
    # One pixel of the map alone: its share stays near it, and nothing gets the other sign.
    for place in [(0,) * len(small), tuple(n - 1 for n in small), tuple(n // 2 for n in small)]:
        spot = torch.zeros(1, *small, dtype=torch.float64)
        spot[(0, *place)] = 1
        spread = upsample_map(spot, large)
        torch.testing.assert_close(spread.sum(), torch.tensor(1.0, dtype=torch.float64))
        assert float(spread.min()) >= 0
        for axis, (old, new) in enumerate(zip(small, large, strict=True)):
            grid = (torch.arange(new) + 0.5) * old / new - 0.5
            along = spread[0].sum([a for a in range(len(small)) if a != axis])
            assert abs(float((along * grid).sum()) - place[axis]) < 0.5


def test_up_sampling_by_whole_numbers_keeps_a_constant_constant():
    torch.testing.assert_close(upsample_map(torch.full((1, 3, 4), 2.0), (12, 8)), torch.full((1, 12, 8), 2.0 / 8))


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((8,), r"size: expected one for each spatial axis of maps \[1, 4, 4\], got \[8\]"),
        ((8, 3), r"size: expected at least the size of the maps, \[4, 4\], got \[8, 3\]"),
    ],
    ids=["axes", "smaller"],
)
def test_up_sampling_refuses(size, message):
    with pytest.raises(ValueError, match=message):
        upsample_map(torch.zeros(1, 4, 4), size)


def test_overlay_is_red_for_and_blue_against():
    difference = np.zeros((16, 16))
    difference[4, 4], difference[12, 12] = 1.0, -1.0
    picture = overlay(np.full((1, 16, 16), 0.5), difference, size=16)
    assert picture.shape == (16, 16, 3)
    assert picture[4, 4, 0] > picture[4, 4, 2]
    assert picture[12, 12, 2] > picture[12, 12, 0]
    np.testing.assert_allclose(picture[4, 12], 0.5, atol=0.01)


def test_overlay_refuses_another_size():
    with pytest.raises(ValueError, match=r"image: expected \[1 or 3, H, W\] with the map's size \(8, 8\)"):
        overlay(np.zeros((1, 8, 9)), np.zeros((8, 8)))
