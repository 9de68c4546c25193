"""Risk and coverage, against brute force over all orders of the images."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from monai_diffclf.metrics import (
    accuracy_at_coverage,
    aurc,
    bootstrap_interval,
    excess_aurc,
    paired_difference_interval,
    risk_coverage_curve,
)


def simulate(count=60, seed=0, ties=True):
    rng = np.random.default_rng(seed)
    uncertainty = rng.random(count)
    correct = rng.random(count) > 0.6 * uncertainty
    return correct, np.round(uncertainty, 1) if ties else uncertainty


def risks(correct):
    return np.cumsum(1 - np.asarray(correct)) / np.arange(1, len(correct) + 1)


def every_order(correct, uncertainty):
    """The right and wrong answers in all orders of ascending uncertainty."""
    orders = permutations(range(len(correct)))
    return [correct[list(o)] for o in orders if (np.diff(uncertainty[list(o)]) >= 0).all()]


def test_area_is_the_mean_risk_without_ties():
    correct, uncertainty = simulate(ties=False)
    assert aurc(correct, uncertainty) == pytest.approx(risks(correct[np.argsort(uncertainty)]).mean())


@pytest.mark.parametrize("seed", range(4))
def test_ties_are_the_mean_over_all_orders(seed):
    rng = np.random.default_rng(seed)
    correct, uncertainty = rng.random(7) > 0.4, rng.integers(0, 3, 7)
    orders = every_order(correct, uncertainty)
    assert aurc(correct, uncertainty) == pytest.approx(np.mean([risks(order).mean() for order in orders]))
    five = np.mean([order[:5].mean() for order in orders])
    assert accuracy_at_coverage(correct, uncertainty, coverage=5 / 7) == pytest.approx(five)


def test_no_ranking_at_all_has_the_error_rate_as_area():
    correct, _ = simulate()
    assert aurc(correct, np.zeros(60)) == pytest.approx(1 - correct.mean())
    assert accuracy_at_coverage(correct, np.zeros(60), coverage=0.3) == pytest.approx(correct.mean())


def test_excess_over_the_best_order():
    correct, uncertainty = simulate()
    best = risks(np.sort(correct)[::-1]).mean()
    assert excess_aurc(correct, uncertainty) == pytest.approx(aurc(correct, uncertainty) - best)
    assert excess_aurc(correct, 1.0 - correct) == pytest.approx(0, abs=1e-12)


def test_parts_of_an_image_count_in_part():
    correct, uncertainty = np.array([1, 0, 1]), np.array([0.1, 0.2, 0.3])
    assert accuracy_at_coverage(correct, uncertainty, coverage=0.5) == pytest.approx(1 / 1.5)
    assert accuracy_at_coverage(correct, uncertainty, coverage=1) == pytest.approx(2 / 3)


def test_curve_ends_at_the_error_rate():
    correct, uncertainty = simulate()
    curve = risk_coverage_curve(correct, uncertainty)
    assert curve.threshold.tolist() == np.unique(uncertainty).tolist()
    assert (curve.coverage[-1], curve.risk[-1]) == (1, pytest.approx(1 - correct.mean()))
    for coverage, risk, threshold in zip(*curve, strict=True):
        answered = uncertainty <= threshold
        assert coverage == pytest.approx(answered.mean())
        assert risk == pytest.approx(1 - correct[answered].mean())


@pytest.mark.parametrize("statistic", [aurc, excess_aurc, accuracy_at_coverage])
def test_weights_are_repeated_images(statistic):
    correct, uncertainty = simulate()
    weights = np.random.default_rng(1).integers(0, 3, (20, 60))
    expected = [statistic(correct.repeat(row), uncertainty.repeat(row)) for row in weights]
    np.testing.assert_allclose(statistic(correct, uncertainty, weights=weights), expected, atol=1e-12)


def test_intervals_and_paired_differences():
    correct, uncertainty = simulate(400)
    interval = bootstrap_interval(aurc, correct, uncertainty, num_resamples=500)
    assert interval.low < interval.value < interval.high

    def area(labels, answers, *, weights):
        return aurc(answers[:, 0], answers[:, 1], weights=weights)

    good, bad = np.column_stack([correct, uncertainty]), np.column_stack([correct, np.zeros(400)])
    gap = paired_difference_interval(area, np.zeros(400, int), good, bad, num_resamples=500)
    assert gap.high < 0


@pytest.mark.parametrize("statistic", [aurc, excess_aurc, accuracy_at_coverage, risk_coverage_curve])
@pytest.mark.parametrize(
    ("correct", "uncertainty", "message"),
    [
        ([1, 2], [0.1, 0.2], r"correct: expected 0 \(wrong\) and 1 \(right\) only, got \[1, 2\]"),
        ([1, 0], [0.1, np.inf], "uncertainty: expected finite numbers, got 1 that are not"),
        ([1, 0], [0.1], r"the shape of correct \[N\], N at least 1, got \[1\] for correct of shape \[2\]"),
        ([], [], "N at least 1"),
    ],
)
def test_bad_input(statistic, correct, uncertainty, message):
    with pytest.raises(ValueError, match=message):
        statistic(correct, uncertainty)


def test_other_bad_input():
    with pytest.raises(ValueError, match=r"coverage: expected a number in \(0, 1\], such as 0.8, got 80"):
        accuracy_at_coverage([1, 0], [0.1, 0.2], coverage=80)
    with pytest.raises(ValueError, match="weights: expected at least one image in every resample"):
        aurc([1, 0], [0.1, 0.2], weights=[[0, 0]])
    with pytest.raises(ValueError, match=r"weights: expected the shape \[R, 2\]"):
        aurc([1, 0], [0.1, 0.2], weights=[1, 1])
