"""Metrics filled batch by batch: the same as of all images at once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.handlers import IgniteMetricHandler

from monai_diffclf.metrics import (
    BrierScore,
    NegativeLogLikelihood,
    OutOfDistributionAUC,
    PooledCalibrationError,
    PredictionSets,
    RiskCoverage,
    accuracy_at_coverage,
    aurc,
    brier_score,
    class_set_coverage,
    classwise_calibration_error,
    excess_aurc,
    expected_calibration_error,
    negative_log_likelihood,
    roc_auc,
    set_coverage,
    set_size,
)

SCRIPT = Path(__file__).with_name("gather_across_processes.py")


def simulate(count=31, classes=3):
    rng = np.random.default_rng(0)
    return rng.integers(0, classes, count), rng.dirichlet(np.ones(classes), count)


def ranked(function, **options):
    return lambda y, p: function(p.argmax(1) == y, 1 - p.max(1), **options)


METRICS = [
    (PooledCalibrationError(), expected_calibration_error),
    (PooledCalibrationError(5, classwise=True), lambda y, p: classwise_calibration_error(y, p, num_bins=5)),
    (BrierScore(), brier_score),
    (NegativeLogLikelihood(), negative_log_likelihood),
    (RiskCoverage(), ranked(aurc)),
    (RiskCoverage("excess_aurc"), ranked(excess_aurc)),
    (RiskCoverage("accuracy_at_coverage", coverage=0.7), ranked(accuracy_at_coverage, coverage=0.7)),
]


@pytest.mark.parametrize(("metric", "function"), METRICS)
@pytest.mark.parametrize("form", ["tensors", "one-hot", "column", "decollated", "decollated one-hot"])
def test_batches_are_the_whole(metric, function, form, device):
    labels, p = simulate()
    metric.reset()
    for start in range(0, 31, 8):
        y, pred = torch.from_numpy(labels[start : start + 8]), torch.from_numpy(p[start : start + 8]).to(device)
        if "one-hot" in form:
            y = torch.eye(3)[y]
        if form == "column":
            y = y[:, None]
        if form.startswith("decollated"):
            pred, y = list(pred), [int(label) for label in y] if form == "decollated" else list(y)
        metric(pred, y)
    assert float(metric.aggregate()) == pytest.approx(float(function(labels, p)))
    metric.reset()
    metric(torch.from_numpy(p[:9]), torch.from_numpy(labels[:9]))
    assert float(metric.aggregate()) == pytest.approx(float(function(labels[:9], p[:9])))


@pytest.mark.parametrize(
    ("name", "function"),
    [("coverage", set_coverage), ("size", lambda y, s: set_size(s)), ("class_coverage", class_set_coverage)],
)
def test_prediction_sets(name, function):
    labels, p = simulate()
    metric, sets = PredictionSets(name), p > 0.2
    for part in (slice(0, 20), slice(20, 31)):
        metric(list(torch.from_numpy(sets[part])), labels[part].tolist())
    assert metric.aggregate().numpy() == pytest.approx(function(labels, sets))


def test_other_uncertainties_and_foreign_images():
    rng = np.random.default_rng(1)
    scores, truth = rng.random(20), rng.random(20) > 0.4
    for metric, expected in (
        (RiskCoverage(), aurc(truth, scores)),
        (OutOfDistributionAUC(), roc_auc(truth, scores)),
    ):
        for shape in ((20,), (20, 1)):
            metric.reset()
            metric(torch.from_numpy(scores).reshape(shape), torch.from_numpy(truth))
            assert float(metric.aggregate()) == pytest.approx(float(expected))


def test_precision_of_the_predictions_is_kept():
    labels, p = simulate()
    metric = NegativeLogLikelihood()
    metric(torch.from_numpy(p), torch.from_numpy(labels))
    assert float(metric.aggregate()) == pytest.approx(float(negative_log_likelihood(labels, p)), rel=1e-14)


def test_bad_input():
    metric = BrierScore()
    with pytest.raises(ValueError, match="aggregate: expected at least one image, got none"):
        metric.aggregate()
    with pytest.raises(ValueError, match="y: expected the labels, got None"):
        metric(torch.ones(1, 2))
    with pytest.raises(ValueError, match="y: expected one label an image, 2, got 1"):
        metric(torch.ones(2, 2) / 2, torch.zeros(1))
    with pytest.raises(
        ValueError, match=r"y: expected class numbers \[B\] or one-hot labels \[B, K\], got \[1, 2, 2\]"
    ):
        metric(torch.ones(1, 2), torch.zeros(1, 2, 2))
    with pytest.raises(ValueError, match="statistic: expected one of .*'aurc'.* got 'auc'"):
        RiskCoverage("auc")
    with pytest.raises(ValueError, match="coverage: expected a number in"):
        RiskCoverage(coverage=0)
    with pytest.raises(ValueError, match="statistic: expected one of .*'class_coverage'.*got 'width'"):
        PredictionSets("width")


def test_in_an_ignite_handler():
    labels, p = simulate()
    handler = IgniteMetricHandler(BrierScore(), output_transform=lambda output: output, save_details=False)
    handler.update((torch.from_numpy(p), torch.from_numpy(labels)))
    assert handler.compute() == pytest.approx(float(brier_score(labels, p)))


@pytest.mark.slow
def test_two_processes_with_different_numbers_of_images(tmp_path):
    """Metrics, shift test and subgroup report of seven images are those of one process."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path)],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    alone, first, second = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("1_0", "2_0", "2_1"))
    assert len(alone["metrics"]) == 9
    assert first["metrics"] == second["metrics"] == pytest.approx(alone["metrics"])
    assert first["shift"] == second["shift"] == alone["shift"]
    assert (alone["warnings"], first["warnings"], second["warnings"]) == (1, 1, 0)
    assert (tmp_path / "subgroups_1.csv").read_text() == (tmp_path / "subgroups_2.csv").read_text()
