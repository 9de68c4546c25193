"""The numbers behind tiles and figures, against scikit-learn and by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import auc, balanced_accuracy_score, roc_auc_score

from monai_diffclf.classification import classify_errors
from monai_diffclf.report.curves import (
    auc_by_level,
    classify,
    metric_table,
    quality_by_draws,
    rejection_curve,
    roc_curves,
    vote_uncertainty,
)


@pytest.mark.parametrize("rule", ["vote", "mean"])
def test_temperature_changes_no_class(data, rule):
    expected = classify_errors(data.errors, rule).predicted
    assert torch.equal(classify(data.errors, rule, "uniform").predicted, expected)


def test_mean_error_probabilities_do_not_saturate(data):
    large = replace(data.errors, num_elements=1_000_000)
    probabilities = classify(large, "mean", "uniform").probabilities[:, 1].numpy()
    advantage = (data.errors.values[:, 0] - data.errors.values[:, 1]).double().mean(1).numpy()
    assert len(np.unique(probabilities)) == len(probabilities)
    np.testing.assert_array_equal(np.argsort(probabilities), np.argsort(advantage))


def test_equal_errors_do_not_divide_by_zero(data):
    equal = replace(data.errors, values=torch.full_like(data.errors.values, 0.3))
    assert torch.allclose(classify(equal, "mean", "uniform").probabilities, torch.tensor(0.5))


def test_metrics_curves_and_all_draws_agree(data):
    table, curves, (counts, quality) = metric_table(data), roc_curves(data), quality_by_draws(data)
    assert counts[0] == 1
    assert counts[-1] == data.errors.num_draws
    for rule, name in (("vote", "Majority vote"), ("mean", "Mean error")):
        result = classify(data.errors, rule, "uniform")
        area = roc_auc_score(data.labels, result.probabilities[:, 1])
        balanced = balanced_accuracy_score(data.labels, result.predicted)
        assert table[rule]["auc"]["value"] == pytest.approx(area)
        assert auc(*curves[name]) == pytest.approx(area)
        assert quality["auc"][rule][-1] == pytest.approx(area)
        assert quality["balanced_accuracy"][rule][-1] == pytest.approx(balanced)
        assert table[rule]["balanced_accuracy"]["value"] == pytest.approx(balanced)


def test_three_classes_have_a_curve_each(three_classes):
    curves = roc_curves(three_classes)
    probabilities = classify(three_classes.errors, "vote", "uniform").probabilities
    assert list(curves) == ["clear", "lesion", "other"]
    for k, curve in enumerate(curves.values()):
        assert auc(*curve) == pytest.approx(roc_auc_score(three_classes.labels == k, probabilities[:, k]))


def test_single_draws_are_ranked_by_rising_noise(data):
    values = data.errors.values.clone()
    values[:, :, 3] = torch.tensor(data.labels)[:, None] == torch.arange(2)  # the worst draw possible
    shuffled = replace(data.errors, values=values, log_snr=data.errors.log_snr.flip(0))
    log_snr, areas = auc_by_level(replace(data, errors=shuffled))
    assert (np.diff(log_snr) < 0).all()
    assert areas[data.errors.num_draws - 1 - 3] == 0
    advantage = (values[:, 0, 0] - values[:, 1, 0]).numpy()
    assert areas[-1] == pytest.approx(roc_auc_score(data.labels, advantage))


def test_draws_never_made_do_not_count(three_classes):
    _, areas = auc_by_level(three_classes)
    assert len(areas) == 11
    assert np.isfinite(areas).all()


def test_uncertainty_is_0_when_votes_agree_and_1_when_they_split(data):
    values = torch.zeros(2, 2, 4)
    values[0, 1] = 1
    values[1, 0, :2] = values[1, 1, 2:] = 1
    errors = replace(data.errors, values=values, timesteps=data.errors.timesteps[:4], log_snr=data.errors.log_snr[:4])
    assert vote_uncertainty(classify(errors, "vote", "uniform")).tolist() == [0, 1]


def test_rejection_starts_with_all_images_and_ends_with_the_surest(data):
    share, accuracy = rejection_curve(data)
    result = classify(data.errors, "vote", "uniform")
    correct = result.predicted.numpy() == data.labels
    assert share[0] == 0
    assert accuracy[0] == pytest.approx(correct.mean())
    assert (np.diff(share) > 0).all()
    assert share[-1] <= 0.95
    unanimous = (result.vote_share.max(1).values == 1).numpy()
    assert share[-1] == pytest.approx(1 - unanimous.mean())
    assert accuracy[-1] == pytest.approx(correct[unanimous].mean())
