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


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0.0, 0.75], r"y: expected class numbers 0, 1, ..., got 0.75 in 1 image\(s\), the first at 1"),
        ([0.0, -0.75], "y: expected class numbers 0, 1, ..., got -0.75"),
        ([[0.0], [0.75]], "y: expected class numbers 0, 1, ..., got 0.75"),
        ([0, -1], "y: expected class numbers 0, 1, ..., got -1"),
        ([0.0, float("nan")], "y: expected class numbers 0, 1, ..., got nan"),
        ([[1.0, 0.0], [0.25, 0.75]], r"y: expected class numbers .* one-hot .* got 1 other row\(s\), the first \[0.25"),
        ([[1, 1], [0, 0]], r"y: expected class numbers .* got 2 other row\(s\), the first \[1, 1\]"),
        ([[1, 0], [2, -1]], r"y: expected class numbers .* got 1 other row\(s\), the first \[2, -1\]"),
    ],
)
def test_what_is_no_class_is_refused(labels, message):
    predictions = torch.tensor([[0.8, 0.2], [0.2, 0.8]])
    for metric in (BrierScore(), PooledCalibrationError(), NegativeLogLikelihood(), RiskCoverage(), PredictionSets()):
        for given in (torch.tensor(labels), list(torch.tensor(labels))):
            with pytest.raises(ValueError, match=message):
                metric(predictions, given)
    with pytest.raises(ValueError, match=message):
        OutOfDistributionAUC()(predictions[:, 1], torch.tensor(labels))


def test_labels_may_be_of_any_type():
    predictions = torch.tensor([[0.8, 0.2], [0.4, 0.6]])
    one_hot = torch.tensor([[True, False], [False, True]])
    for labels in ([0, 1], torch.tensor([0.0, 1.0]), torch.tensor([[0], [1]]), one_hot, one_hot.float(), one_hot.int()):
        metric = BrierScore()
        metric(predictions, labels)
        assert float(metric.aggregate()) == pytest.approx((0.08 + 0.32) / 2)


def test_what_is_no_probability_is_refused():
    logits, labels = torch.tensor([[1.2, 0.8], [-2.0, 2.0]]), torch.tensor([0, 1])
    for metric in (BrierScore(), PooledCalibrationError(), NegativeLogLikelihood(), RiskCoverage()):
        metric(logits, labels)
        with pytest.raises(ValueError, match=r"probabilities: expected numbers in \[0, 1\] .*logits\? apply softmax"):
            metric.aggregate()
    p = torch.tensor([[0.9], [0.1], [0.2], [0.8]])  # of class 1, as a sigmoid gives
    for predictions in (p, p[:, 0], list(p)):
        for labels in (torch.tensor([1, 0, 0, 1]), torch.tensor([[1.0], [0.0], [0.0], [1.0]]), [1, 0, 0, 1]):
            with pytest.raises(ValueError, match=r"y: expected whether the class given was right, bool .*torch.stack"):
                RiskCoverage()(predictions, labels)
    metric = RiskCoverage("accuracy_at_coverage", coverage=1.0)
    metric(torch.cat([1 - p, p], 1), torch.tensor([1, 0, 0, 1]))
    assert float(metric.aggregate()) == 1.0
    foreign = OutOfDistributionAUC()
    foreign(torch.rand(2, 2), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"y_pred: expected one score an image, \[B\], got \[2, 2\]"):
        foreign.aggregate()


def test_in_an_ignite_handler():
    labels, p = simulate()
    handler = IgniteMetricHandler(BrierScore(), output_transform=lambda output: output, save_details=False)
    handler.update((torch.from_numpy(p), torch.from_numpy(labels)))
    assert handler.compute() == pytest.approx(float(brier_score(labels, p)))


def test_repeated_images_do_not_count(device):
    labels, p = simulate()
    again = np.r_[np.arange(31), [0, 1, 2]]
    for metric, function in METRICS:
        metric.reset()
        for part in (slice(0, 20), slice(20, 34)):
            pred, y = torch.from_numpy(p[again[part]]).to(device), torch.from_numpy(labels[again[part]])
            metric(pred, y, repeated=np.arange(34)[part] >= 31)
        assert float(metric.aggregate()) == pytest.approx(float(function(labels, p)))
    metric = RiskCoverage()
    metric([0.3, 0.1, 0.3], [True, False, True], repeated=[False, False, True])
    assert float(metric.aggregate()) == pytest.approx(float(aurc([1, 0], [0.3, 0.1])))


@pytest.mark.slow
@pytest.mark.parametrize("padded", [[], ["padded"]])
def test_two_processes_with_different_numbers_of_images(tmp_path, padded):
    """Metrics, shift test and subgroup report of seven images are those of one process."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path), *padded],
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
