"""Metrics by subgroup: the same as of the subgroup alone."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn import metrics as sk

from monai_diffclf.metrics import age_bands, bootstrap_interval, roc_auc, subgroup_metrics


def simulate(count=120, classes=2):
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.arange(count) % classes)
    p = rng.dirichlet(np.ones(classes), count) * 0.5 + 0.5 * np.eye(classes)[labels] * rng.random((count, 1))
    p /= p.sum(1, keepdims=True)
    return labels, p, np.array(["f", "m", "m"])[np.arange(count) % 3]


@pytest.mark.parametrize("classes", [2, 3])
def test_every_subgroup_as_if_alone(classes):
    labels, p, sex = simulate(classes=classes)
    rows = {row["subgroup"]: row for row in subgroup_metrics(labels, p, {"sex": sex}, num_resamples=20)}
    assert list(rows) == ["all", "f", "m"]
    for name, members in (("all", sex != ""), ("f", sex == "f"), ("m", sex == "m")):
        y, q = labels[members], p[members]
        called, metrics = q.argmax(1), rows[name]["metrics"]
        score = q[:, 1] if classes == 2 else q
        assert rows[name]["class_counts"] == np.bincount(y).tolist()
        assert metrics["auc"]["value"] == pytest.approx(sk.roc_auc_score(y, score, multi_class="ovr"))
        one_hot = y if classes == 2 else np.eye(classes)[y]
        assert metrics["average_precision"]["value"] == pytest.approx(sk.average_precision_score(one_hot, score))
        positives = [1] if classes == 2 else range(classes)
        curves = [sk.roc_curve(y == k, q[:, k], drop_intermediate=False) for k in positives]
        at_90 = np.mean([true[1 - false >= 0.9 - 1e-12].max() for false, true, _ in curves])
        assert metrics["sensitivity_at_90_specificity"]["value"] == pytest.approx(at_90)
        assert metrics["accuracy"]["value"] == pytest.approx(sk.accuracy_score(y, called))
        assert metrics["balanced_accuracy"]["value"] == pytest.approx(sk.balanced_accuracy_score(y, called))
        assert metrics["negative_log_likelihood"]["value"] == pytest.approx(sk.log_loss(y, q))
        assert all(entry["low"] <= entry["high"] for entry in metrics.values())
    json.dumps(list(rows.values()), allow_nan=False)


def test_intervals_are_those_of_bootstrap_interval_with_patients_drawn_whole():
    labels, p, sex = simulate()
    patients = (np.arange(120) // 4).astype(str)
    row = subgroup_metrics(labels, p, {"sex": sex}, groups=patients, num_resamples=200)[1]
    members = sex == "f"
    expected = bootstrap_interval(
        roc_auc, labels[members], p[members, 1], strata=labels[members], groups=patients[members], num_resamples=200
    )
    assert row["metrics"]["auc"] == pytest.approx(expected._asdict())
    assert row["num_patients"] == len(np.unique(patients[members]))


def test_small_subgroups_and_those_of_one_class():
    labels = np.array([0, 1] * 20 + [1] * 20 + [0, 1])
    site = np.repeat(["A", "B", "C"], [40, 20, 2])
    rows = subgroup_metrics(labels, np.full(62, 0.6), {"site": site}, num_resamples=10)
    one_class, small = rows[2]["metrics"], rows[3]["metrics"]
    assert one_class["auc"] is one_class["balanced_accuracy"] is one_class["average_precision"] is None
    assert one_class["sensitivity_at_90_specificity"] is None
    assert one_class["accuracy"]["value"] == 1
    assert set(small.values()) == {None}
    assert (rows[3]["num_images"], rows[3]["class_counts"], rows[3]["num_patients"]) == (2, [1, 1], None)


def test_columns_in_order_with_the_missing_last():
    column = [10, 9, None, float("nan"), "", "AP"] * 4
    rows = subgroup_metrics([0, 1] * 12, [0.5] * 24, {"x": column, "y": ["b", "a"] * 12}, min_images=30)
    assert [(row["column"], row["subgroup"]) for row in rows[1:]] == [
        ("x", "9"),
        ("x", "10"),
        ("x", "AP"),
        ("x", "unknown"),
        ("y", "a"),
        ("y", "b"),
    ]
    ages = age_bands([90, 5, 70, 30] * 6)
    rows = subgroup_metrics([0, 1] * 12, [0.5] * 24, {"age": ages}, min_images=30)
    assert [row["subgroup"] for row in rows[1:]] == ["<18", "18-39", "60-79", ">=80"]


def test_own_metrics():
    def share(labels, probabilities, *, weights):
        return weights @ labels / weights.sum(1)

    rows = subgroup_metrics([0, 1] * 12, [0.5] * 24, {"x": ["a"] * 24}, metrics={"share": share}, num_resamples=10)
    assert rows[1]["metrics"] == {"share": {"value": 0.5, "low": 0.5, "high": 0.5}}


def test_age_bands_by_hand():
    assert age_bands([0, 17.9, 18, np.nan], edges=[18]).tolist() == ["<18", "<18", ">=18", "unknown"]


def test_bad_input():
    with pytest.raises(ValueError, match="columns: expected at least one, none called 'all'"):
        subgroup_metrics([0, 1], [0.5, 0.5], {})
    with pytest.raises(ValueError, match=r"columns\['sex'\]: expected one value an image, \[2\], got \[1\]"):
        subgroup_metrics([0, 1], [0.5, 0.5], {"sex": ["f"]})
    with pytest.raises(ValueError, match=r"edges: expected ascending ages, got \[40, 18\]"):
        age_bands([3], edges=[40, 18])
    with pytest.raises(ValueError, match=r"ages: expected years from 0 to 130.*got \[-1.0, 540.0\]"):
        age_bands([-1, 540, 3])
