"""What a patient is: an image of an unknown one is alone, wherever patients are asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from monai_diffclf._patients import known_patient, patient_codes
from monai_diffclf.classification import (
    DenoisingErrors,
    few_draws_auc,
    fit_cascade,
    fit_level_weights,
    fit_stopping,
)
from monai_diffclf.metrics import (
    bootstrap_interval,
    classification_metrics,
    crossed_resamples,
    paired_difference_interval,
    roc_auc,
    subgroup_metrics,
)
from monai_diffclf.uncertainty import fit_typicality, shift_test

UNKNOWN = ["", "  ", None, float("nan"), np.float32("nan"), "unknown", "NaN", "n/a", b"", np.str_("")]


@pytest.mark.parametrize("name", UNKNOWN)
def test_unknown_patients_are_alone(name):
    assert known_patient(name) == ""
    assert patient_codes([name] * 3, 3).tolist() == [0, 1, 2]
    assert patient_codes(np.array(["b", name, "a", name, "b"], dtype=object), 5).tolist() == [1, 2, 0, 3, 1]
    assert patient_codes(["b", name, "a", name, "b"], 5).tolist() == [1, 2, 0, 3, 1]


def test_names_are_compared_as_readers_write_them():
    assert patient_codes(["P1", " P1 ", "U\u0308", "\u00dc", 7, "7"], 6).tolist() == [1, 1, 2, 2, 0, 0]
    assert patient_codes(["P1", "p1"], 2).tolist() == [0, 1]


def test_numbers_are_in_their_order():
    for numbers in ([10, 9, 10], np.array([10.0, 9.0, 10.0]), torch.tensor([10, 9, 10]), torch.tensor([10.0, 9.0, 10])):
        assert patient_codes(numbers, 3).tolist() == [1, 0, 1]
    nan = float("nan")
    for numbers in ([5.0, nan, 5.0, nan], torch.tensor([5.0, nan, 5.0, nan])):
        assert patient_codes(numbers, 4).tolist() == [0, 1, 0, 2]
    assert patient_codes([0, 0], 2).tolist() == [0, 0] and patient_codes([False, False], 2).tolist() == [0, 0]


def test_no_images_and_no_patients():
    assert patient_codes([], 0).tolist() == [] and patient_codes(None, 2).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("given", "got"), [(["a"], r"\[1\]"), ([["a"], ["b"]], r"\[2, 1\]"), ("ab", "str"), ({"a": 1, "b": 2}, "dict")]
)
def test_other_shapes_are_refused(given, got):
    with pytest.raises(ValueError, match=rf"^groups: expected one patient an image, \[2\], got {got}; give None or"):
        patient_codes(given, 2, "groups")


# From here on: whatever takes patients gives for unknown ones what it gives for as many names of their own.

SOME = [f"p{i // 2}" if i < 30 else "" for i in range(60)]
ALONE = [name or f"u{i}" for i, name in enumerate(SOME)]
MIXED = [SOME, [name or None for name in SOME], [name or float("nan") for name in SOME]]
LABELS = np.arange(60) % 2
SCORES = np.clip(LABELS * 0.2 + np.random.default_rng(0).random(60) * 0.8, 0, 1)


def both(function):
    """What a function of the patients gives: unknown ones beside none at all, and some beside names of their own."""
    for unknown in ([""] * 60, [None] * 60, np.full(60, np.nan)):
        yield function(unknown), function(None)
    for some in MIXED:
        yield function(some), function(ALONE)


@pytest.mark.parametrize(
    "intervals",
    [
        lambda groups: classification_metrics(LABELS, SCORES, groups=groups, num_resamples=100),
        lambda groups: bootstrap_interval(roc_auc, LABELS, SCORES, strata=LABELS, groups=groups, num_resamples=100),
        lambda groups: paired_difference_interval(
            roc_auc, LABELS, SCORES, SCORES[::-1], groups=groups, num_resamples=100
        ),
        lambda groups: crossed_resamples(roc_auc, LABELS, {"a": {0: SCORES}}, groups=groups, num_resamples=100)[
            "a"
        ].resampled.tolist(),
        lambda groups: [
            row["metrics"]
            for row in subgroup_metrics(LABELS, SCORES, {"s": ["a", "b", "b"] * 20}, groups=groups, num_resamples=50)
        ],
    ],
)
def test_intervals(intervals):
    for found, expected in both(intervals):
        assert found == expected


def test_intervals_of_unknown_patients_have_a_width():
    found = classification_metrics(LABELS, SCORES, groups=[""] * 60)["auc"]
    assert found["high"] - found["low"] > 0.1


def test_perfect_shares_count_unknown_patients_singly():
    # Wilson's interval of 30 of 30 is n / (n + z^2).
    low = 30 / (30 + 1.959964**2)
    for groups in ([""] * 60, [None] * 60):
        found = classification_metrics(LABELS, LABELS * 1.0, groups=groups, num_resamples=10)
        assert found["sensitivity"]["low"] == pytest.approx(low, rel=1e-6)


def test_subgroups_count_unknown_patients_singly():
    rows = subgroup_metrics(LABELS, SCORES, {"s": ["a", "b", "b"] * 20}, groups=SOME, num_resamples=10)
    assert rows[0]["num_patients"] == 15 + 30


def random_errors(images=60, scale=1.0):
    generator = torch.Generator().manual_seed(images)
    values = torch.rand(images, 2, 9, generator=generator) + torch.rand(images, 1, 1, generator=generator)
    return DenoisingErrors(values * scale, torch.arange(9), torch.linspace(4, -4, 9))


def test_typicality_and_shift():
    errors, new = random_errors(), random_errors(61, 1.2)[:60]
    for found, expected in both(lambda groups: fit_typicality(errors, num_bands=3, groups=groups)):
        assert found.num_patients == expected.num_patients
        assert np.array_equal(found.groups, expected.groups) and np.array_equal(found.scores, expected.scores)
    typicality = fit_typicality(errors, num_bands=3)
    for found, expected in both(lambda groups: shift_test(typicality, new, groups=groups).p_value):
        assert found == expected


def test_fitted_weights_and_few_draws():
    errors, labels = random_errors(), torch.from_numpy(LABELS)
    for found, expected in both(lambda patients: few_draws_auc(errors, labels, repeats=1, patients=patients)):
        assert found == expected
    names = [[""] * 60, None, SOME, ALONE]
    found = [fit_level_weights(errors, labels, patients=patients) for patients in names]
    assert found[0] == found[1] and found[2] == found[3]


def test_cascade_counts_each_error_of_unknown_patients():
    # The first is sure, and wrong in half of the images of unknown patients, which are a quarter of all.
    first = torch.tensor([[0.95, 0.05]]).repeat(200, 1)
    first[100:150] = torch.tensor([0.04, 0.96])
    second, labels = torch.tensor([[0.9, 0.1]]).repeat(200, 1), torch.zeros(200).long()
    for unknown in ("", None, float("nan")):
        fit = fit_cascade(first, second, labels, max_loss=0.1, patients=[f"p{i}" for i in range(100)] + [unknown] * 100)
        assert fit == fit_cascade(first, second, labels, max_loss=0.1) and fit.accuracy["cascade"] == 1.0


def test_stopping_keeps_its_risk_among_unknown_patients():
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(200, 2, 1, generator=generator) + 0.02 * torch.rand(200, 2, 32, generator=generator)
    values[100:] = 0.5 + 0.3 * torch.rand(100, 2, 32, generator=generator)  # undecided for long
    errors = DenoisingErrors(values, torch.arange(32), torch.linspace(6, -6, 32))
    some = [f"p{i:02}" for i in range(100)] + [""] * 100
    # Counted as one patient, they would let a risk of 0.02 through.
    with pytest.raises(ValueError, match="risk: expected more than what the most careful rule has on these images"):
        fit_stopping(errors, risk=0.02, patients=some, num_folds=2)
    fit = fit_stopping(errors, risk=0.2, patients=some, num_folds=2)
    assert fit.patients == 200 and str(fit) == str(fit_stopping(errors, risk=0.2, num_folds=2))
