"""Masks, against brute force."""

from __future__ import annotations

import pytest
import torch

from monai_diffclf.explain import dilate_mask, mask_from_map


@pytest.mark.parametrize("radius", [0, 1, 2, 2.9])
@pytest.mark.parametrize("shape", [(9, 8), (5, 6, 4)])
def test_dilation_takes_all_within_the_distance(radius, shape):
    mask = torch.rand(3, 1, *shape, generator=torch.Generator().manual_seed(0)) < 0.03
    mask[0] = False
    mask[1, 0, 2] = True
    places = torch.stack(torch.meshgrid(*[torch.arange(size) for size in shape], indexing="ij"), -1).reshape(
        -1, len(shape)
    )
    for before, after in zip(mask, dilate_mask(mask, radius), strict=True):
        inside = places[before.reshape(-1)].double()
        near = torch.zeros(len(places), dtype=torch.bool)
        if len(inside):
            near = torch.cdist(places.double(), inside).min(1).values <= radius
        assert torch.equal(after.reshape(-1), near)


def test_mask_is_where_the_map_is_highest(device):
    maps = torch.zeros(2, 1, 32, 32, device=device)
    maps[0, 0, 8:12, 20:24] = 1
    maps[1, 0, 25, 5] = 3
    mask = mask_from_map(maps)
    assert mask.device == maps.device
    assert mask.dtype == torch.bool
    assert mask.shape == maps.shape
    assert bool(mask[0, 0, 8:12, 20:24].all())
    assert bool(mask[1, 0, 25, 5])
    for one in mask:
        assert 0.02 <= one.float().mean() <= 0.06, "the fraction, grown by a pixel"
    assert torch.equal(mask_from_map(maps[:, 0]), mask)


def test_smoothing_prefers_a_place_over_a_pixel():
    maps = torch.zeros(1, 32, 32)
    maps[0, 5, 5] = 2
    maps[0, 20:24, 20:24] = 1
    assert bool(mask_from_map(maps, fraction=1 / 1024, smooth=0, dilate=0)[0, 0, 5, 5])
    assert not bool(mask_from_map(maps, fraction=1 / 1024)[0, 0, 5, 5])


def test_volumes_have_masks():
    maps = torch.zeros(1, 6, 7, 8)
    maps[0, 3, 3, 3] = 1
    assert mask_from_map(maps, fraction=0.001, dilate=1).shape == (1, 1, 6, 7, 8)
    assert mask_from_map(maps, fraction=0.001, smooth=0, dilate=1).sum() == 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fraction": 0}, "fraction: expected a number above 0 and up to 1, got 0"),
        ({"fraction": 1.5}, "fraction: expected a number above 0 and up to 1, got 1.5"),
        ({"smooth": -1}, "smooth: expected 0 or more pixels, got -1"),
        ({"dilate": -1}, "radius: expected 0 or more pixels, got -1"),
        ({"maps": torch.zeros(4, 4)}, r"maps: expected \[B, \*spatial\] or .* got \[4, 4\]"),
        ({"maps": torch.full((1, 4, 4), torch.nan)}, "maps: expected finite values, got NaN or infinity"),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(ValueError, match=message):
        mask_from_map(**{"maps": torch.zeros(1, 4, 4), **arguments})


def test_refuses_a_mask_without_its_channel():
    with pytest.raises(ValueError, match=r"mask: expected \[B, 1, H, W\] .* got \[2, 3, 4, 4\]"):
        dilate_mask(torch.zeros(2, 3, 4, 4), 1)
