"""Noise draws: levels that cover the schedule, noise that depends on image, seed and draw alone."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from scipy import stats

from monai_diffclf.classification import LevelSampling, NoiseDraws, image_keys
from monai_diffclf.classification.draws import random_order
from monai_diffclf.classification.philox import ImageRandom

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


def every_pair(num_draws: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Every image of IMAGES with every draw."""
    return torch.arange(4).repeat_interleave(num_draws), torch.arange(num_draws).repeat(4)


@pytest.mark.parametrize("mirrors", [None, [-1, 0, -1, 2, -1], [-1, 0, 0, -1, 3]], ids=str)
@pytest.mark.parametrize("shape", [(1, 5, 3), (2, 4), (3, 2, 3, 5)], ids=str)
def test_noise_of_a_batch_is_that_of_each_pair(shape, mirrors, device):
    """One call for many pairs, on the images' device, gives what one call a pair on the CPU gives."""
    draws = NoiseDraws(torch.full((5,), 0.5), seed=7, mirrors=None if mirrors is None else torch.tensor(mirrors))
    keys, (image, draw) = image_keys(IMAGES), every_pair(5)
    random = draws.random(keys, device)
    batch = draws.batch_noise(random, image, draw, shape)
    assert batch.shape == (20, *shape)
    assert batch.dtype == torch.float32
    assert batch.device.type == device
    alone = torch.stack([draws.noise(keys[b], n, shape) for b, n in zip(image.tolist(), draw.tolist(), strict=True)])
    assert alone.device.type == "cpu"
    torch.testing.assert_close(batch.cpu(), alone, rtol=0, atol=0 if device == "cpu" else 1e-6)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    assert torch.equal(draws.batch_noise(random, image[order], draw[order], shape), batch[order])
    on_device = draws.batch_noise(random, image.to(device), draw.to(device), shape)
    assert torch.equal(on_device, batch), "indices may lie on either device"


def test_noise_of_draws_is_that_of_no_purpose():
    """What probes and dequantisation are made of is another set of numbers."""
    key, draws = image_keys(IMAGES)[1], NoiseDraws(torch.full((5,), 0.5), seed=-3)
    expected = ImageRandom([key], -3).normal(torch.tensor([0]), torch.tensor([4]), (1, 5, 3))
    assert torch.equal(draws.noise(key, 4, (1, 5, 3)), expected[0])
    for purpose in (b"divergence", b"dequantization"):
        other = ImageRandom([key], -3, purpose=purpose).normal(torch.tensor([0]), torch.tensor([4]), (1, 5, 3))
        assert not torch.equal(other, expected)


def test_mirrored_pairs_of_a_level_sampling(device):
    """Where pairs are mirrored they share their level and cancel; all other draws have noise of their own."""
    draws = NoiseDraws.make(41, LevelSampling((1.0, 2.0), antithetic=(False, True)), seed=1)
    assert draws.mirrors is not None
    mirrored = (draws.mirrors >= 0).nonzero()[:, 0]
    twins = draws.mirrors[mirrored]
    assert 5 < len(mirrored) < 20
    assert torch.equal(mirrored, twins + 1)
    assert torch.equal(draws.levels[mirrored], draws.levels[twins])
    random, (image, draw) = draws.random(image_keys(IMAGES), device), every_pair(41)
    noise = draws.batch_noise(random, image, draw, (1, 5, 3)).view(4, 41, -1)
    assert torch.equal(noise[:, mirrored], -noise[:, twins])
    own = torch.tensor([n for n in range(41) if n not in set(mirrored.tolist())])
    assert len(torch.unique(noise[:, own].abs())) == 4 * len(own) * 15
    # Draws with noise of their own have that of the same draw without mirrors.
    plain = NoiseDraws(draws.levels, 1)
    assert torch.equal(plain.batch_noise(random, image, draw, (1, 5, 3)).view(4, 41, -1)[:, own], noise[:, own])


def test_mirrors_change_neither_the_images_random_numbers_nor_themselves():
    """Signs are turned in the result alone."""
    mirrors = torch.tensor([-1, 0])
    draws, keys = NoiseDraws(torch.full((2,), 0.5), mirrors=mirrors), image_keys(IMAGES)
    random, image, draw = draws.random(keys), torch.tensor([0, 0]), torch.tensor([0, 1])
    first = draws.batch_noise(random, image, draw, (2, 4))
    assert torch.equal(draws.batch_noise(random, image, draw, (2, 4)), first)
    assert torch.equal(mirrors, torch.tensor([-1, 0]))
    assert draw.tolist() == [0, 1]


def test_no_pairs():
    nothing = torch.zeros(0, dtype=torch.int64)
    for mirrors in (None, torch.tensor([-1, 0])):
        draws = NoiseDraws(torch.full((2,), 0.5), mirrors=mirrors)
        assert draws.batch_noise(draws.random(image_keys(IMAGES)), nothing, nothing, (2, 4)).shape == (0, 2, 4)


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


@pytest.mark.parametrize(
    ("mirrors", "message"),
    [
        ([-1, 0], r"mirrors: expected one index a draw, shape \[3\], got \[2\]"),
        ([[-1, 0, -1]], r"mirrors: expected one index a draw, shape \[3\], got \[1, 3\]"),
        ([-1, 0, 3], "mirrors: expected -1 or the index of a draw with noise of its own, got 3 for draw 2"),
        ([-1, -2, -1], "mirrors: expected -1 or the index of a draw with noise of its own, got -2 for draw 1"),
        ([-1, 0, 1], "mirrors: expected -1 or the index of a draw with noise of its own, got 1 for draw 2"),
        ([0, -1, -1], "mirrors: expected -1 or the index of a draw with noise of its own, got 0 for draw 0"),
        ([1, 0, -1], "mirrors: expected -1 or the index of a draw with noise of its own, got 1 for draw 0"),
    ],
    ids=str,
)
def test_mirrors_are_checked(mirrors, message):
    with pytest.raises(ValueError, match=message):
        NoiseDraws(torch.full((3,), 0.5), mirrors=torch.tensor(mirrors))
