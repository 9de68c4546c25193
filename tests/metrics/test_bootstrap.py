# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
from __future__ import annotations

import time

import numpy as np
import pytest
from scipy.stats import bootstrap, norm
from sklearn.metrics import roc_auc_score

from monai_diffclf.metrics import bootstrap_interval, paired_difference_interval, roc_auc


def simulate(rng, positives=60, negatives=40, shift=1.0):
    labels = np.repeat([1, 0], [positives, negatives])
    return labels, labels * shift + rng.normal(size=len(labels))


def width(interval):
    return interval.high - interval.low


def test_agrees_with_scipy_for_a_mean():
    values = np.random.default_rng(0).exponential(size=200)
    ours = bootstrap_interval(np.mean, values, num_resamples=5000)
    theirs = bootstrap((values,), np.mean, n_resamples=5000, method="percentile", rng=1).confidence_interval
    assert ours.value == pytest.approx(values.mean())
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.02)


def test_agrees_with_scipy_for_the_auc_resampled_by_class():
    labels, scores = simulate(np.random.default_rng(1))

    def auc(positives, negatives, axis):
        wins = (positives[..., :, None] > negatives[..., None, :]).mean(-1)
        return wins.mean(-1)

    ours = bootstrap_interval(roc_auc, labels, scores, num_resamples=4000, strata=labels)
    samples = (scores[labels == 1], scores[labels == 0])
    theirs = bootstrap(samples, auc, n_resamples=4000, method="percentile", batch=200, rng=1).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.01)


def test_weights_and_rows_give_the_same_resamples():
    labels, scores = simulate(np.random.default_rng(2))
    fast = bootstrap_interval(roc_auc, labels, scores, num_resamples=50, strata=labels)
    slow = bootstrap_interval(roc_auc_score, labels, scores, num_resamples=50, strata=labels)
    np.testing.assert_allclose(fast, slow, atol=1e-12)


def test_seed_decides_and_confidence_widens():
    labels, scores = simulate(np.random.default_rng(3))
    run = lambda **kw: bootstrap_interval(roc_auc, labels, scores, num_resamples=300, strata=labels, **kw)  # noqa: E731
    assert run(seed=4) == run(seed=4)
    assert run(seed=4) != run(seed=5)
    assert width(run(confidence=0.99)) > width(run(confidence=0.8))


def test_chunks_do_not_change_the_statistic(monkeypatch):
    values = np.random.default_rng(0).normal(size=100)
    monkeypatch.setattr("monai_diffclf.metrics.bootstrap._CHUNK_ELEMENTS", 700)
    calls = []

    def mean(values, *, weights):
        calls.append(weights.shape)
        assert (weights.sum(1) == 100).all()
        return weights @ values / weights.sum(1)

    bootstrap_interval(mean, values, num_resamples=20)
    assert calls == [(1, 100), (7, 100), (7, 100), (6, 100)]


def test_coverage_of_the_auc_interval():
    true_auc, rng = norm.cdf(1 / np.sqrt(2)), np.random.default_rng(0)
    covered = 0
    for trial in range(300):
        labels, scores = simulate(rng)
        interval = bootstrap_interval(roc_auc, labels, scores, num_resamples=300, strata=labels, seed=trial)
        covered += interval.low <= true_auc <= interval.high
    assert 0.91 <= covered / 300 <= 0.98


def test_patients_widen_the_interval_to_the_honest_coverage():
    rng, covered, widths = np.random.default_rng(0), {"groups": 0, "images": 0}, []
    for trial in range(200):
        patients = np.repeat(np.arange(40), 6)
        values = rng.normal(size=40)[patients] + 0.3 * rng.normal(size=240)
        for name, groups in (("groups", patients), ("images", None)):
            interval = bootstrap_interval(np.mean, values, num_resamples=200, groups=groups, seed=trial)
            covered[name] += interval.low <= 0 <= interval.high
            widths.append(width(interval))
    assert covered["groups"] / 200 > 0.87 > 0.65 > covered["images"] / 200
    assert np.mean(widths[0::2]) > 2 * np.mean(widths[1::2])


def test_resamples_of_patients_hold_both_classes_and_whole_patients():
    labels, patients = np.array([0, 0, 0, 1, 1, 1, 1, 0]), np.array(list("aabbccdd"))

    def check(labels, *, weights):
        assert (weights @ labels > 0).all() and (weights @ (1 - labels) > 0).all()
        assert (weights[:, 0::2] == weights[:, 1::2]).all()
        return weights[:, 0]

    bootstrap_interval(check, labels, num_resamples=200, strata=labels, groups=patients)


def test_624_images_2000_resamples_take_seconds_at_most():
    labels, scores = simulate(np.random.default_rng(0), 390, 234)
    start = time.perf_counter()
    bootstrap_interval(roc_auc, labels, scores, strata=labels)
    assert time.perf_counter() - start < 3


def paired(rng, seeds=1):
    labels, common = simulate(rng, 150, 100, 1.5)
    noisy = lambda: [common + 0.3 * rng.normal(size=250) for _ in range(seeds)]  # noqa: E731
    return labels, noisy(), noisy()


def test_paired_interval_is_narrower_than_the_unpaired():
    labels, (a,), (b,) = paired(np.random.default_rng(0))
    gap = paired_difference_interval(roc_auc, labels, a, b)
    single = [bootstrap_interval(roc_auc, labels, s, strata=labels, seed=i) for i, s in enumerate((a, b))]
    assert gap.value == pytest.approx(single[0].value - single[1].value)
    assert width(gap) < 0.6 * np.hypot(width(single[0]), width(single[1]))


def test_paired_interval_of_a_model_and_itself_is_zero_and_swapping_flips_it():
    labels, (a,), (b,) = paired(np.random.default_rng(1))
    assert paired_difference_interval(roc_auc, labels, a, a, num_resamples=50) == (0, 0, 0)
    ab, ba = (paired_difference_interval(roc_auc, labels, *s, num_resamples=99) for s in ((a, b), (b, a)))
    np.testing.assert_allclose(ab, (-ba.value, -ba.high, -ba.low), atol=1e-12)


def test_seeds_are_averaged_over_the_same_images():
    labels, a, b = paired(np.random.default_rng(2), seeds=3)
    one = paired_difference_interval(roc_auc, labels, a[0], b[0])
    several = paired_difference_interval(roc_auc, labels, a, b)
    means = [np.mean([roc_auc_score(labels, s) for s in scores]) for scores in (a, b)]
    assert several.value == pytest.approx(means[0] - means[1])
    assert width(several) < width(one)
    assert paired_difference_interval(roc_auc, labels, [a[0]], b[0]) == one


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((), {}, "arrays: expected at least one array"),
        (([1, 2], [1, 2, 3]), {}, r"the same first dimension, at least 1, for all, got the lengths \[2, 3\]"),
        (([1, 2],), {"num_resamples": 0}, "num_resamples: expected at least 1, got 0"),
        (([1, 2],), {"confidence": 95}, "confidence: expected a number between 0 and 1, such as 0.95, got 95"),
        (([1, 2],), {"groups": [1]}, r"groups: expected one patient an image, \[2\], got \[1\]"),
        (([1, np.inf],), {}, "statistic: expected a finite number for every resample"),
    ],
)
def test_bad_input(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(np.mean, *arguments, **{"num_resamples": 20, **options})


def test_without_strata_a_tiny_set_fails_and_says_the_cure():
    with pytest.raises(ValueError, match="resample by class"):
        bootstrap_interval(roc_auc, [0, 1], [0.1, 0.2])
