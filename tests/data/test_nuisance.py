"""What gives the label away is found; what does not is near chance."""

from __future__ import annotations

import numpy as np
import pytest

from monai_diffclf.data.nuisance import ALL_FIELDS, NuisanceScore, nuisance_scores


@pytest.fixture
def images() -> tuple[list[dict], list[int], list[str]]:
    rng = np.random.default_rng(0)
    labels = [int(n) for n in rng.integers(0, 3, 300)]
    fields = [
        {
            "width": 100.0,  # the same for all
            "mean grey": float(rng.normal()),
            "file format": [".png", ".jpg", ".bmp"][label],
            "border grey": float(rng.normal() + (label == 1) * 1.5),
            "age": "" if rng.random() < 0.3 else float(rng.integers(20, 80)),
            "scanner": "A" if label == 2 and rng.random() < 0.5 else "B",
        }
        for label in labels
    ]
    return fields, labels, [str(n) for n in range(300)]


def test_fields_are_ranked(images):
    scores = nuisance_scores(*images)
    assert next(iter(scores)) == ALL_FIELDS
    assert set(scores) == {ALL_FIELDS, "mean grey", "file format", "border grey", "age", "scanner"}
    assert scores["file format"] == NuisanceScore(1.0, 0.0)
    assert scores[ALL_FIELDS].auc > 0.99
    for name in ("mean grey", "age"):
        assert abs(scores[name].auc - 0.5) < 0.1
        assert not scores[name].notable
    assert 0.6 < scores["border grey"].auc < 0.8
    assert scores["file format"].notable
    assert nuisance_scores(*images) == scores  # nothing is left to chance


def test_patients_stay_together(images):
    _, labels, _ = images
    # Each patient has a brightness and a label of their own: known patients would be recognised by it.
    rng = np.random.default_rng(1)
    fields = [{"mean grey": float(n // 10) + 0.1 * rng.random()} for n in range(300)]
    labels = [int(k) for k in np.repeat(rng.integers(0, 2, 30), 10)]
    apart = nuisance_scores(fields, labels, [str(n) for n in range(300)])["mean grey"].auc
    together = nuisance_scores(fields, labels, [str(n // 10) for n in range(300)])["mean grey"].auc
    assert apart > 0.75
    assert together < 0.7


def test_too_few_or_all_alike(images):
    fields, labels, groups = images
    assert nuisance_scores(fields[:12], labels[:12], groups[:12]) == {}
    assert nuisance_scores(fields, [0] * 300, groups) == {}
    assert nuisance_scores([{"width": 1.0}] * 300, labels, groups) == {}
    assert nuisance_scores([], [], []) == {}


def test_standard_error_is_that_of_hanley_and_mcneil():
    # Their example: AUC 0.893 with 51 positive and 58 negative cases has a standard error of 0.032.
    from monai_diffclf.data.nuisance import _standard_error

    assert _standard_error(0.893, 51, 58) == pytest.approx(0.032, abs=1e-3)
