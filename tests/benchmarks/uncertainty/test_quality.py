"""Comparisons of the uncertainty benchmark are paired by the images' keys; prediction sets count their misses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.uncertainty.coverage import coverage_table, law_of_hits, one_a_patient, split_of
from benchmarks.uncertainty.predictions import Predictions, halves, of_errors, of_tables, one_model
from benchmarks.uncertainty.quality import area, rejection_table
from monai_diffclf.metrics import paired_difference_interval
from monai_diffclf.storage import load_errors

ROOT = Path(__file__).resolve().parents[3]
EVALUATION = ROOT / "bundles" / "pneumonia_xray_diffusion" / "docs" / "evaluation"
TABLES = ROOT / "bundles" / "pneumonia_xray_resnet18" / "docs" / "predictions"
RESULTS = ROOT / "benchmarks" / "results" / "uncertainty_pneumonia_xray_diffusion.json"
KEYS = np.array([f"image_{i:03d}" for i in range(120)])
LABELS = np.arange(120) % 2
PATIENTS = np.array([f"patient_{i // 4}" for i in range(120)])


def made(seed: int, order=None) -> Predictions:
    """Answers of a mediocre model, its images in some order."""
    order = np.arange(120) if order is None else order
    p = 1 / (1 + np.exp(-(2 * LABELS - 1) - 1.5 * np.random.default_rng(seed).standard_normal(120)))
    return Predictions(KEYS[order], LABELS[order], PATIENTS[order], [np.column_stack([1 - p, p])[order]])


def difference(one: Predictions, other: Predictions):
    """As the benchmark makes it."""
    return paired_difference_interval(area, one.labels, one.ranked("probability"), other.ranked("probability"))


def test_a_model_in_another_order_does_not_differ_from_itself():
    shuffled = made(0, np.random.default_rng(1).permutation(120))
    assert difference(made(0), shuffled.in_order_of(made(0), "other")) == (0, 0, 0)
    paired_by_row = difference(made(0), shuffled)  # the value is right, the interval is not
    assert paired_by_row.value == pytest.approx(0) and paired_by_row.high - paired_by_row.low > 0.05


def test_trainings_in_other_orders_are_one_model():
    rng = np.random.default_rng(2)
    model = one_model([made(seed, rng.permutation(120)) for seed in range(3)], "model").in_order_of(made(0), "model")
    assert (model.keys == KEYS).all() and (model.labels == LABELS).all() and (model.groups == PATIENTS).all()
    for seed in range(3):
        np.testing.assert_array_equal(model.probabilities[seed], made(seed).probabilities[0])
    np.testing.assert_allclose(model.ensemble().probabilities[0], sum(model.probabilities) / 3)


def test_other_images_are_refused():
    other = made(0)
    other.keys = np.where(KEYS == "image_007", "image_900", KEYS)
    with pytest.raises(ValueError, match=r"resnet18: expected the same 120 images .*\['image_007 of class 1'\]"):
        other.in_order_of(made(0), "resnet18")


def test_the_written_difference_is_that_of_pairs():
    stored = [load_errors(EVALUATION / f"errors_test_seed_{seed}.npz") for seed in range(3)]
    mean = of_errors(stored, "mean", "uniform", 0.27)
    mean.uncertainty = {"probability": mean.uncertainty["probability"]}
    tables = of_tables([TABLES / f"test_seed_{seed}.csv" for seed in range(3)])
    assert (tables.keys != mean.keys).any(), "the tables are in another order than the errors"
    models = {"diffusion_mean": mean, "resnet18": tables.in_order_of(mean, "resnet18")}
    found = rejection_table(models, ["resnet18"])["diffusion_mean, probability"]["aurc_less_resnet18"]
    written = json.loads(RESULTS.read_text())["rejection"]["diffusion_mean, probability"]["aurc_less_resnet18"]
    assert found == pytest.approx(written, abs=1e-9)
    # Rows paired at random gave -0.010 to 0.011.
    assert found["low"] == pytest.approx(-0.0062, abs=5e-4) and found["high"] == pytest.approx(0.0068, abs=5e-4)


def test_halves_share_no_patient_and_one_image_stands_for_each():
    one, other = halves(PATIENTS, seed=3)
    assert not set(PATIENTS[one]) & set(PATIENTS[other]) and len(one) + len(other) == 120
    chosen = one_a_patient(PATIENTS, one, seed=3)
    assert sorted(PATIENTS[chosen]) == sorted(set(PATIENTS[one])) and set(chosen) <= set(one)
    assert not np.array_equal(chosen, one_a_patient(PATIENTS, one, seed=4))


def test_an_empty_set_is_a_miss_of_what_is_promised():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 2000)
    p = np.where(rng.random(2000) < 0.98, 0.99, 0.6) - 1e-6 * rng.random(2000)  # nearly always sure, and right
    probabilities = np.where(labels[:, None] == np.arange(2), p[:, None], 1 - p[:, None])
    model = Predictions(np.arange(2000).astype(str), labels, np.arange(2000).astype(str), [probabilities])
    found = split_of(model, 0, 0.9, per_class=False)
    assert found["coverage"] == 1  # the most probable class is always in, and right
    assert found["coverage_may_be_empty"] == pytest.approx(1 - found["empty"])
    assert found["coverage_may_be_empty"] == pytest.approx(0.9, abs=0.03)


def test_coverage_of_one_image_a_patient_follows_the_exact_law():
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 2, 1200)
    patients = np.repeat(np.arange(300), 4).astype(str)
    shift = np.repeat(rng.standard_normal(300), 4)  # images of one patient are alike
    p = 1 / (1 + np.exp(-(2 * labels - 1) * (1 + shift + 0.2 * rng.standard_normal(1200))))
    model = Predictions(np.arange(1200).astype(str), labels, patients, [np.column_stack([1 - p, p])])
    entry = coverage_table(model, 0.9, 40)["marginal"]["one_image_a_patient"]
    law = law_of_hits(150, 150, 0.9)
    assert entry["patients"] == 300 and entry["band"] == pytest.approx([law.ppf(0.025) / 150, law.ppf(0.975) / 150])
    assert entry["coverage_may_be_empty"]["value"] == pytest.approx(law.mean() / 150, abs=0.015)
    assert entry["splits_inside_95_percent_band"] >= 34
