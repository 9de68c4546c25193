"""The model of the draws to come: on data drawn from the model itself its probabilities are right."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from scipy import stats

from monai_diffclf.classification import DenoisingErrors, DifferenceModel

DRAWS = 64
LEVELS = torch.linspace(6, -6, DRAWS)[torch.randperm(DRAWS, generator=torch.Generator().manual_seed(0))]
NOISE = (0.01, 0.3, 4.0)  # the noise of the levels differs by a factor of 20 in standard deviation
COVARIANCE = ((0.02, 0.03, 0.0), (0.03, 0.1, 0.05), (0.0, 0.05, 0.4))
MODELS = {
    "three bands": DifferenceModel((-2.0, 2.0), NOISE, COVARIANCE, 6.0),
    "one band": DifferenceModel((), (1.0,), ((0.36,),), 4.0),
    "independent bands": DifferenceModel((0.0,), (1.0, 1.0), ((0.1, 0.0), (0.0, 0.1)), 40.0),
}


def simulate(model: DifferenceModel, images: int, seed: int = 0) -> torch.Tensor:
    """Differences of two classes [images, DRAWS] from the model."""
    rng = np.random.default_rng(seed)
    band = np.searchsorted(model.edges, LEVELS.double().numpy())
    scale = np.sqrt(model.degrees / rng.chisquare(model.degrees, size=(images, 1)))
    means = rng.multivariate_normal(np.zeros(len(model.noise)), model.covariance, size=images)
    noise = rng.normal(size=(images, DRAWS)) * np.sqrt(model.noise)[band]
    return torch.from_numpy(scale * (means[:, band] + noise))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("made", [4, 16, 60])
@pytest.mark.parametrize("name", MODELS)
def test_chances_are_frequencies(name, made, weighted):
    model, images = MODELS[name], 8000
    weights = torch.ones(DRAWS).double()
    if weighted:
        weights = torch.rand(DRAWS, generator=torch.Generator().manual_seed(1)).double()
    x = simulate(model, images)
    chance = model.chance_to_lose(x[:, :made], weights, LEVELS).numpy()
    lost = ((x * weights).sum(1) <= 0).numpy()
    assert made == 4 or (chance.min() < 0.02 and chance.max() > 0.98)
    for low, high in ((0, 0.02), (0.02, 0.1), (0.1, 0.3), (0.3, 0.7), (0.7, 0.9), (0.9, 0.98), (0.98, 1)):
        mine = (chance >= low) & (chance <= high)
        if mine.sum() < 20:
            continue
        # The sum of independent events of known probabilities: 18 tests of 7 bins, 4 standard deviations, and one
        # event for the discreteness where next to none is expected.
        expected, spread = chance[mine].sum(), np.sqrt((chance[mine] * (1 - chance[mine])).sum())
        assert abs(lost[mine].sum() - expected) < 4 * spread + 1, (low, high)


def test_levels_that_are_still_to_come_are_known():
    # The lead so far comes from levels with little noise; those to come decide, and have much of it.
    model = DifferenceModel((0.0,), (0.01, 100.0), ((1.0, 0.0), (0.0, 0.0)), 1000.0)
    x = torch.full((1, 10), 1.0, dtype=torch.float64)
    ones = torch.ones(20)
    quiet = model.chance_to_lose(x, ones, torch.full((20,), -1.0))
    loud = model.chance_to_lose(x, ones, torch.cat([torch.full((10,), -1.0), torch.full((10,), 1.0)]))
    assert quiet < 1e-6
    # 10 of lead against a sum of 10 draws with variance 100; the first ten say the scale of this image is small.
    assert 0.2 < loud < 0.5


def test_classes_are_symmetric():
    model = MODELS["three bands"]
    x = simulate(model, 50)[:, :20]
    first, second = (model.chance_to_lose(y, torch.ones(DRAWS), LEVELS) for y in (x, -x))
    torch.testing.assert_close(first + second, torch.ones(50, dtype=torch.float64))


def test_prior_does_not_depend_on_the_unit():
    x = torch.randn(20, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.5
    model = DifferenceModel.prior()
    chances = [model.chance_to_lose(unit * x, torch.ones(50), torch.zeros(50)) for unit in (1e-6, 1.0, 1e6)]
    torch.testing.assert_close(chances[0], chances[1])
    torch.testing.assert_close(chances[2], chances[1])
    careful = DifferenceModel.prior(0.2).chance_to_lose(x.abs(), torch.ones(50), torch.zeros(50))
    assert (careful > model.chance_to_lose(x.abs(), torch.ones(50), torch.zeros(50))).all()


def test_nothing_to_come_or_nothing_between_the_classes():
    model, ones = DifferenceModel.prior(), torch.ones(5)
    x = torch.tensor([[1.0, -0.5, 0, 0, 0], [-1.0, 0.5, 0, 0, 0], [0, 0, 0, 0, 0]], dtype=torch.float64)
    assert model.chance_to_lose(x, ones, torch.zeros(5)).tolist() == [0, 1, 1]
    assert model.chance_to_lose(x[2:, :3], ones, torch.zeros(5)).tolist() == [1], "equal classes are not decided"


def errors_of(x: torch.Tensor) -> DenoisingErrors:
    """Errors whose difference, class 1 minus class 0, is x."""
    values = torch.stack([torch.zeros_like(x), x], 1).float()
    return DenoisingErrors(values, torch.arange(DRAWS), LEVELS)


def test_fit_recovers_the_model():
    truth = DifferenceModel((-1.95, 2.05), NOISE, COVARIANCE, 6.0)  # thirds of the levels
    fitted = DifferenceModel.fit(errors_of(simulate(truth, 3000)), "mean", num_bands=3)
    assert np.allclose(fitted.edges, np.quantile(LEVELS.double(), [1 / 3, 2 / 3]), atol=1e-6)
    assert np.allclose(fitted.noise, NOISE, rtol=0.1)
    assert np.allclose(fitted.covariance, COVARIANCE, rtol=0.15, atol=0.02)
    assert fitted.degrees in (4.0, 6.0, 8.0)


def test_fit_is_symmetric_and_takes_all_pairs():
    x = simulate(MODELS["one band"], 200)
    errors = errors_of(x)
    swapped = DenoisingErrors(errors.values.flip(1), errors.timesteps, errors.log_snr)
    a, b = (DifferenceModel.fit(e, "mean", num_bands=2) for e in (errors, swapped))
    assert np.allclose(a.covariance, b.covariance)
    assert np.allclose(a.noise, b.noise)
    three = DenoisingErrors(torch.cat([errors.values, 3 * errors.values[:, 1:]], 1), errors.timesteps, errors.log_snr)
    assert DifferenceModel.fit(three, "mean", num_bands=2).noise[0] != pytest.approx(a.noise[0], rel=0.1)


@pytest.mark.parametrize("made", [8, 16, 32])
def test_fit_to_votes(made):
    # Votes are not Gaussian: the chances are near the frequencies, not equal to them.
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3000, DRAWS, generator=generator) + torch.randn(3000, 1, generator=generator)
    model = DifferenceModel.fit(errors_of(x[:1000]), "vote", num_bands=2)
    votes = x[1000:].sign().double()
    chance = model.chance_to_lose(votes[:, :made], torch.ones(DRAWS), LEVELS)
    lost = (votes.sum(1) <= 0).double()
    for low, high in ((0, 0.02), (0.02, 0.1), (0.1, 0.3), (0.3, 0.7), (0.7, 1)):
        mine = (chance >= low) & (chance <= high)
        assert mine.sum() > 50
        assert lost[mine].mean().item() == pytest.approx(chance[mine].mean().item(), abs=0.1 if high > 0.02 else 0.01)


@pytest.mark.parametrize(("draws", "bands"), [(16, 8), (64, 8), (200, 12), (501, 31), (800, 32)])
def test_one_band_to_every_sixteen_draws(draws, bands):
    values = torch.rand(20, 2, draws, generator=torch.Generator().manual_seed(0))
    errors = DenoisingErrors(values, torch.arange(draws), torch.linspace(6, -6, draws))
    assert len(DifferenceModel.fit(errors, "mean").noise) == bands


def test_fit_to_images_all_alike_does_not_break():
    model = DifferenceModel.fit(errors_of(torch.ones(10, DRAWS)), "vote", num_bands=2)
    chance = model.chance_to_lose(torch.ones(1, 4, dtype=torch.float64), torch.ones(DRAWS), LEVELS)
    assert chance.item() < 1e-6


@pytest.mark.parametrize("levels", [1, 4])
def test_fit_with_fewer_levels_than_bands(levels):
    errors = errors_of(simulate(MODELS["one band"], 100))
    few = DenoisingErrors(errors.values, errors.timesteps, torch.arange(DRAWS).remainder(levels).float())
    model = DifferenceModel.fit(few, "mean", num_bands=8)
    assert np.isfinite(model.noise).all()
    assert np.isfinite(model.covariance).all()


def test_equal_models_are_one():
    model = MODELS["three bands"]
    lists = DifferenceModel([-2.0, 2.0], list(NOISE), [list(row) for row in COVARIANCE], 6)
    assert lists == model
    assert hash(lists) == hash(model)
    assert {model: 1}[lists] == 1


def test_survives_json():
    model = DifferenceModel.fit(errors_of(simulate(MODELS["three bands"], 60)), "mean")
    again = DifferenceModel.from_dict(json.loads(json.dumps({**model.to_dict(), "rule": "mean"})))
    assert again == model
    with pytest.raises(ValueError, match=r"values: expected edges, noise, .*; \['covariance', 'noise'\] missing"):
        DifferenceModel.from_dict({"edges": [], "degrees": 1.0})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((0.0,), (1.0,), ((1.0,),), 1.0), r"expected J bands with J - 1 edges and a covariance \[J, J\], got 1, 1"),
        (((), (1.0,), ((1.0, 0.0),), 1.0), r"got 1, 0 and \[1, 2\]"),
        (((), (0.0,), ((1.0,),), 1.0), "expected variances above 0 and degrees of at least 0"),
        (((), (1.0,), ((-1.0,),), 1.0), "expected variances above 0"),
        (((), (1.0,), ((1.0,),), -1.0), "expected variances above 0 and degrees of at least 0"),
        (((), (float("nan"),), ((1.0,),), 1.0), "expected variances above 0"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        DifferenceModel(*arguments)


@pytest.mark.parametrize("strength", [0, -1, float("nan")])
def test_prior_refuses(strength):
    with pytest.raises(ValueError, match=f"strength: expected a positive number, got {strength}"):
        DifferenceModel.prior(strength)


def test_fit_refuses():
    x = simulate(MODELS["one band"], 20)
    holes = errors_of(x)
    holes.values[3, 1, 5] = torch.nan
    message = "errors: expected at least 8 images and {} draws, all evaluated; got {} images and {} draws"
    for errors, bands, numbers in (
        (errors_of(x[:7]), 8, (16, 7, 64)),
        (errors_of(x).first(15), 8, (16, 20, 15)),
        (errors_of(x), 33, (66, 20, 64)),
        (holes, 8, (16, 20, 64)),
    ):
        with pytest.raises(ValueError, match=message.format(*numbers)):
            DifferenceModel.fit(errors, num_bands=bands)
    with pytest.raises(ValueError, match="rule: expected one of"):
        DifferenceModel.fit(errors_of(x), "median")


def test_student_t_of_a_single_band():
    # By hand: one band, n draws, unknown scale: the sum to come has a t distribution with n degrees of freedom.
    x = torch.tensor([[0.3, 1.1, 0.2, 0.9, -0.4]], dtype=torch.float64)
    n, left, tau = 5, 15, 0.36
    mean = x.mean().item()
    squares = ((x - mean) ** 2).sum().item() + mean**2 / (tau + 1 / n)
    center = x.sum().item() + left * mean * tau / (tau + 1 / n)
    spread = left**2 * tau * (1 / n) / (tau + 1 / n) + left
    expected = stats.t.cdf(-center / np.sqrt(spread * squares / n), n)
    got = DifferenceModel.prior(0.6).chance_to_lose(x, torch.ones(20), torch.zeros(20)).item()
    assert got == pytest.approx(expected, rel=1e-9)
