"""Random numbers by a counter look random: moments, distributions, and numbers of neighbouring counters.

Seeds are fixed, so that a test always gives the same; limits are those that random numbers would pass in all but one of
10,000 tests or more.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy import stats

from monai_diffclf.classification.philox import ImageRandom, philox4x32

KEYS = [bytes([i, 0, 0, 0, 0, 0, 0, 0]) for i in range(9)]
PURPOSES = (b"", b"divergence", b"dequantization")
ELEMENTS = 1 << 16
LIMIT = 4.5
"""Standard errors that a mean may be off: 7e-6 of all tests would fail by chance."""


@pytest.fixture(scope="module")
def numbers(device) -> dict[str, np.ndarray]:
    """A million of each kind, 4 images by 4 draws, float64 on the CPU."""
    image, draw = torch.arange(4).repeat_interleave(4), torch.arange(4).repeat(4)
    random = ImageRandom(KEYS, 0, device=device)
    return {
        kind: getattr(random, kind)(image, draw, (ELEMENTS,)).double().cpu().numpy()
        for kind in ("normal", "uniform", "sign")
    }


def check_mean(values: np.ndarray, expected: float) -> None:
    error = values.std() / values.size**0.5
    assert abs(values.mean() - expected) < LIMIT * error, (values.mean(), expected, error)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("normal", (0, 1, 0, 3, 0, 15)),
        ("uniform", (0, 1 / 12, 0, 1 / 80, 0, 1 / 448)),
        ("sign", (0, 1, 0, 1, 0, 1)),
    ],
)
def test_moments(kind, expected, numbers):
    values = numbers[kind] - (0.5 if kind == "uniform" else 0)
    for power, moment in enumerate(expected, 1):
        if kind == "sign" and power % 2 == 0:
            assert np.unique(values).tolist() == [-1, 1]
        else:
            check_mean(values**power, moment)


@pytest.mark.parametrize(("kind", "law"), [("normal", "norm"), ("uniform", "uniform")])
def test_distribution(kind, law, numbers):
    assert stats.kstest(numbers[kind].ravel(), law).pvalue > 1e-3
    # The places within a block of four come from other words and other halves of Box and Muller's pairs.
    for place in range(4):
        assert stats.kstest(numbers[kind][:, place::4].ravel(), law).pvalue > 1e-3
    # Every image and draw by itself: their p-values are uniform.
    each = [stats.kstest(row, law).pvalue for row in numbers[kind]]
    assert stats.kstest(each, "uniform").pvalue > 1e-3


def test_tails_of_the_normal_numbers(numbers):
    values = np.abs(numbers["normal"]).ravel()
    for limit in (2.0, 3.0, 4.0):
        beyond = stats.binomtest(int((values > limit).sum()), values.size, 2 * stats.norm.sf(limit))
        assert beyond.pvalue > 1e-4
    assert values.max() < 6.8


def test_every_bit_of_the_words_is_fair(device):
    block = torch.arange(1 << 16, device=device)
    zero = torch.zeros_like(block)
    for word in philox4x32((block, zero, zero, zero), (zero, zero)):
        for bit in range(32):
            check_mean((word >> bit & 1).double().cpu().numpy(), 0.5)


def neighbours(kind: str, device: str) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Pairs of equally many numbers whose counters or keys differ by as little as they can."""
    shape, draws = (8192,), torch.arange(64)
    first = torch.zeros_like(draws)

    def make(key: int = 0, seed: int = 0, purpose: bytes = b"", draw: int = 0) -> torch.Tensor:
        random = ImageRandom(KEYS, seed, purpose=purpose, device=device)
        return getattr(random, kind)(first + key, draws + draw, shape).double().cpu()

    own = make()
    pairs = {f"elements {lag} apart": (own[:, :-lag], own[:, lag:]) for lag in (1, 2, 3, 4, 5, 8, 64)}
    pairs |= {
        f"places {a} and {b} of a block": (own[:, a::4], own[:, b::4]) for a, b in itertools.combinations(range(4), 2)
    }
    pairs |= {f"draws {lag} apart": (own, make(draw=lag)) for lag in (1, 2, 2**16, 2**31)}
    pairs |= {f"images 0 and {key}": (own, make(key=key)) for key in (1, 2, 8)}
    pairs |= {f"seeds 0 and {seed}": (own, make(seed=seed)) for seed in (1, -1, 2**32, 2**62)}
    pairs |= {f"purposes, draw {n}": (own, make(purpose=PURPOSES[1], draw=n)) for n in (0, 1)}
    pairs["two purposes"] = (make(purpose=PURPOSES[1]), make(purpose=PURPOSES[2]))
    # Block and draw are two words of one counter: exchanging them must not give the same. Each pair counts once.
    blocks, upper = own.reshape(64, -1, 4)[:, :64], torch.ones(64, 64, dtype=torch.bool).triu(1)
    pairs["block and draw exchanged"] = (blocks[upper], blocks.transpose(0, 1)[upper])
    return pairs


@pytest.mark.parametrize("kind", ["normal", "uniform"])
def test_neighbouring_numbers_are_uncorrelated(kind, device):
    """Values, squares, and values with squares: of independent numbers all three correlations are 0 to 1 / sqrt(n)."""
    for name, (a, b) in neighbours(kind, device).items():
        a, b = ((x.flatten() - (0.5 if kind == "uniform" else 0)).numpy() for x in (a, b))
        for x, y in ((a, b), (a**2, b**2), (a, b**2), (a**2, b)):
            correlation = np.corrcoef(x, y)[0, 1]
            assert abs(correlation) < LIMIT / len(x) ** 0.5, (name, correlation)


def test_neighbouring_numbers_are_independent(device):
    """More than uncorrelated: their joint distribution over 16 by 16 cells is flat."""
    p_values = {}
    for name, (a, b) in neighbours("uniform", device).items():
        cells = (a.flatten() * 16).clamp(max=15).long() * 16 + (b.flatten() * 16).clamp(max=15).long()
        p_values[name] = stats.chisquare(torch.bincount(cells, minlength=256).numpy()).pvalue
    assert min(p_values.values()) > 1e-4, p_values


def test_noise_of_many_images_has_no_common_part(device):
    """The mean over images of their noise is as small as that of independent noise, for every element and draw."""
    keys = [i.to_bytes(8, "little") for i in range(1000)]
    image = torch.arange(1000)
    mean = torch.stack(
        [ImageRandom(keys, 0, device=device).normal(image, image * 0 + n, (256,)).mean(0) for n in range(8)]
    )
    assert stats.kstest(mean.flatten().cpu().numpy() * 1000**0.5, "norm").pvalue > 1e-3


def test_nothing_comes_twice(device):
    """Blocks of four numbers, 96 bits, of all purposes, seeds, images and draws: 300,000 without one repeated."""
    image, draw = torch.arange(5).repeat_interleave(20), torch.arange(20).repeat(5)
    made = [
        ImageRandom(KEYS, seed, purpose=purpose, device=device).uniform(image, draw, (800,)).reshape(-1, 4)
        for purpose in PURPOSES
        for seed in (0, 1, -1, 2**40, -(2**40))
    ]
    blocks = torch.cat(made).cpu()
    assert len(blocks) == 300_000
    assert len(torch.unique(blocks, dim=0)) == len(blocks)
    # Of single numbers some repeat, as among 1.2 million out of 2^24 to 2^32 they must.
    assert len(torch.unique(blocks)) < blocks.numel()


def test_keys_of_images_seeds_and_purposes_differ():
    keys = [i.to_bytes(8, "little") for i in range(2000)]
    made = [ImageRandom(keys, seed, purpose=purpose).key for seed in range(-5, 5) for purpose in PURPOSES]
    assert len(torch.unique(torch.cat(made), dim=0)) == 2000 * 10 * 3


def test_a_key_permutes_its_counters(device):
    """Philox is a bijection: no two counters of a key give the same four words."""
    block, draw = torch.arange(512, device=device)[None], torch.arange(512, device=device)[:, None]
    zero = torch.zeros_like(block)
    words = torch.stack([w.flatten() for w in philox4x32((block, zero, draw, zero), (zero + 5, zero + 6))], 1)
    assert len(torch.unique(words, dim=0)) == 512 * 512
