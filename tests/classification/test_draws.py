"""Noise draws: levels that cover the schedule, noise that depends on image, seed and draw alone."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from scipy import stats

from monai_diffclf.classification import NoiseDraws, image_keys
from monai_diffclf.classification.draws import random_order

IMAGES = torch.rand(4, 1, 5, 3, generator=torch.Generator().manual_seed(0))


def test_keys_depend_on_the_pixels_alone():
    keys = image_keys(IMAGES)
    assert len(set(keys)) == 4
    assert image_keys(IMAGES.flip(0)) == keys[::-1]
    assert image_keys(IMAGES[2:3]) == keys[2:3]
    for same in (IMAGES.double(), MetaTensor(IMAGES), IMAGES.transpose(2, 3).contiguous().transpose(2, 3)):
        assert image_keys(same) == keys


def test_minus_zero_is_zero():
    zeros = torch.zeros(1, 1, 2, 2)
    assert image_keys(zeros) == image_keys(-zeros)


def test_one_changed_pixel_changes_the_key():
    other = IMAGES.clone()
    other[1, 0, 4, 2] = torch.nextafter(other[1, 0, 4, 2], torch.tensor(2.0))
    before, after = image_keys(IMAGES), image_keys(other)
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, False, True, True]


@pytest.mark.parametrize("num_draws", [1, 2, 3, 7, 51, 64])
def test_stratified_levels_fill_each_part_once(num_draws):
    levels = NoiseDraws.make(num_draws, seed=3).levels
    assert levels.dtype == torch.float64
    assert (levels * num_draws).floor().sort().values.tolist() == list(range(num_draws))


@pytest.mark.parametrize("prefix", [2, 4, 8, 16, 32])
def test_first_stratified_levels_are_well_spread(prefix):
    levels = NoiseDraws.make(64).levels[:prefix]
    assert (levels * prefix).floor().sort().values.tolist() == list(range(prefix))


def test_levels_within_a_part_are_uniform():
    levels = torch.cat([NoiseDraws.make(51, seed=seed).levels for seed in range(40)])
    assert stats.kstest((levels * 51 % 1).numpy(), "uniform").pvalue > 1e-3


def test_uniform_levels():
    levels = NoiseDraws.make(2000, "uniform").levels
    assert stats.kstest(levels.numpy(), "uniform").pvalue > 1e-3
    assert torch.equal(NoiseDraws.make(8, "uniform").levels, NoiseDraws.make(32, "uniform").levels[:8])


def test_seed_sets_levels_and_noise():
    key = image_keys(IMAGES)[0]
    first, again, other = (NoiseDraws.make(9, seed=seed) for seed in (5, 5, -6))
    assert torch.equal(first.levels, again.levels)
    assert not torch.equal(first.levels, other.levels)
    assert torch.equal(first.noise(key, 4, (1, 5, 3)), again.noise(key, 4, (1, 5, 3)))
    assert not torch.equal(first.noise(key, 4, (1, 5, 3)), other.noise(key, 4, (1, 5, 3)))


def test_noise_of_a_draw_does_not_depend_on_the_number_of_draws():
    keys, few, many = image_keys(IMAGES), NoiseDraws.make(3), NoiseDraws.make(500, "uniform")
    for draw in range(3):
        for key in keys:
            assert torch.equal(few.noise(key, draw, (2, 4)), many.noise(key, draw, (2, 4)))


def test_a_mirrored_draw_has_the_noise_of_its_twin_with_the_other_sign():
    key, draws = image_keys(IMAGES)[0], NoiseDraws(torch.full((3,), 0.5), mirrors=torch.tensor([-1, 0, -1]))
    first, twin, other = (draws.noise(key, n, (2, 4)) for n in range(3))
    assert torch.equal(twin, -first)
    assert not torch.equal(other.abs(), first.abs())
    assert draws.importance is None


@pytest.mark.parametrize("count", [1, 2, 51])
def test_random_order(count):
    order = random_order(count, 3)
    assert order.sort().values.tolist() == list(range(count))
    assert torch.equal(order, random_order(count, 3))
    assert count < 51 or not torch.equal(order, random_order(count, -4))


def test_noise_is_standard_normal_and_independent():
    draws, keys = NoiseDraws.make(200), image_keys(IMAGES)
    noise = torch.stack([draws.noise(key, n, (1, 5, 3)) for key in keys for n in range(200)])
    assert noise.dtype == torch.float32
    assert stats.kstest(noise.flatten().numpy(), "norm").pvalue > 1e-3
    correlation = torch.corrcoef(noise.flatten(1).reshape(4, -1))
    # 3,000 numbers an image: a correlation of independent ones has the standard deviation 0.018.
    assert (correlation - torch.eye(4)).abs().max() < 5 * 0.018
    assert len(torch.unique(noise[:, 0, 0, 0])) == 800


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_draws": 0}, "num_draws: expected a positive integer, got 0"),
        ({"num_draws": 2.5}, "num_draws: expected a positive integer, got 2.5"),
        (
            {"num_draws": 5, "noise_levels": "random"},
            r"noise_levels: expected one of \['stratified', 'uniform'\] or a LevelSampling, got 'random'",
        ),
        ({"num_draws": 5, "seed": None}, "seed: expected an integer of 64 bits, got None"),
        ({"num_draws": 5, "seed": 2**63}, "seed: expected an integer of 64 bits, got 9223372036854775808"),
    ],
)
def test_make_refuses(kwargs, message):
    with pytest.raises(ValueError, match=message):
        NoiseDraws.make(**kwargs)


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ([], r"levels: expected one level a draw, shape \[N\], N > 0; got \[0\]"),
        ([[0.5]], r"got \[1, 1\]"),
        ([0.2, 1.0], r"levels: expected numbers in \[0, 1\), got 0.2 to 1"),
        ([-0.1], "got -0.1 to -0.1"),
        ([float("nan")], r"levels: expected numbers in \[0, 1\), got nan"),
    ],
)
def test_levels_are_checked(levels, message):
    with pytest.raises(ValueError, match=message):
        NoiseDraws(torch.tensor(levels, dtype=torch.float64))
