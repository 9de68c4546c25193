# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The bootstrap crossed over images and seeds, against closed forms and simulated trainings."""

from __future__ import annotations

import numpy as np
import pytest

from monai_diffclf.metrics import crossed_resamples, difference, roc_auc


def mean_score(labels, scores, *, weights=None):
    """A statistic whose sampling variance is known."""
    return np.asarray(weights) @ scores / np.asarray(weights).sum(1)


def effects(rng, images=300, seeds=5, of_image=1.0, of_seed=0.2):
    """Scores that are an effect of the image plus one of the seed: {seed: [N]}."""
    image = of_image * rng.standard_normal(images)
    return {seed: image + of_seed * rng.standard_normal() for seed in range(seeds)}


def test_variance_is_that_of_images_plus_that_of_seeds():
    scores = effects(np.random.default_rng(0))
    found = crossed_resamples(mean_score, np.zeros(300), {"a": scores}, num_resamples=20000)["a"]
    by_seed = np.array([values.mean() for values in scores.values()])
    expected = scores[0].var() / 300 + by_seed.var(ddof=1) / 5
    assert found.value == pytest.approx(by_seed.mean())
    assert found.resampled.var() == pytest.approx(expected, rel=0.05)


def test_one_seed_gives_the_variance_of_images_alone():
    scores = effects(np.random.default_rng(1), seeds=1)
    found = crossed_resamples(mean_score, np.zeros(300), {"a": scores}, num_resamples=20000)["a"]
    assert found.resampled.var() == pytest.approx(scores[0].var() / 300, rel=0.05)


def test_intervals_of_a_true_difference_cover_it():
    """Two methods of the same images whose means differ by 0.1; the trainings of each are drawn anew each time."""
    rng, hits, covered_without_seeds = np.random.default_rng(2), 0, 0
    for _ in range(200):
        image = rng.standard_normal(120)
        methods = {
            name: {s: image + shift + 0.1 * rng.standard_normal() + 0.3 * rng.standard_normal(120) for s in range(5)}
            for name, shift in (("a", 0.1), ("b", 0.0))
        }
        found = crossed_resamples(mean_score, np.zeros(120), methods, num_resamples=300)
        gap = difference(found["a"], found["b"])
        hits += gap.low <= 0.1 <= gap.high
        # The same with the seeds held fixed, as one long "seed": the choice of trainings is not covered.
        fixed = {n: {0: np.mean([*m.values()], axis=0)} for n, m in methods.items()}
        narrow = crossed_resamples(mean_score, np.zeros(120), fixed, num_resamples=300)
        gap = difference(narrow["a"], narrow["b"])
        covered_without_seeds += gap.low <= 0.1 <= gap.high
    assert 174 <= hits <= 200  # 0.95 of 200 less what a percentile interval of five seeds lacks
    assert covered_without_seeds < hits - 30


def test_a_method_has_no_difference_to_itself_and_all_seeds_are_paired():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, 80)
    scores = {seed: labels + rng.standard_normal(80) for seed in range(3)}
    found = crossed_resamples(roc_auc, labels, {"a": scores, "b": dict(scores)}, num_resamples=100)
    gap = difference(found["a"], found["b"])
    assert (gap.value, gap.low, gap.high, gap.p_value) == (0, 0, 0, 1)


def test_groups_are_drawn_whole():
    """Each group holds ten copies: the variance is that of the groups, ten times that of the rows."""
    rng = np.random.default_rng(4)
    group = np.repeat(np.arange(50), 10)
    scores = rng.standard_normal(50)[group]
    single, grouped = (
        crossed_resamples(mean_score, np.zeros(500), {"a": {0: scores}}, groups=g, num_resamples=4000)["a"].resampled
        for g in (None, group)
    )
    assert grouped.var() / single.var() == pytest.approx(10, rel=0.15)


def test_conditions_are_averaged_within_a_seed():
    labels, a, b = [0, 0, 1, 1], [0.1, 0.3, 0.4, 0.8], [0.1, 0.6, 0.4, 0.8]
    both = crossed_resamples(roc_auc, labels, {"m": {0: [a, b]}}, num_resamples=40)["m"]
    alone = crossed_resamples(roc_auc, labels, {"a": {0: a}, "b": {0: b}}, num_resamples=40)
    np.testing.assert_allclose(both.resampled, (alone["a"].resampled + alone["b"].resampled) / 2)
    assert both.value == 0.875


def test_p_value_is_uniform_where_there_is_no_difference():
    rng = np.random.default_rng(5)
    values = []
    for _ in range(200):
        methods = {name: {0: rng.standard_normal(60)} for name in "ab"}
        found = crossed_resamples(mean_score, np.zeros(60), methods, num_resamples=300)
        values.append(difference(found["a"], found["b"]).p_value)
    assert 0.02 <= np.mean(np.array(values) < 0.05) <= 0.11
    assert 0.4 <= np.mean(np.array(values) < 0.5) <= 0.62


@pytest.mark.parametrize(
    ("methods", "text"),
    [({}, "at least one"), ({"a": {}}, "at least one seed"), ({"a": {0: [0.1, 0.2]}}, "expected 3 rows")],
)
def test_bad_methods_are_refused(methods, text):
    with pytest.raises(ValueError, match=text):
        crossed_resamples(roc_auc, [0, 1, 1], methods)
