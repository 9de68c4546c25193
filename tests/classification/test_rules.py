"""Rules: votes, weights and probabilities, against their definitions and under permutation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from monai_diffclf.classification import (
    DenoisingErrors,
    classify_errors,
    count_votes,
    draw_scores,
    draw_weights,
    mean_errors,
    vote_uncertainty,
)

RULES = ("vote", "mean", "weighted_vote")


def make(values: torch.Tensor, *, num_elements: int = 16) -> DenoisingErrors:
    draws = values.shape[2]
    log_snr = torch.linspace(6, -6, draws) if draws > 1 else torch.zeros(1)
    return DenoisingErrors(values, torch.arange(draws), log_snr, log_snr.abs() + 0.5, num_elements)


def random_values(classes: int = 3, draws: int = 11, images: int = 40, *, ties: bool = False) -> torch.Tensor:
    values = torch.rand(images, classes, draws, generator=torch.Generator().manual_seed(classes * 100 + draws))
    return (values * 3).floor() if ties else values


@pytest.mark.parametrize("classes", [2, 3, 20])
def test_votes_against_a_loop(classes):
    values = random_values(classes)
    expected = np.zeros((40, classes))
    for image, table in enumerate(values.numpy()):
        for draw in range(11):
            expected[image, table[:, draw].argmin()] += 1
    assert count_votes(make(values)).tolist() == expected.tolist()


def test_ties_share_a_vote():
    values = torch.tensor([[[1.0, 2.0, 3.0], [1.0, 2.0, 1.0], [1.0, 4.0, 2.0]]])
    votes = count_votes(make(values))
    torch.testing.assert_close(votes, torch.tensor([[1 / 3 + 1 / 2, 1 / 3 + 1 / 2 + 1, 1 / 3]], dtype=torch.float64))


def test_draws_not_made_cast_no_vote():
    values = torch.tensor([[[1.0, torch.nan, 5.0], [2.0, torch.nan, torch.nan]]])
    assert count_votes(make(values)).tolist() == [[2.0, 0.0]]


def test_weighted_votes():
    values = torch.tensor([[[1.0, 2.0, 3.0], [2.0, 1.0, 3.0]]])
    assert count_votes(make(values), torch.tensor([2.0, 5.0, 4.0])).tolist() == [[4.0, 7.0]]


@pytest.mark.parametrize("rule", ["vote", "weighted_vote"])
@pytest.mark.parametrize("ties", [False, True])
def test_scores_sum_to_the_votes(rule, ties):
    errors = make(random_values(4, ties=ties))
    scores = draw_scores(errors, rule)
    assert scores.dtype == torch.float64
    torch.testing.assert_close(scores.sum(1), torch.ones(40, 11, dtype=torch.float64))
    torch.testing.assert_close(scores.sum(2), count_votes(errors))


def test_scores_of_the_mean():
    errors = make(random_values())
    assert torch.equal(draw_scores(errors, "mean"), -errors.values.double())


def test_scores_where_nothing_was_evaluated():
    values = torch.tensor([[[1.0, torch.nan, 3.0], [2.0, torch.nan, torch.nan], [2.0, torch.nan, 3.0]]])
    scores = draw_scores(make(values))
    expected = torch.tensor([[[1.0, torch.nan, 0.5], [0.0, torch.nan, torch.nan], [0.0, torch.nan, 0.5]]])
    torch.testing.assert_close(scores, expected.double(), equal_nan=True)


def test_votes_ignore_any_positive_weight_of_a_draw():
    values = random_values(ties=True)
    weights = torch.rand(11, generator=torch.Generator().manual_seed(1)) * 10 + 0.01
    assert torch.equal(count_votes(make(values)), count_votes(make(values * weights)))


@pytest.mark.parametrize("weighting", ["uniform", "elbo", "min_snr"])
def test_mean_errors(weighting):
    values = random_values()
    values[3, :, 5:] = torch.nan
    values[4, 1] = torch.nan
    errors = make(values)
    weighted = values.double() * draw_weights(errors, weighting)
    expected = weighted.nanmean(2)
    expected[4, 1] = torch.inf
    torch.testing.assert_close(mean_errors(errors, weighting), expected)


def test_a_class_given_up_is_compared_on_shared_draws():
    # Class 2 was given up after two draws: 0.3 - 0.1 and 0.5 - 0.2 above class 0, whose mean of all draws is 0.3.
    values = torch.tensor([[[0.1, 0.2, 0.6], [0.3, 0.1, 0.4], [0.3, 0.5, torch.nan]]])
    expected = torch.tensor([[0.3, 0.8 / 3, 0.3 + (0.2 + 0.3) / 2]], dtype=torch.float64)
    torch.testing.assert_close(mean_errors(make(values)), expected, atol=1e-7, rtol=0)
    weights = torch.tensor([1.0, 2.0, 4.0])
    weighted = torch.tensor([[2.9 / 3, 2.1 / 3, 2.9 / 3 + (0.2 + 0.6) / 2]], dtype=torch.float64)
    torch.testing.assert_close(mean_errors(make(values), weights), weighted, atol=1e-6, rtol=0)


def test_shared_draws_remove_the_effect_of_the_level():
    # Errors grow fourfold over the draws; a class given up early has seen the small ones only.
    generator = torch.Generator().manual_seed(0)
    level = torch.linspace(1, 4, 40)
    values = level * (1 + 0.05 * torch.randn(200, 3, 40, generator=generator))
    values[:, 2] += 0.2
    expected = mean_errors(make(values))
    values[:, 2, 10:] = torch.nan
    paired = mean_errors(make(values))
    assert torch.equal(paired[:, :2], expected[:, :2])
    assert (paired[:, 2] - expected[:, 2]).mean().abs() < 0.02
    assert (values[:, 2].nanmean(1) - expected[:, 2]).mean() < -1, "its plain mean would win every image"


def test_importance_multiplies_the_weight_in_mean_and_vote():
    values = torch.tensor([[[0.1, 0.9, 0.8], [0.2, 0.3, 0.4]]])
    errors = make(values)
    weighted = replace(errors, importance=torch.tensor([6.0, 1.0, 2.0]))
    torch.testing.assert_close(mean_errors(weighted), torch.tensor([[3.1, 2.3]], dtype=torch.float64) / 3)
    assert classify_errors(errors).predicted.tolist() == [1]
    result = classify_errors(weighted)
    assert result.predicted.tolist() == [0]
    torch.testing.assert_close(result.vote_share, torch.tensor([[6 / 9, 3 / 9]]))


@pytest.mark.parametrize("weighting", ["uniform", "elbo", "min_snr"])
def test_weighted_vote(weighting):
    errors = make(random_values(3, ties=True))
    weights = draw_weights(errors, weighting)
    votes = count_votes(errors, weights / weights.mean())
    result = classify_errors(errors, "weighted_vote", weighting=weighting)
    torch.testing.assert_close(result.vote_share, (votes / 11).float())
    top = votes.topk(2, dim=1).values
    clear = top[:, 0] - top[:, 1] > 1e-6
    assert clear.sum() > 20
    assert torch.equal(result.predicted[clear], votes.argmax(1)[clear])


def test_weighted_vote_depends_on_relative_weights_alone():
    errors = make(random_values())
    weights = torch.rand(11, generator=torch.Generator().manual_seed(2)) + 0.1
    plain, weighted = (classify_errors(errors, rule, weighting=weights) for rule in ("vote", "weighted_vote"))
    assert not torch.equal(plain.predicted, weighted.predicted)
    same = classify_errors(errors, "weighted_vote", weighting=7 * weights)
    torch.testing.assert_close(same.vote_share, weighted.vote_share)
    ones = classify_errors(errors, "weighted_vote", weighting=torch.ones(11))
    torch.testing.assert_close(ones.probabilities, classify_errors(errors).probabilities)


def test_weighted_vote_of_one_draw_alone():
    # All the weight on draw 4: the class is that draw's.
    errors = make(random_values())
    weights = torch.zeros(11)
    weights[4] = 3.0
    result = classify_errors(errors, "weighted_vote", weighting=weights)
    assert torch.equal(result.predicted, errors.values[:, :, 4].argmin(1))


@pytest.mark.parametrize("rule", RULES)
def test_a_class_given_up_never_wins(rule):
    generator = torch.Generator().manual_seed(3)
    values = torch.rand(300, 4, 12, generator=generator)
    last = torch.randint(1, 12, (300, 4), generator=generator)
    last[torch.arange(300), torch.randint(0, 4, (300,), generator=generator)] = 12
    values[torch.arange(12) >= last[:, :, None]] = torch.nan
    result = classify_errors(make(values), rule)
    assert (last[torch.arange(300), result.predicted] == 12).all()
    assert torch.isfinite(result.probabilities).all()
    torch.testing.assert_close(result.probabilities.sum(1), torch.ones(300))
    if rule == "mean":
        best = result.probabilities.gather(1, result.predicted[:, None])[:, 0]
        assert torch.equal(best, result.probabilities.max(1).values)


def test_all_draws_are_a_decision():
    result = classify_errors(make(random_values()))
    assert result.decided.tolist() == [True] * 40
    assert result.guarantee == "all draws"


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("classes", [2, 3, 20])
@pytest.mark.parametrize("draws", [1, 10, 11])
def test_probabilities(rule, classes, draws):
    result = classify_errors(make(random_values(classes, draws)), rule)
    assert result.probabilities.dtype == torch.float32
    torch.testing.assert_close(result.probabilities.sum(1), torch.ones(40))
    torch.testing.assert_close(result.vote_share.sum(1), torch.ones(40))
    assert (result.probabilities > 0).all()
    # What a metric reads from the probabilities is the class that is reported.
    assert torch.equal(result.probabilities.argmax(1), result.predicted)


def test_mean_rule_is_softmax_of_the_scores():
    errors = make(random_values(), num_elements=8)
    for temperature in (0.5, 1.0, 7.0):
        result = classify_errors(errors, "mean", temperature=temperature)
        expected = torch.softmax(-4 * errors.values.double().mean(2) / temperature, 1)
        torch.testing.assert_close(result.probabilities, expected.float())
        assert torch.equal(result.predicted, errors.values.double().mean(2).argmin(1))


def test_vote_probabilities_follow_the_formula():
    errors = make(random_values(), num_elements=4)
    votes, softmax = count_votes(errors), torch.softmax(-2 * errors.values.double().mean(2), 1)
    expected = (votes + 1 / 6 + softmax / 2) / 12
    torch.testing.assert_close(classify_errors(errors, "vote").probabilities, expected.float())


def test_tied_votes_go_to_the_smaller_mean_error():
    values = torch.tensor([[[0.1, 0.9], [0.2, 0.3]], [[0.1, 0.4], [0.9, 0.3]]])
    result = classify_errors(make(values), "vote")
    assert result.vote_share.tolist() == [[0.5, 0.5]] * 2
    assert result.predicted.tolist() == [1, 0]
    assert torch.equal(result.probabilities.argmax(1), result.predicted)


def test_mean_rule_can_disagree_with_the_vote():
    values = torch.tensor([[[0.9, 0.3, 0.2], [0.2, 0.4, 0.5]]])
    assert classify_errors(make(values), "vote").predicted.tolist() == [0]
    assert classify_errors(make(values), "mean").predicted.tolist() == [1]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("ties", [False, True])
def test_permuting_classes_permutes_results(rule, ties):
    values = random_values(4, ties=ties)
    if ties:  # equal votes and equal means have no class of their own, and so nothing to permute
        values[:, :, 0] += torch.tensor([0.1, 0.2, 0.3, 0.4])
    order = torch.tensor([2, 0, 3, 1])
    result, permuted = (classify_errors(make(v), rule) for v in (values, values[:, order]))
    torch.testing.assert_close(permuted.probabilities, result.probabilities[:, order])
    torch.testing.assert_close(permuted.vote_share, result.vote_share[:, order])
    torch.testing.assert_close(permuted.mean_error, result.mean_error[:, order])
    assert torch.equal(order[permuted.predicted], result.predicted)
    for name, value in result.uncertainty.items():
        torch.testing.assert_close(permuted.uncertainty[name], value)


def test_classes_that_always_tie_get_equal_shares():
    result = classify_errors(make(torch.full((2, 3, 7), 0.5)))
    torch.testing.assert_close(result.vote_share, torch.full((2, 3), 1 / 3))
    torch.testing.assert_close(result.probabilities, torch.full((2, 3), 1 / 3))


def test_uncertainty():
    shares = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.3, 0.2], [1 / 3, 1 / 3, 1 / 3]])
    got = vote_uncertainty(shares)
    torch.testing.assert_close(got["vote_variance"], torch.tensor([0.0, 0.25, 2 / 9]))
    torch.testing.assert_close(got["vote_margin"], torch.tensor([1.0, 0.2, 0.0]))
    entropy = torch.tensor([stats.entropy(row) for row in shares.numpy()], dtype=torch.float32)
    torch.testing.assert_close(got["vote_entropy"], entropy, atol=1e-6, rtol=1e-6)


def test_partly_evaluated_images():
    values = random_values(2, 11)
    values[0, :, 6:] = torch.nan
    result = classify_errors(make(values))
    alone = classify_errors(make(values).first(6)[:1])
    torch.testing.assert_close(result.vote_share[:1], alone.vote_share)
    torch.testing.assert_close(result.probabilities[:1], alone.probabilities)
    assert result.network_evaluations.tolist()[:2] == [12, 22]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"rule": "majority"}, r"rule: expected one of \['vote', 'mean', 'weighted_vote'\], got 'majority'"),
        ({"weighting": "snr"}, "weighting: expected one of"),
        ({"temperature": 0}, "temperature: expected a positive number, got 0"),
        ({"temperature": float("nan")}, "temperature: expected a positive number, got nan"),
        ({"temperature": "warm"}, "temperature: expected a positive number, got 'warm'"),
    ],
)
def test_refuses(kwargs, message):
    with pytest.raises(ValueError, match=message):
        classify_errors(make(random_values()), **kwargs)


def test_result_has_the_length_of_the_batch():
    assert len(classify_errors(make(random_values()))) == 40
    assert len(classify_errors(make(random_values(images=1))[:0])) == 0


@pytest.mark.parametrize("rule", RULES)
def test_what_decides_nothing_is_refused(rule):
    """No image gets the first class for want of numbers; what a stopping rule left out may be missing."""
    values = random_values(images=4)
    values[1, 2, 3:] = torch.nan  # given up
    values[2, :, 5:] = torch.nan  # decided early
    result = classify_errors(make(values), rule)
    assert bool(result.probabilities.isfinite().all())
    none = values.clone()
    none[3] = torch.nan
    with pytest.raises(
        ValueError, match=r"errors: expected at least one that was evaluated .*, got none for image.*\[3\]"
    ):
        classify_errors(make(none), rule)
    infinite = values.clone()
    infinite[0, 0, 2] = torch.inf
    with pytest.raises(ValueError, match=r"errors: expected finite values, got infinity for image\(s\) \[0\]"):
        classify_errors(make(infinite), rule)
    with pytest.raises(TypeError, match="errors: expected DenoisingErrors, got Tensor"):
        classify_errors(values, rule)
    with pytest.raises(ValueError, match=r"mean_error: expected finite numbers .* for image\(s\) \[0, 1, 2, 3\]"):
        classify_errors(make(values), rule, mean_error=torch.full((4, 3), torch.nan))
    assert len(classify_errors(make(values[:0]), rule).predicted) == 0
