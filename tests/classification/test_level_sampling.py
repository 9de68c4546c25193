"""Levels under a density, mirrored noise, and the estimates that follow from them."""

from __future__ import annotations

import json

import pytest
import torch

from monai_diffclf.classification import DenoisingErrors, LevelSampling, NoiseDraws, classify_errors

SAMPLING = LevelSampling(density=(3.0, 1.0, 0.5, 2.0, 1.5), antithetic=(True, False, True, True, False))
KEY = b"an image"


def test_quantile_inverts_the_integral_of_the_density():
    grid = torch.linspace(0, 1, 5001, dtype=torch.float64)[:-1] + 1e-4
    integral = SAMPLING.at(grid).cumsum(0) / 5000
    assert integral[-1].item() == pytest.approx(1, abs=1e-9)
    torch.testing.assert_close(SAMPLING.quantile(integral.clamp(max=1 - 1e-12)), grid + 1e-4, atol=1e-3, rtol=0)


@pytest.mark.parametrize("density", [(1.0,), (1.0, 1.0, 1.0)])
def test_equal_densities_change_nothing(density):
    levels = torch.linspace(0, 1, 100, dtype=torch.float64)[:-1]
    torch.testing.assert_close(LevelSampling(density).quantile(levels), levels)
    torch.testing.assert_close(LevelSampling(density).at(levels), torch.ones(99, dtype=torch.float64))
    assert not LevelSampling(density).mirrored(levels).any()


def test_ends_of_the_schedule():
    ends = SAMPLING.quantile(torch.tensor([0.0, 1 - 1e-16, 1.0], dtype=torch.float64))
    assert ends[0] == 0
    assert (ends < 1).all()
    assert SAMPLING.at(torch.tensor([0.0, 1.0])).tolist() == SAMPLING.at(torch.tensor([0.1, 0.9])).tolist()


@pytest.mark.parametrize("num_draws", [2, 50, 51, 400])
def test_more_draws_where_the_density_is_high(num_draws):
    levels = NoiseDraws.make(num_draws, LevelSampling((3.0, 1.0)), seed=2).levels
    assert (levels < 0.5).sum().item() == pytest.approx(0.75 * num_draws, abs=1.5)


@pytest.mark.parametrize("num_draws", [1, 2, 3, 51, 64])
def test_pairs_share_a_level_and_have_opposite_noise(num_draws):
    draws = NoiseDraws.make(num_draws, SAMPLING, seed=1)
    assert len(draws) == num_draws
    mirrors = [-1] * num_draws if draws.mirrors is None else draws.mirrors.tolist()
    for n, mirror in enumerate(mirrors):
        if mirror >= 0:
            assert (mirror, n % 2) == (n - 1, 1), "a pair is adjacent, its own noise comes first"
            assert draws.levels[n] == draws.levels[mirror]
            assert SAMPLING.mirrored(draws.levels[[n]]).all()
            assert torch.equal(draws.noise(KEY, n, (1, 4, 4)), -draws.noise(KEY, mirror, (1, 4, 4)))
    alone = [n for n in range(num_draws) if n not in mirrors and mirrors[n] < 0]
    if num_draws == 64:
        assert 16 < sum(m >= 0 for m in mirrors) < 28, "3 of 5 parts are mirrored"
        assert not SAMPLING.mirrored(draws.levels[alone]).float().mean() > 0.2
    noises = torch.stack([draws.noise(KEY, n, (4, 4)) for n in range(num_draws) if mirrors[n] < 0])
    assert len(torch.unique(noises[:, 0, 0])) == len(noises), "all other noise is independent"
    assert draws.importance.tolist() == (1 / SAMPLING.at(draws.levels)).tolist()


def test_without_mirrors_noise_is_as_ever():
    sampled, plain = NoiseDraws.make(8, LevelSampling((1.0, 2.0)), seed=4), NoiseDraws.make(8, seed=4)
    assert sampled.mirrors is None
    assert plain.importance is None
    for n in range(8):
        assert torch.equal(sampled.noise(KEY, n, (2, 2)), plain.noise(KEY, n, (2, 2)))


CASES = [
    pytest.param(n, mirrored, id=f"{n}-{name}")
    for n in (1, 2, 3, 8)
    for name, mirrored in (("none", ()), ("all", (True,) * 5), ("some", (True, False, True, True, False)))
    if (n, name) != (2, "some")
]


@pytest.mark.parametrize(("num_draws", "antithetic"), CASES)
def test_weighted_means_are_those_over_uniform_levels(num_draws, antithetic):
    sampling = LevelSampling(SAMPLING.density, antithetic)
    draws = [NoiseDraws.make(num_draws, sampling, seed=seed) for seed in range(200)]
    t, importance = (torch.stack([getattr(d, name) for d in draws]) for name in ("levels", "importance"))
    for values, integral in ((t**2, 1 / 3), ((1 - t) ** 3, 1 / 4), (torch.ones_like(t), 1.0)):
        got = (values * importance).mean(1)
        # 33 such numbers: one beyond 4 standard errors by chance in 500 runs, were the seeds not fixed.
        assert abs(got.mean() - integral) < 4 * got.std() / 200**0.5 + 1e-9


def test_importance_sampling_spares_draws():
    # A function that varies in the first fifth of the schedule only.
    def spread(density):
        means = []
        for seed in range(80):
            draws = NoiseDraws.make(20, LevelSampling(density), seed=seed)
            noise = torch.stack([draws.noise(KEY + bytes([seed]), n, (1,)) for n in range(20)])[:, 0]
            x = torch.where(draws.levels < 0.2, 3 * noise, 0.3 * noise)
            means.append((x * draws.importance).mean())
        return torch.stack(means).std().item()

    assert spread((10.0, 1.0, 1.0, 1.0, 1.0)) < 0.75 * spread((1.0,) * 5)


def test_the_vote_is_that_over_uniform_levels():
    # Class 0 wins where t < 0.55 only, the density is highest there: unweighted votes would say 0.85.
    sampling = LevelSampling((6.0, 6.0, 6.0, 1.0, 1.0))
    draws = NoiseDraws.make(2000, sampling)
    values = torch.stack([draws.levels, torch.full((2000,), 0.55)])[None].float()
    errors = DenoisingErrors(values, torch.arange(2000), draws.levels, importance=draws.importance)
    for rule in ("vote", "weighted_vote"):
        assert classify_errors(errors, rule).vote_share[0, 0].item() == pytest.approx(0.55, abs=0.002)
    plain = DenoisingErrors(values, torch.arange(2000), draws.levels)
    assert classify_errors(plain).vote_share[0, 0] > 0.8


def test_survives_json():
    again = LevelSampling.from_dict(json.loads(json.dumps({**SAMPLING.to_dict(), "network": "abc"})))
    assert again == SAMPLING
    assert LevelSampling.from_dict({"density": [1, 2]}) == LevelSampling((1.0, 2.0))
    with pytest.raises(ValueError, match="values: expected density, it is missing"):
        LevelSampling.from_dict({})


@pytest.mark.parametrize(
    ("density", "antithetic", "message"),
    [
        ((), (), r"density: expected positive numbers, one for each part, got \[\]"),
        ((1.0, 0.0), (), r"density: expected positive numbers, one for each part, got \[1.0, 0.0\]"),
        ((1.0, float("nan")), (), "density: expected positive numbers"),
        ((1.0, float("inf")), (), "density: expected positive numbers"),
        ((1.0, 1.0), (True,), "antithetic: expected one value for each of the 2 parts, got 1"),
    ],
)
def test_refuses(density, antithetic, message):
    with pytest.raises(ValueError, match=message):
        LevelSampling(density, antithetic)
