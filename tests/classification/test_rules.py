"""Rules: votes, weights and probabilities, against their definitions and under permutation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from monai_diffclf.classification import (
    DenoisingErrors,
    classify_errors,
    count_votes,
    draw_weights,
    mean_errors,
    vote_uncertainty,
)

RULES = ("vote", "mean")


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


def test_votes_ignore_any_positive_weight_of_a_draw():
    values = random_values(ties=True)
    weights = torch.rand(11, generator=torch.Generator().manual_seed(1)) * 10 + 0.01
    assert torch.equal(count_votes(make(values)), count_votes(make(values * weights)))


def test_weights():
    errors = make(random_values())
    snr = errors.log_snr.double().exp()
    assert torch.equal(draw_weights(errors), torch.ones(11, dtype=torch.float64))
    torch.testing.assert_close(draw_weights(errors, "elbo"), errors.log_snr_rate.double())
    torch.testing.assert_close(draw_weights(errors, "min_snr", gamma=2.0), snr.clamp(max=2.0) / snr)


def test_weights_refuse():
    errors = make(random_values())
    with pytest.raises(ValueError, match=r"weighting: expected one of \['uniform', 'elbo', 'min_snr'\], got 'snr'"):
        draw_weights(errors, "snr")
    with pytest.raises(ValueError, match="gamma: expected a positive number, got 0"):
        draw_weights(errors, "min_snr", gamma=0)
    bare = DenoisingErrors(errors.values, errors.timesteps, errors.log_snr)
    with pytest.raises(ValueError, match="weighting 'elbo' needs errors.log_snr_rate"):
        draw_weights(bare, "elbo")


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
    torch.testing.assert_close(got["margin"], torch.tensor([1.0, 0.2, 0.0]))
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
        ({"rule": "majority"}, r"rule: expected one of \['vote', 'mean'\], got 'majority'"),
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
