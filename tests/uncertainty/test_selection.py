"""Which images to label next: known answers, ties, and what is refused."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from monai_diffclf.classification import DenoisingErrors, vote_uncertainty
from monai_diffclf.uncertainty import error_features, k_centre, select_images


def test_few_draws_do_not_count_as_doubt() -> None:
    """Split votes of many draws come before the same split, or a tie, of few."""
    share = torch.tensor([[0.5, 0.5], [0.52, 0.48], [0.99, 0.01]])
    uncertainty = {
        name: value.numpy() for name, value in vote_uncertainty(share, torch.tensor([2, 1000, 1000])).items()
    }
    assert select_images("vote_entropy", 3, uncertainty=uncertainty).tolist() == [1, 0, 2]
    assert np.argsort(-uncertainty["vote_entropy"]).tolist() == [0, 1, 2]


def test_each_strategy_orders_by_its_own_measure() -> None:
    generator = np.random.default_rng(0)
    sure = {"entropy_remaining": generator.random(30), "probability_margin": generator.random(30)}
    unlike = generator.random(30)
    chosen = {
        name: select_images(name, 5, uncertainty=sure, ood_score=unlike)
        for name in ("vote_entropy", "margin", "typicality")
    }
    assert chosen["vote_entropy"].tolist() == np.argsort(-sure["entropy_remaining"])[:5].tolist()
    assert chosen["margin"].tolist() == np.argsort(sure["probability_margin"])[:5].tolist()
    assert chosen["typicality"].tolist() == np.argsort(-unlike)[:5].tolist()
    flat = {"entropy_remaining": np.zeros(4)}
    assert select_images("vote_entropy", 9, uncertainty=flat).tolist() == [0, 1, 2, 3]


def test_random_is_any_and_reproducible() -> None:
    chosen = [select_images("random", 10, ood_score=np.zeros(100), seed=seed).tolist() for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2] and len(set(chosen[0])) == 10
    first = [int(select_images("random", 1, ood_score=np.zeros(4), seed=seed)[0]) for seed in range(400)]
    assert np.bincount(first, minlength=4).min() > 60


def test_k_centre_is_within_twice_the_best_cover() -> None:
    """Gonzalez (1985): the largest distance to a centre is at most twice that of the best centres."""
    for seed in range(5):
        points = np.random.default_rng(seed).normal(size=(9, 2))
        distances = cdist(points, points)
        best = min(distances[:, list(centres)].min(1).max() for centres in combinations(range(9), 3))
        assert distances[:, k_centre(points, 3)].min(1).max() <= 2 * best + 1e-12


def test_diversity_leaves_near_copies_and_the_sure_alone() -> None:
    generator = np.random.default_rng(1)
    features = np.concatenate([generator.normal(0, 0.01, (30, 2)), generator.normal(9, 0.01, (10, 2)), [[50.0, 50.0]]])
    entropy = np.concatenate([np.full(30, 0.6), np.full(10, 0.5), [0.0]])
    sure = {"entropy_remaining": entropy}
    chosen = select_images("diversity", 10, uncertainty=sure, features=features)
    assert (chosen < 30).any() and ((chosen >= 30) & (chosen < 40)).any() and 40 not in chosen
    assert len(set(chosen.tolist())) == 10
    known = select_images("diversity", 10, uncertainty=sure, features=features, known=[[0.0, 0.0]])
    assert known[0] >= 30, "what is like a labelled image comes later"


def test_features_of_errors_are_mean_logs_in_bands() -> None:
    values = torch.rand(4, 2, 6) + 0.1
    errors = DenoisingErrors(values, torch.arange(6), torch.tensor([3.0, -3.0, 2.0, -2.0, 1.0, -1.0]))
    found = error_features(errors, 2)
    logs = values.double().log().numpy()
    low, high = logs[:, :, [1, 3, 5]].mean(2), logs[:, :, [0, 2, 4]].mean(2)
    assert np.allclose(found, np.stack([low, high], 2).reshape(4, 4))
    assert error_features(errors, 99).shape == (4, 12)


@pytest.mark.parametrize(
    ("strategy", "arguments", "expected"),
    [
        ("most", {}, "strategy: expected one of vote_entropy, margin, typicality, diversity, random, got 'most'"),
        ("margin", {}, "uncertainty: expected 'probability_margin' among the measures, got None"),
        ("margin", {"uncertainty": {"probability_margin": [np.nan]}}, "expected finite numbers"),
        ("typicality", {}, "ood_score: this strategy needs it, got None"),
        ("random", {}, "uncertainty: expected something"),
        ("diversity", {"uncertainty": {"entropy_remaining": [1.0]}}, "features: this strategy needs it"),
        (
            "diversity",
            {"uncertainty": {"entropy_remaining": [1.0]}, "features": [[1.0], [2.0]]},
            "expected a row for each of 1",
        ),
        (
            "diversity",
            {"uncertainty": {"entropy_remaining": [1.0]}, "features": [[1.0]], "known": [[1.0, 2.0]]},
            "known: expected 1 features a row",
        ),
    ],
)
def test_refusals(strategy: str, arguments: dict, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        select_images(strategy, 1, **arguments)
