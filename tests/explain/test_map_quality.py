"""Scores of maps against values worked out by hand, brute force, and classifiers whose evidence is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score, jaccard_score

from monai_diffclf.explain import (
    deletion_insertion,
    map_average_precision,
    map_iou,
    map_rank_correlation,
    pointing_game,
    randomise_weights,
)
from tests.tiny_unet import tiny_unet

RNG = np.random.default_rng(0)
MAPS = RNG.normal(size=(6, 7, 5)).round(1)  # rounded, so that there are ties
MASKS = RNG.uniform(size=(6, 7, 5)) < 0.3
AGAINST_MASKS = [pointing_game, map_average_precision, map_iou]


def square(count: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise images with a bright square, and its masks."""
    images = 0.1 * torch.randn(count, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    masks = torch.zeros(count, 16, 16)
    for i in range(count):
        masks[i, 2 + i : 6 + i, 8:12] = 1
    return images + masks[:, None], masks


# Against masks


def test_pointing_game():
    maps = np.zeros((3, 2, 2))
    maps[0, 0, 1] = maps[1, 1, 0] = 1  # hit, miss; the third is constant
    masks = np.broadcast_to([[0, 1], [0, 0]], (3, 2, 2))
    assert pointing_game(maps, masks).tolist() == [1.0, 0.0, 0.25]


def test_average_precision_is_sklearns():
    expected = [average_precision_score(m.ravel(), x.ravel()) for m, x in zip(MASKS, MAPS, strict=True)]
    np.testing.assert_allclose(map_average_precision(MAPS, MASKS), expected)


def test_average_precision_of_chance():
    maps = np.random.default_rng(1).normal(size=(200, 16, 16))
    masks = np.zeros((200, 16, 16))
    masks[:, :4, :8] = 1
    assert map_average_precision(maps, masks).mean() == pytest.approx(1 / 8, abs=0.02)


def test_iou_at_the_best_threshold_is_that_of_brute_force():
    expected = [
        max(jaccard_score(m.ravel(), (x >= t).ravel()) for t in np.unique(x)) for m, x in zip(MASKS, MAPS, strict=True)
    ]
    np.testing.assert_allclose(map_iou(MAPS, MASKS), expected)


@pytest.mark.parametrize("fraction", [0.01, 0.2, 0.9])
def test_iou_of_a_share_is_that_of_brute_force(fraction):
    expected = []
    for mask, row in zip(MASKS, MAPS, strict=True):
        threshold = np.sort(row, axis=None)[::-1][max(1, round(fraction * 35)) - 1]
        expected.append(jaccard_score(mask.ravel(), (row >= threshold).ravel()))
    np.testing.assert_allclose(map_iou(MAPS, MASKS, fraction=fraction), expected)


@pytest.mark.parametrize("function", AGAINST_MASKS)
def test_the_mask_itself_is_perfect_and_its_opposite_is_not(function):
    masks = square()[1]
    assert function(masks, masks).tolist() == [1.0] * 3
    assert function(-masks, masks).max() < 0.1


@pytest.mark.parametrize("function", AGAINST_MASKS)
def test_order_alone_counts_also_in_three_dimensions(function, device):
    maps, masks = MAPS.reshape(2, 3, 7, 5), MASKS.reshape(2, 3, 7, 5)
    grown = torch.tensor(np.exp(3 * maps), device=device)
    np.testing.assert_allclose(function(grown, torch.tensor(masks, device=device)), function(maps, masks))


@pytest.mark.parametrize("function", AGAINST_MASKS)
@pytest.mark.parametrize(
    ("maps", "masks", "message"),
    [
        (MAPS, MASKS[:, :4], r"masks: expected the shape of the maps, \[6, 7, 5\], got \[6, 4, 5\]"),
        (MAPS[0], MASKS[0], r"maps: expected \[B, H, W\] or \[B, H, W, D\], got \[7, 5\]"),
        (np.full((1, 2, 2), np.nan), np.eye(2)[None], "maps: expected finite values, got NaN or infinity"),
        (MAPS, np.zeros_like(MASKS), r"those of images \[0, 1, 2, 3, 4, 5\] are empty or full; leave such images out"),
        (MAPS[:1], np.ones_like(MASKS[:1]), r"those of images \[0\] are empty or full"),
    ],
    ids=["shape", "axes", "nan", "empty", "full"],
)
def test_refuses(function, maps, masks, message):
    with pytest.raises(ValueError, match=message):
        function(maps, masks)


@pytest.mark.parametrize("fraction", [0, 1, -0.5, 2])
def test_iou_refuses_a_share(fraction):
    with pytest.raises(ValueError, match="fraction: expected a number between 0 and 1, or None for the best"):
        map_iou(MAPS, MASKS, fraction=fraction)


# Against a classifier


def mean_in_square(images: torch.Tensor) -> torch.Tensor:
    """A classifier whose evidence for class 1 is the brightness within the first square."""
    inside = images[:, 0, 2:6, 8:12].mean((1, 2))
    return torch.stack([1 - inside, inside], 1)


@pytest.mark.parametrize("baseline", ["mean", "blur"])
def test_deletion_and_insertion_rank_maps(baseline):
    images, masks = square(1)
    ones = torch.tensor([1])
    by_map = {
        name: deletion_insertion(images, map_, mean_in_square, classes=ones, baseline=baseline)
        for name, map_ in {"right": masks, "opposite": -masks, "random": torch.rand(1, 16, 16)}.items()
    }
    for better, worse in (("right", "random"), ("random", "opposite")):
        assert by_map[better].deletion[0] < by_map[worse].deletion[0] - 0.1
        assert by_map[better].insertion[0] > by_map[worse].insertion[0] + 0.1


def test_areas_of_a_linear_classifier_are_exact():
    """Mean brightness falls in proportion to the pixels that go: the area is a triangle's."""
    image = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)) + 1
    image[1] *= 2

    def brightness(x: torch.Tensor) -> torch.Tensor:
        return torch.stack([torch.zeros(len(x)), x.flatten(1).mean(1)], 1)

    # To the mean of the image nothing changes in the end, and the highest pixels first change it as worked out here.
    areas = deletion_insertion(image, image[:, 0], brightness, classes=torch.tensor([1, 1]), steps=64, baseline="mean")
    for i in range(2):
        pixels = image[i].flatten().sort(descending=True).values.double()
        gone = (pixels - pixels.mean()).cumsum(0) / 64
        curve = torch.cat([pixels.mean()[None], pixels.mean() - gone])
        assert areas.deletion[i] == pytest.approx(float(torch.trapezoid(curve, dx=1 / 64)), rel=1e-5)
        mirrored = 2 * pixels.mean() - curve
        assert areas.insertion[i] == pytest.approx(float(torch.trapezoid(mirrored, dx=1 / 64)), rel=1e-5)


def test_each_class_is_scored_for_itself_and_inputs_stay():
    images, masks = square(2)
    before = images.clone()
    both = deletion_insertion(images[[0, 0]], masks[[0, 0]], mean_in_square, classes=torch.tensor([0, 1]), steps=4)
    np.testing.assert_allclose(both.deletion.sum(), 1, atol=1e-6)
    assert torch.equal(images, before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"maps": torch.zeros(3, 8, 8)}, r"maps: expected \[B, \*spatial\] of the images \[3, 1, 16, 16\], got \[3, 8"),
        ({"maps": torch.full((3, 16, 16), torch.nan)}, "maps: expected finite values"),
        ({"classes": torch.tensor([1])}, r"classes: expected one class an image, \[3\], got \[1\]"),
        ({"steps": 1}, "steps: expected an integer of at least 2, got 1"),
        ({"baseline": "black"}, "baseline: expected 'blur' or 'mean', got 'black'"),
    ],
    ids=["shape", "nan", "classes", "steps", "baseline"],
)
def test_deletion_refuses(change, message):
    images, masks = square()
    arguments = {"images": images, "maps": masks, "classes": torch.ones(3, dtype=torch.long), **change}
    with pytest.raises(ValueError, match=message):
        deletion_insertion(classify=mean_in_square, **arguments)


# Against itself


def test_rank_correlation_is_scipys():
    other = MAPS + RNG.normal(size=MAPS.shape)
    expected = [spearmanr(a.ravel(), b.ravel()).statistic for a, b in zip(MAPS, other, strict=True)]
    np.testing.assert_allclose(map_rank_correlation(MAPS, other), expected)


def test_rank_correlation_of_extremes():
    np.testing.assert_allclose(map_rank_correlation(MAPS, np.exp(MAPS)), 1)
    np.testing.assert_allclose(map_rank_correlation(torch.tensor(MAPS), -MAPS), -1)
    assert map_rank_correlation(MAPS, np.ones_like(MAPS)).tolist() == [0.0] * 6, "a constant map ranks nothing"


def test_rank_correlation_refuses_other_shapes():
    with pytest.raises(ValueError, match=r"maps_b: expected the shape of maps_a, \[6, 7, 5\], got \[6, 5, 7\]"):
        map_rank_correlation(MAPS, MAPS.transpose(0, 2, 1))


def test_randomised_weights_keep_their_distribution_and_the_network_its_weights(device):
    network = tiny_unet(attention_levels=(False, True)).to(device)
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    randomised = randomise_weights(network, torch.Generator().manual_seed(1))
    changed = 0
    for name, weight in randomised.state_dict().items():
        assert torch.equal(network.state_dict()[name], before[name])
        assert torch.equal(weight.flatten().sort().values, before[name].flatten().sort().values)
        changed += not torch.equal(weight, before[name])
    assert changed > 0.9 * len(before)
    again = randomise_weights(network, torch.Generator().manual_seed(1))
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), randomised.parameters(), strict=True))
    assert not any(module.training for module in randomised.modules())
