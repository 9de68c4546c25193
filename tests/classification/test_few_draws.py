"""One draw, or a few, at the levels that tell most: known where the differences are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score

from monai_diffclf.classification import DenoisingErrors, FewDraws, LevelWeights, few_draws_auc, fit_few_draws
from monai_diffclf.classification.few_draws import macro_auc, stand_ins

DRAWS = 60
LOG_SNR = torch.linspace(8, -8, DRAWS)[torch.randperm(DRAWS, generator=torch.Generator().manual_seed(3))]


def gaussian(images: int, classes: int = 2, peak: float = 4.0, noise: float = 1.0, seed: int = 0):
    """Paired differences N(gap, noise^2), where the gap is 2 at the peak and falls off beside it."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(images) % classes
    gap = 2 * torch.exp(-((LOG_SNR - peak) ** 2) / 4)
    values = 10 + noise / 2**0.5 * torch.randn(images, classes, DRAWS, generator=generator)
    values[torch.arange(images), labels] -= gap
    return DenoisingErrors(values, torch.arange(DRAWS), LOG_SNR, num_elements=16), labels


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("peak", [-3.0, 4.0])
def test_one_draw_goes_where_the_gap_is(classes, peak):
    errors, labels = gaussian(600, classes, peak)
    assert fit_few_draws(errors, labels).log_snr[0] == pytest.approx(peak, abs=1.0)


def test_its_auc_is_the_one_of_gaussian_differences():
    # The lead of class 1 is N(-2, 1) in images of class 0, N(2, 1) in those of class 1: AUC = Phi(4 / sqrt 2).
    errors, labels = gaussian(4000)
    peak = int((LOG_SNR - 4).abs().argmin())
    scores = -errors.values[:, :, [peak]].double().numpy()
    gap = 2 * float(torch.exp(-((LOG_SNR[peak] - 4) ** 2) / 4))
    assert macro_auc(scores, labels.numpy())[0] == pytest.approx(stats.norm.cdf(2 * gap / 2**0.5), abs=0.002)


def test_few_draws_that_all_say_the_same_are_as_good_as_all():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(300) % 2
    lead = torch.randn(300, 1, generator=generator) + 1.5 * (2 * labels[:, None] - 1)
    values = torch.stack([5 + lead.expand(-1, DRAWS), 5 - lead.expand(-1, DRAWS)], 1)
    found = few_draws_auc(DenoisingErrors(values, torch.arange(DRAWS), LOG_SNR), labels, repeats=1)
    assert found["few"] == pytest.approx(found["all"], abs=1e-9) and found["folds"] == 5


def test_choosing_by_chance_promises_nothing():
    # Nothing tells the classes apart: the best of 60 levels looks good where it is chosen, and is not elsewhere.
    generator = torch.Generator().manual_seed(5)
    labels = torch.arange(120) % 2
    errors = DenoisingErrors(torch.rand(120, 2, DRAWS, generator=generator), torch.arange(DRAWS), LOG_SNR)
    best = macro_auc(-errors.values.double().numpy(), labels.numpy()).max()
    assert best > 0.58 and abs(few_draws_auc(errors, labels)["few"] - 0.5) < 0.05


def test_more_draws_tell_more():
    errors, labels = gaussian(400, noise=3.0)
    few = [few_draws_auc(errors, labels, count, repeats=1)["few"] for count in (1, 4)]
    assert few[1] > few[0] + 0.05
    assert len(set(fit_few_draws(errors, labels, 4).log_snr)) == 4


def test_temperature_is_that_of_the_posterior():
    # Errors e_k = z_k with unit variance and true class lower by 2: log odds are 2 (e_j - e_k), softmax(-D e / 2 T).
    errors, labels = gaussian(6000, noise=2**0.5)
    few = fit_few_draws(errors, labels)
    gap = 2 * np.exp(-((few.log_snr[0] - 4) ** 2) / 4)
    assert few.temperature == pytest.approx(16 / 2 / gap, rel=0.15)


@pytest.mark.parametrize("classes", [2, 4])
def test_macro_auc_is_that_of_scikit_learn(classes):
    rng = np.random.default_rng(0)
    labels = np.arange(80) % classes
    scores = rng.integers(-8, 8, (80, classes, 3)) / 8  # with ties, exact in binary
    unit = np.sqrt(((scores - scores.mean(1, keepdims=True)) ** 2).mean((0, 1))) if classes > 2 else 1.0
    odds = np.exp(scores / unit)
    p = odds / odds.sum(1, keepdims=True)
    expected = [np.mean([roc_auc_score(labels == k, p[:, k, n].round(12)) for k in range(classes)]) for n in range(3)]
    assert macro_auc(scores, labels) == pytest.approx(expected, abs=1e-3)


def test_stand_ins_are_the_nearest_and_differ():
    found = list(stand_ins((4.0, 4.0), LOG_SNR.double().numpy()))
    assert all(len(set(own)) == 2 for own in found) and len({own[0] for own in found}) == len(found) == 3
    assert all(abs(float(LOG_SNR[n]) - 4) < 1 for own in found for n in own)


def test_weights_of_the_levels_count():
    errors, labels = gaussian(600)
    low = LevelWeights((0.0,), (1.0, 0.0))  # nothing above a log-SNR of 0
    assert fit_few_draws(errors, labels, weighting=low).log_snr[0] < 0.5


def test_refusals():
    errors, labels = gaussian(40)
    with pytest.raises(ValueError, match="num_draws: expected 1 to 15"):
        fit_few_draws(errors, labels, 16)
    with pytest.raises(ValueError, match="labels: expected one a class"):
        fit_few_draws(errors, torch.zeros(40).long())
    with pytest.raises(ValueError, match="weighting: expected a name or LevelWeights"):
        fit_few_draws(errors, labels, weighting=torch.ones(DRAWS))
    with pytest.raises(ValueError, match="errors: expected all draws"):
        fit_few_draws(DenoisingErrors(errors.values, errors.timesteps, LOG_SNR, importance=torch.ones(DRAWS)), labels)
    for few in (fit_few_draws, few_draws_auc):
        for wrong, said in (
            (labels + 0.5, "labels: expected class numbers from 0 to 1, got 0.5 in 40 image"),
            (labels[:-1], r"labels: expected one class an image, \[40\], got \[39\]"),
            (labels - 1, "labels: expected class numbers from 0 to 1, got -1"),
        ):
            with pytest.raises(ValueError, match=said):
                few(errors, wrong)
        with pytest.raises(TypeError, match="errors: expected DenoisingErrors, got Tensor"):
            few(errors.values, labels)
        for value, said in ((torch.nan, r"some were not evaluated for image\(s\) \[3\]"), (torch.inf, "got infinity")):
            values = errors.values.clone()
            values[3, 1, 5] = value
            with pytest.raises(ValueError, match=f"errors: expected .*{said}"):
                few(DenoisingErrors(values, errors.timesteps, LOG_SNR), labels)
    for levels, temperature in (((), 1.0), ((float("nan"),), 1.0), ((1.0,), 0.0)):
        with pytest.raises(ValueError, match="log_snr: expected|temperature: expected"):
            FewDraws(levels, temperature)
    few = FewDraws((5.3, 1.0), 2.0)
    assert FewDraws.from_dict(few.to_dict()) == few and len(few) == 2


def test_labels_may_be_any_whole_numbers():
    errors, labels = gaussian(40)
    few = fit_few_draws(errors, labels)
    for same in (labels.tolist(), labels.numpy(), labels[:, None], labels.double()):
        assert fit_few_draws(errors, same) == few
    auc = few_draws_auc(errors, labels.tolist(), repeats=1, patients=[i // 2 for i in range(40)])
    assert auc == few_draws_auc(errors, labels, repeats=1, patients=torch.arange(40) // 2)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"num_folds": 1}, "num_folds: expected a whole number from 2 to 20, .*, got 1"),
        ({"num_folds": 1000}, "num_folds: expected a whole number from 2 to 20, .*, got 1000"),
        ({"num_folds": 2.5}, "num_folds: expected a whole number from 2 to 20, .*, got 2.5"),
        ({"patients": ["a", "b"]}, r"patients: expected one patient an image, \[40\], got \[2\]"),
        ({"patients": ["a", "b", "c", "d"] * 10}, "num_folds: expected a whole number from 2 to 4, .*, got 5"),
        ({"patients": ["a"] * 40}, "num_folds: expected patients and images of a class for at least 2 folds, got 1"),
        ({"repeats": 0}, "repeats: expected a positive integer, got 0"),
    ],
)
def test_folds_that_cannot_be_are_refused(settings, said):
    errors, labels = gaussian(40)
    with pytest.raises(ValueError, match=said):
        few_draws_auc(errors, labels, **settings)
