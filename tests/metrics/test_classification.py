# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn import metrics as sk

from monai_diffclf.metrics import choose_threshold, classification_metrics


def simulate(seed, size=120):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat([0, 1], [size // 3, size - size // 3]))
    return labels, 1 / (1 + np.exp(-(2 * labels - 0.5 + rng.normal(size=size))))


def sensitivity_at_90(truth, score):
    false, true, _ = sk.roc_curve(truth, score, drop_intermediate=False)
    return true[1 - false >= 0.9 - 1e-12].max()


def values(metrics):
    return {name: entry["value"] for name, entry in metrics.items()}


@pytest.mark.parametrize("positive_class", [0, 1])
def test_two_classes_equal_sklearn(positive_class):
    labels, scores = simulate(0)
    probabilities = np.stack([1 - scores, scores], axis=1)
    found = classification_metrics(
        labels, probabilities, threshold=0.6, positive_class=positive_class, num_resamples=50
    )
    truth, score = labels == positive_class, probabilities[:, positive_class]
    called = score >= 0.6
    assert values(found) == pytest.approx(
        {
            "auc": sk.roc_auc_score(truth, score),
            "average_precision": sk.average_precision_score(truth, score),
            "sensitivity_at_90_specificity": sensitivity_at_90(truth, score),
            "accuracy": sk.accuracy_score(truth, called),
            "balanced_accuracy": sk.balanced_accuracy_score(truth, called),
            "sensitivity": sk.recall_score(truth, called),
            "specificity": sk.recall_score(truth, called, pos_label=0),
        }
    )
    assert all(entry["low"] < entry["value"] < entry["high"] for entry in found.values())
    json.dumps(found, allow_nan=False)


def test_one_column_is_the_probability_of_class_1():
    labels, scores = simulate(1)
    both = classification_metrics(labels, np.stack([1 - scores, scores], axis=1), num_resamples=20)
    assert classification_metrics(labels, scores, num_resamples=20) == both


def test_three_classes_equal_sklearn():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 200)
    probabilities = rng.dirichlet([1, 1, 1], 200) * 0.6 + 0.4 * np.eye(3)[labels] * rng.random((200, 1))
    probabilities /= probabilities.sum(1, keepdims=True)
    called = probabilities.argmax(1)
    at_90 = [sensitivity_at_90(labels == k, probabilities[:, k]) for k in range(3)]
    expected = {
        "auc": sk.roc_auc_score(labels, probabilities, multi_class="ovr", average="macro"),
        "average_precision": sk.average_precision_score(np.eye(3)[labels], probabilities, average="macro"),
        "sensitivity_at_90_specificity": np.mean(at_90),
        "accuracy": sk.accuracy_score(labels, called),
        "balanced_accuracy": sk.balanced_accuracy_score(labels, called),
    }
    expected |= {f"sensitivity_{k}": r for k, r in enumerate(sk.recall_score(labels, called, average=None))}
    assert values(classification_metrics(labels, probabilities, num_resamples=20)) == pytest.approx(expected)


def test_seeds_are_averaged_each_at_its_threshold():
    labels, first = simulate(2)
    second = np.clip(first + np.random.default_rng(9).normal(scale=0.2, size=len(first)), 0, 1)
    both = values(classification_metrics(labels, [first, second], threshold=[0.4, 0.6], num_resamples=20))
    single = [
        values(classification_metrics(labels, s, threshold=t, num_resamples=20))
        for s, t in ((first, 0.4), (second, 0.6))
    ]
    assert both == pytest.approx({name: (single[0][name] + single[1][name]) / 2 for name in both})


@pytest.mark.parametrize("classes", [2, 3])
def test_always_the_frequent_class_looks_good_by_accuracy_alone(classes):
    # As many benign and malignant images as in a screening data set, and a rarer third class.
    labels = np.repeat([0, 1, 2], [3802, 198, 40])[: 4000 if classes == 2 else None]
    probabilities = np.eye(classes)[np.zeros(len(labels), int)]
    found = classification_metrics(labels, probabilities, num_resamples=20)
    share = np.bincount(labels) / len(labels)
    sensitivities = (
        {"sensitivity": 0, "specificity": 1}
        if classes == 2
        else {"sensitivity_0": 1, "sensitivity_1": 0, "sensitivity_2": 0}
    )
    expected = {
        "auc": 0.5,
        "average_precision": share[1] if classes == 2 else 1 / 3,
        "sensitivity_at_90_specificity": 0,
        "accuracy": 0.9505 if classes == 2 else 3802 / 4040,
        "balanced_accuracy": 1 / classes,
        **sensitivities,
    }
    assert {name: entry["value"] for name, entry in found.items()} == pytest.approx(expected)
    for name, entry in found.items():
        certain = entry["value"] in (0, 1)  # in every resample
        assert (entry["low"] < entry["high"]) == certain, (
            f"{name}: a share of all or none is as sure as its images are many"
        )


@pytest.mark.parametrize("metric", ["auc", "sensitivity_at_90_specificity"])
def test_patients_are_drawn_whole(metric):
    labels, scores = simulate(3, 90)
    copies = classification_metrics(labels.repeat(4), scores.repeat(4), groups=np.arange(90).repeat(4))[metric]
    alone = classification_metrics(labels, scores)[metric]
    assert copies == pytest.approx(alone)
    assert copies["high"] - copies["low"] > 0.05


@pytest.mark.parametrize(
    ("labels", "probabilities", "options", "message"),
    [
        ([1, 1], [0.2, 0.3], {}, r"at least two classes, got class \[1\] only"),
        ([0, 1, 0.5], [0.2, 0.3, 0.1], {}, "labels: expected class numbers 0, 1, ..."),
        ([0, -1], [0.2, 0.3], {}, "labels: expected class numbers"),
        ([0, 1], [0.2, np.nan], {}, "probabilities: expected finite numbers, got 1"),
        (
            [0, 1],
            [-1.5, 2.5],
            {},
            r"probabilities: expected numbers in \[0, 1\] .*2 others, .* apply softmax",
        ),
        ([0, 1], [[1.0, -1.0], [-1.0, 1.0]], {}, r"probabilities: expected numbers in \[0, 1\] .* got 2 others"),
        ([0, 1], [[0.3, 0.3], [0.2, 0.8]], {}, r"sum to 1, got 1 others, the first \[0.3, 0.3\]"),
        ([0, 1], [[0.7], [0.2]], {}, r"labels: expected images of each of the 1 classes"),
        ([0, 1], [0.2], {}, r"probabilities: expected the shape \[2, K\], or \[2\] for two classes, got \[1\]"),
        ([0, 2], [0.2, 0.3], {}, "labels: expected images of each of the 2 classes"),
        ([0, 1], np.ones((2, 3)) / 3, {}, "labels: expected images of each of the 3 classes"),
        ([0, 1], [0.2, 0.3], {"positive_class": 2}, "positive_class: expected 0 or 1, got 2"),
        ([0, 1], [0.2, 0.3], {"threshold": [0.1, 0.2]}, "threshold: expected one number, or one for each of 1 seeds"),
    ],
)
def test_bad_input(labels, probabilities, options, message):
    with pytest.raises(ValueError, match=message):
        classification_metrics(labels, probabilities, **options)


@pytest.mark.parametrize(
    ("criterion", "quality"),
    [("balanced_accuracy", sk.balanced_accuracy_score), ("accuracy", sk.accuracy_score), ("f1", sk.f1_score)],
)
def test_threshold_is_the_best_there_is(criterion, quality):
    labels, scores = simulate(4)
    scores = np.round(scores, 2)
    chosen = quality(labels, scores >= choose_threshold(labels, scores, criterion=criterion))
    assert chosen == pytest.approx(max(quality(labels, scores >= t) for t in np.r_[scores, 2.0]))


def test_threshold_separates_neighbouring_floats_and_prefers_one_half():
    low = 0.3
    high = np.nextafter(low, 1)
    assert choose_threshold([0, 1], [low, high]) == high
    assert choose_threshold([0, 0, 1, 1], [0.4, 0.6, 0.4, 0.6]) == 0.5


def test_threshold_bad_input():
    with pytest.raises(ValueError, match=r"criterion: expected one of .*got 'youden'"):
        choose_threshold([0, 1], [0.1, 0.2], criterion="youden")
    with pytest.raises(ValueError, match="at least two classes"):
        choose_threshold([1, 1], [0.1, 0.2])


def test_a_tie_goes_to_the_first_class_as_in_inference():
    labels, tied = [0, 0, 1, 1], np.full((4, 2), 0.5)
    found = classification_metrics(labels, tied, num_resamples=5)
    assert (found["specificity"]["value"], found["sensitivity"]["value"]) == (1, 0)
    assert (tied.argmax(1) == 0).all()
    first = classification_metrics(labels, tied, num_resamples=5, positive_class=0)
    assert (first["sensitivity"]["value"], first["specificity"]["value"]) == (1, 0)
    assert classification_metrics(labels, tied, num_resamples=5, threshold=0.4)["sensitivity"]["value"] == 1


def test_nine_of_nine_are_not_certain():
    labels = np.repeat([0, 1], 9)
    found = classification_metrics(labels, np.eye(2)[labels] * 0.8 + 0.1, num_resamples=50)
    cases = dict.fromkeys(("auc", "average_precision", "sensitivity", "specificity"), 9)
    for name, count in (cases | {"balanced_accuracy": 18, "accuracy": 18}).items():
        assert found[name]["value"] == found[name]["high"] == 1
        assert found[name]["low"] == pytest.approx(count / (count + 1.959964**2), rel=1e-6), name
    grouped = classification_metrics(labels, np.eye(2)[labels], num_resamples=50, groups=np.arange(18) // 3)
    assert grouped["sensitivity"]["low"] == pytest.approx(3 / (3 + 1.959964**2), rel=1e-6), "of three patients"


def test_a_mean_over_classes_is_surer_than_its_rarest_class():
    """Its variance is that of K^2 / sum(1 / n_k) cases."""
    labels = np.repeat([0, 1, 2], (5, 10, 20))
    found = classification_metrics(labels, np.eye(3)[labels], num_resamples=50)
    cases = int(9 / (1 / 5 + 1 / 10 + 1 / 20))
    for name in ("auc", "average_precision", "balanced_accuracy"):
        assert found[name]["low"] == pytest.approx(cases / (cases + 1.959964**2), rel=1e-6)
    assert found["sensitivity_0"]["low"] == pytest.approx(5 / (5 + 1.959964**2), rel=1e-6)
