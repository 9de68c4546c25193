"""Stopping rules: exact ones exhaustively over all draws to come, predictive ones on data from their model."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from scipy import stats

from monai_diffclf.classification import (
    CurtailedVote,
    DenoisingErrors,
    DifferenceModel,
    Look,
    PredictiveCurtailment,
    SequentialTest,
    StagedElimination,
    StoppingRule,
    classify_errors,
    replay,
)

RULES = [CurtailedVote(3), PredictiveCurtailment(0.05), SequentialTest(0.05), StagedElimination()]


def make(values: torch.Tensor) -> DenoisingErrors:
    draws = values.shape[2]
    return DenoisingErrors(values.float(), torch.arange(draws), torch.linspace(6, -6, draws))


def errors_of_votes(votes: list[tuple[int, ...]], classes: int) -> DenoisingErrors:
    """Errors under which draw n votes for class votes[n]."""
    return make(1 - torch.nn.functional.one_hot(torch.tensor(votes), classes).float().transpose(1, 2))


# Curtailed vote


@pytest.mark.parametrize("weights", [None, (0.5, 2.0, 1.0, 0.25, 1.25)], ids=["votes", "weighted votes"])
@pytest.mark.parametrize("classes", [2, 3])
def test_decided_exactly_when_no_later_vote_can_matter(classes, weights):
    total = 5
    every = list(product(range(classes), repeat=total))
    errors = errors_of_votes(every, classes)
    look = {"rule": "vote"} if weights is None else {"rule": "weighted_vote", "weighting": torch.tensor(weights)}
    full = Look.of(errors, total, **look).totals
    top = full.topk(2, dim=1).values
    # The winner of each full vote, -1 where the leaders tie.
    winner = torch.where(top[:, 0] > top[:, 1] + 1e-6, full.argmax(1), -1).tolist()
    for made in range(1, total + 1):
        decided = (CurtailedVote().remaining(Look.of(errors, made, **look)).sum(1) == 1).tolist()
        ends: dict[tuple[int, ...], set[int]] = {}
        for votes, end in zip(every, winner, strict=True):
            ends.setdefault(votes[:made], set()).add(end)
        for votes, flag in zip(every, decided, strict=True):
            certain = len(ends[votes[:made]]) == 1 and -1 not in ends[votes[:made]]
            assert flag == certain, (votes[:made], flag)


@pytest.mark.parametrize("block", [1, 4, 50])
@pytest.mark.parametrize("rule", ["vote", "weighted_vote"])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("classes", [2, 3, 20])
def test_the_class_is_that_of_all_draws(classes, ties, rule, block):
    values = torch.rand(400, classes, 22, generator=torch.Generator().manual_seed(classes))
    values[:, 0] -= torch.linspace(0, 0.8, 400)[:, None]
    errors = make((values * 4).round() if ties else values)
    weights = torch.rand(22, generator=torch.Generator().manual_seed(1))
    expected = classify_errors(errors, rule, weighting=weights)
    result = replay(errors, CurtailedVote(block), rule=rule, weighting=weights)
    assert torch.equal(result.predicted, expected.predicted)
    assert result.decided.all()
    assert result.guarantee == "the class that all draws would give, always"
    made = result.network_evaluations // classes
    assert ((made % block == 0) | (made == 22)).all()
    assert block == 50 or (made < 22).double().mean() > 0.4


def test_a_class_out_of_reach_still_takes_votes():
    # After 4 of 7 draws class 2 cannot win any more, but nothing is decided: it goes on taking votes from the others.
    errors = errors_of_votes([(0, 0, 1, 1, 2, 2, 1)], 3)
    assert CurtailedVote().remaining(Look.of(errors, 4)).tolist() == [[True, True, True]]
    result = replay(errors, CurtailedVote())
    assert result.vote_share[0].tolist() == pytest.approx([2 / 7, 3 / 7, 2 / 7])


# Predictive curtailment


def simulate(model: DifferenceModel, images: int, classes: int, seed: int = 0) -> DenoisingErrors:
    """Errors whose difference between any two classes is from the model: scores of half its variances."""
    rng = np.random.default_rng(seed)
    log_snr = torch.linspace(6, -6, 64)[torch.randperm(64, generator=torch.Generator().manual_seed(seed))]
    band = np.searchsorted(model.edges, log_snr.double().numpy())
    scale = np.sqrt(model.degrees / rng.chisquare(model.degrees, size=(images, 1, 1)) / 2)
    means = rng.multivariate_normal(np.zeros(len(model.noise)), model.covariance, size=(images, classes))
    noise = rng.normal(size=(images, classes, 64)) * np.sqrt(model.noise)[band]
    values = torch.from_numpy(scale * (means[:, :, band] + noise))
    return DenoisingErrors(values.float(), torch.arange(64), log_snr)


LEVELLED = DifferenceModel((-2.0, 2.0), (0.01, 0.3, 4.0), ((0.2, 0.1, 0.0), (0.1, 0.4, 0.1), (0.0, 0.1, 2.0)), 12.0)
FLAT = DifferenceModel((), (1.0,), ((0.36,),), 12.0)


@pytest.mark.parametrize(("model", "classes"), [(FLAT, 2), (LEVELLED, 2), (LEVELLED, 3), (FLAT, 5)])
def test_predictive_is_wrong_no_more_often_than_promised(model, classes):
    errors = simulate(model, 3000, classes)
    expected = classify_errors(errors, "mean").predicted
    spent = []
    for alpha in (0.01, 0.05, 0.2):
        result = replay(errors, PredictiveCurtailment(alpha, model, block=4, min_draws=4), rule="mean")
        wrong = int((result.predicted != expected).sum())
        # One-sided Clopper-Pearson: the true rate is above the lower bound with 99.9 % confidence.
        assert stats.binomtest(wrong, 3000).proportion_ci(0.998).low < alpha, (wrong, alpha)
        spent.append(result.network_evaluations.double().mean().item())
        assert result.decided.all()
    assert 64 * classes * 0.95 > spent[0] > spent[1] > spent[2]
    # Not merely never wrong: the promise at 0.2 is used.
    assert wrong > 0.01 * 3000


@pytest.mark.parametrize("rule", ["vote", "mean", "weighted_vote"])
@pytest.mark.parametrize("classes", [2, 3])
def test_predictive_fitted_on_other_images_agrees_as_promised(rule, classes):
    model = DifferenceModel.fit(simulate(LEVELLED, 1000, classes, seed=1), "mean" if rule == "mean" else "vote")
    errors = simulate(LEVELLED, 2000, classes, seed=2)
    result = replay(errors, PredictiveCurtailment(0.05, model), rule=rule)
    wrong = int((result.predicted != classify_errors(errors, rule).predicted).sum())
    assert stats.binomtest(wrong, 2000).proportion_ci(0.998).low < 0.05
    assert result.network_evaluations.double().mean() < 0.8 * 64 * classes


def test_predictive_settings():
    errors = simulate(FLAT, 300, 2)
    result = replay(errors, PredictiveCurtailment(0.3, FLAT, block=5, min_draws=12, max_draws=30), rule="mean")
    made = result.network_evaluations // 2
    assert set(made.tolist()) <= {12, 17, 22, 27, 30}
    assert (made == 12).any()
    # An image may be decided by the last look; one that is not has all the draws allowed.
    assert (made[~result.decided] == 30).all()
    assert 0 < (~result.decided).sum() < 300
    assert "with probability above 0.7 under the model" in result.guarantee


# Staged elimination


def test_stages_by_hand():
    # Errors: class 3 is best at first, class 0 in the end; the mean of two draws keeps 3 and 1, then 1 wins.
    values = torch.tensor([[[4.0, 4, 0, 0, 0], [3.0, 3, 1, 1, 1], [8.0, 8, 0, 0, 0], [1.0, 1, 9, 9, 9]]])
    rule = StagedElimination(draws=(2, 4), keep=(2, 1))
    result = replay(make(values), rule, rule="mean")
    assert result.errors.evaluated.sum(2).tolist() == [[2, 4, 2, 4]]
    assert result.predicted.tolist() == [1]
    assert result.decided.tolist() == [True]
    assert result.guarantee == "none"
    assert classify_errors(make(values), "mean").predicted.tolist() == [0], "which all draws would not say"


def test_stages_of_the_vote_share_the_later_votes():
    # Votes of two draws: 0, 1. Class 2 leaves; the last draw, in which it would win, goes to class 1.
    values = torch.tensor([[[0.0, 5, 5], [1.0, 0, 1], [2.0, 5, 0]]])
    result = replay(make(values), StagedElimination(draws=(2, 3), keep=(2, 1)))
    assert result.predicted.tolist() == [1]
    assert result.vote_share[0].tolist() == pytest.approx([1 / 3, 2 / 3, 0])
    assert result.network_evaluations.tolist() == [8]


def test_stages_keep_more_classes_than_there_are():
    values = torch.rand(5, 3, 30, generator=torch.Generator().manual_seed(0))
    result = replay(make(values), StagedElimination((10, 30), (5, 1)), rule="mean")
    assert torch.equal(result.predicted, classify_errors(make(values), "mean").predicted)
    assert result.network_evaluations.tolist() == [90] * 5


# All of them


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_is_a_stopping_rule(rule):
    assert isinstance(rule, StoppingRule)
    assert rule.order(50).sort().values.tolist() == list(range(50))
    assert eval(repr(rule)).__dict__ == rule.__dict__, "its repr says all of it"  # noqa: S307


def test_rules_of_decision():
    assert CurtailedVote.rules == ("vote", "weighted_vote")
    for kind in (PredictiveCurtailment, SequentialTest, StagedElimination):
        assert kind.rules == ("vote", "mean", "weighted_vote")
    assert not isinstance("vote", StoppingRule)


def test_looks():
    assert CurtailedVote(3).looks(10) == [3, 6, 9, 10]
    assert CurtailedVote(30).looks(10) == [10]
    assert SequentialTest(block=4, max_draws=9).looks(20) == [4, 8, 9]
    assert PredictiveCurtailment(block=4, min_draws=6).looks(16) == [6, 10, 14, 16]
    assert StagedElimination((2, 5), (2, 1)).looks(9) == [2, 5]


@pytest.mark.parametrize("block", [0, -1, 1.5, True])
@pytest.mark.parametrize("kind", [CurtailedVote, PredictiveCurtailment, SequentialTest])
def test_block_is_checked(kind, block):
    with pytest.raises(ValueError, match=f"block: expected a positive integer, got {block}"):
        kind(block=block)


@pytest.mark.parametrize("alpha", [0, 1, -0.1, 1.5, float("nan"), True, "low", None])
@pytest.mark.parametrize("kind", [PredictiveCurtailment, SequentialTest])
def test_alpha_is_checked(kind, alpha):
    message = f"alpha: expected a probability between 0 and 1, both excluded, got {alpha!r}"
    with pytest.raises(ValueError, match=message):
        kind(alpha)


@pytest.mark.parametrize(
    ("kind", "name"),
    [(PredictiveCurtailment, "min_draws"), (PredictiveCurtailment, "max_draws"), (SequentialTest, "max_draws")],
)
def test_numbers_of_draws_are_checked(kind, name):
    with pytest.raises(ValueError, match=f"{name}: expected a positive integer, got 0"):
        kind(**{name: 0})
    with pytest.raises(ValueError, match=f"{name}: expected at most the 30 draws there are, got 31"):
        kind(**{name: 31}).looks(30)
    assert kind(**{name: 30}).looks(30)[-1] == 30


@pytest.mark.parametrize(
    ("draws", "keep", "message"),
    [
        ((), (), r"draws, keep: expected positive integers, as many of each, got \[\], \[\]"),
        ((5,), (2, 1), r"expected positive integers, as many of each, got \[5\], \[2, 1\]"),
        ((5, 0), (2, 1), "expected positive integers, as many of each"),
        ((5, 7.5), (2, 1), "expected positive integers, as many of each"),
        ((7, 5), (2, 1), r"expected draws to ascend and keep to descend to 1, got \[7, 5\], \[2, 1\]"),
        ((5, 5), (2, 1), "expected draws to ascend and keep to descend to 1"),
        ((5, 7), (1, 2), "expected draws to ascend and keep to descend to 1"),
        ((5, 7), (3, 2), "expected draws to ascend and keep to descend to 1"),
    ],
)
def test_stages_are_checked(draws, keep, message):
    with pytest.raises(ValueError, match=message):
        StagedElimination(draws, keep)


def test_more_stages_than_draws():
    with pytest.raises(ValueError, match="draws: expected at most the 100 draws there are, got 250"):
        StagedElimination().looks(100)
