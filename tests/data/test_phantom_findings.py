"""Phantoms of two findings: their masks, their population, and no finding that small pixels give away."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from monai_diffclf.data import make_findings_phantom, make_findings_phantoms
from monai_diffclf.data.phantom_findings import FINDINGS, UNKNOWN


@pytest.fixture(scope="module")
def many() -> list[dict]:
    return make_findings_phantoms(1500, seed=0)


def test_items_have_the_documented_form():
    for phantom in make_findings_phantoms(30, seed=3, unknown=0.2):
        assert phantom["image"].shape == (1, 32, 32)
        assert phantom["image"].dtype == np.float32
        assert 0 <= phantom["image"].min() <= phantom["image"].max() <= 1
        assert phantom["label"].shape == phantom["truth"].shape == (2,)
        assert phantom["label"].dtype == np.int64
        assert phantom["mask"].shape == (2, 32, 32)
        assert phantom["mask"].dtype == np.uint8
        assert phantom["mask"].any((1, 2)).tolist() == [state == 1 for state in phantom["truth"]]
        known = phantom["label"] != UNKNOWN
        assert (phantom["label"] == phantom["truth"])[known].all()


def test_phantom_does_not_depend_on_count_or_on_what_is_hidden():
    short, long = make_findings_phantoms(5, seed=1), make_findings_phantoms(9, seed=1, unknown=1.0)
    for a, b in zip(short, long[:5], strict=True):
        assert a["key"] == b["key"]
        np.testing.assert_array_equal(a["image"], b["image"])
        np.testing.assert_array_equal(a["truth"], b["truth"])
        assert b["label"].tolist() == [UNKNOWN, UNKNOWN]
    alone = make_findings_phantom(4, seed=1, present=long[4]["truth"])
    np.testing.assert_array_equal(alone["image"], long[4]["image"])


def test_each_finding_is_where_its_mask_is():
    """With a finding alone added, and its brightness not spread out before, the film is brighter there."""
    for finding in range(len(FINDINGS)):
        brighter, sizes = [], []
        for index in range(50):
            present = [0, 0]
            clear = make_findings_phantom(index, seed=5, present=present)
            present[finding] = 1
            found = make_findings_phantom(index, seed=5, present=present)
            mask = found["mask"][finding] > 0
            added = gaussian_filter(found["image"][0] - clear["image"][0], 0.5)
            brighter.append(added[mask].mean() - added[~mask].mean())
            sizes.append(mask.sum())
            assert not found["mask"][1 - finding].any()
        assert np.mean(np.array(brighter) > 0.02) > 0.95
        assert min(sizes) >= 6


def test_one_finding_leaves_the_other_alone():
    """Until the exposure findings add up: the mask of one does not depend on the other."""
    for index in range(5):
        both = make_findings_phantom(index, present=(1, 1))["mask"]
        np.testing.assert_array_equal(both[0], make_findings_phantom(index, present=(1, 0))["mask"][0])
        np.testing.assert_array_equal(both[1], make_findings_phantom(index, present=(0, 1))["mask"][1])


def test_effusions_lie_lower_than_nodules(many):
    rows = np.arange(32)[:, None]
    heights = [
        [(mask * rows).sum() / mask.sum() for mask in (p["mask"][k] for p in many) if mask.any()] for k in (0, 1)
    ]
    assert np.mean(heights[1]) > np.mean(heights[0]) + 3


def test_neither_brightness_nor_a_linear_model_on_means_of_pixels_gives_a_finding_away(many):
    images, truth = np.stack([p["image"][0] for p in many]), np.stack([p["truth"] for p in many])
    means = images.reshape(-1, 16, 2, 16, 2).mean((2, 4)).reshape(len(many), -1)
    for finding, labels in zip(FINDINGS, truth.T, strict=True):
        assert abs(roc_auc_score(labels, images.mean((1, 2))) - 0.5) < 0.08, finding
        for strength in (0.1, 1.0):
            model = LogisticRegression(C=strength, max_iter=500).fit(means[:1000], labels[:1000])
            assert 0.6 < roc_auc_score(labels[1000:], model.decision_function(means[1000:])) < 0.85, finding


@pytest.mark.parametrize(
    ("prevalence", "correlation"), [((0.5, 0.5), 0.0), ((0.5, 0.5), 0.6), ((0.3, 0.6), -0.4), ((0.2, 0.2), 1.0)]
)
def test_population_is_the_one_asked_for(prevalence, correlation, monkeypatch):
    """At 4,000 phantoms a prevalence has a standard error below .008, and the correlation below .016."""
    monkeypatch.setattr("monai_diffclf.data.phantom_findings.draw_chest", lambda rng, grid: (np.zeros((16, 16)), ()))
    for name in ("draw_distractors", "draw_basal_shadow"):
        monkeypatch.setattr(f"monai_diffclf.data.phantom_findings.{name}", lambda *_: 0.0)
    drawn = (np.zeros((16, 16)), np.zeros((16, 16), bool), None)
    for name in ("draw_nodule", "draw_effusion"):
        monkeypatch.setattr(f"monai_diffclf.data.phantom_findings.{name}", lambda *_: drawn)
    monkeypatch.setattr("monai_diffclf.data.phantom_findings._spread_out", lambda *_: 0.0)
    monkeypatch.setattr("monai_diffclf.data.phantom_findings.expose", lambda rng, film, grid: film)
    made = make_findings_phantoms(4000, seed=6, size=16, prevalence=prevalence, correlation=correlation, unknown=0.25)
    truth, label = (np.stack([phantom[name] for phantom in made]) for name in ("truth", "label"))
    np.testing.assert_allclose(truth.mean(0), prevalence, atol=0.03)
    assert np.corrcoef(truth.T)[0, 1] == pytest.approx(correlation, abs=0.06)
    hidden = label == UNKNOWN
    np.testing.assert_allclose(hidden.mean(0), 0.25, atol=0.03)
    assert abs(np.corrcoef(hidden.T)[0, 1]) < 0.06
    assert abs(np.corrcoef(hidden[:, 0], truth[:, 0])[0, 1]) < 0.06


def test_size_changes_resolution_but_not_the_scene():
    small, large = (make_findings_phantom(2, seed=4, size=size, present=(1, 1))["mask"] for size in (32, 64))
    coarse = large.reshape(2, 32, 2, 32, 2).mean((2, 4)) >= 0.5
    overlap = (coarse & (small > 0)).sum((1, 2)) / (coarse | (small > 0)).sum((1, 2))
    assert overlap.min() > 0.7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"index": -1}, r"index, seed: expected integers of 0 or more, got -1 and 0"),
        ({"size": 8}, r"size: expected 16 pixels or more.*got 8"),
        ({"present": (1,)}, r"present: expected 0 or 1 for each of nodule, effusion, got \[1\]"),
        ({"present": (1, 2)}, r"present: expected 0 or 1 for each of nodule, effusion, got \[1, 2\]"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_findings_phantom(**{"index": 0, "present": (0, 0), **arguments})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": -1}, "count: expected 0 or more, got -1"),
        ({"unknown": 1.5}, r"unknown: expected a probability in \[0, 1\], got 1.5"),
        ({"prevalence": (0.5,)}, r"prevalence: expected a probability.*nodule, effusion, got \[0.5\]"),
        (
            {"prevalence": (0.1, 0.5), "correlation": 0.9},
            "correlation: expected a value that is possible at the prevalences 0.1 and 0.5, -0.333 to 0.333, got 0.9",
        ),
        ({"correlation": float("nan")}, "correlation: expected a value that is possible"),
    ],
)
def test_bad_populations_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_findings_phantoms(**{"count": 1, **arguments})
