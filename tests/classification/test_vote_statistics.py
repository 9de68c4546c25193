"""What votes say about doubt: against scipy, simulation and limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from monai_diffclf.classification import DenoisingErrors, classify_errors
from monai_diffclf.classification.vote_statistics import effective_draws, vote_uncertainty

KEYS = {
    "vote_variance",
    "vote_entropy",
    "vote_margin",
    "vote_share_low",
    "vote_share_high",
    "entropy_monte_carlo",
    "entropy_remaining",
}


def shares(votes: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    counts = torch.tensor(votes, dtype=torch.float64)
    return counts / counts.sum(1, keepdim=True), counts.sum(1)


def test_interval_against_scipy():
    votes = [[7, 3], [10, 0], [51, 0], [26, 25], [301, 200]]
    got = vote_uncertainty(*shares(votes))
    for i, row in enumerate(votes):
        expected = stats.binomtest(max(row), sum(row)).proportion_ci(0.95, method="wilson")
        assert float(got["vote_share_low"][i]) == pytest.approx(expected.low, abs=1e-12)
        assert float(got["vote_share_high"][i]) == pytest.approx(expected.high, abs=1e-12)


def test_few_draws_look_uncertain():
    low = [float(vote_uncertainty(torch.tensor([[1.0, 0.0]]), n)["vote_share_low"]) for n in (1, 5, 51, 501)]
    assert low == sorted(low)
    assert low[0] < 0.25 and low[-1] > 0.99


def test_no_draws_say_nothing():
    got = vote_uncertainty(torch.zeros(1, 2), 0)
    assert (float(got["vote_share_low"]), float(got["vote_share_high"])) == (0.0, 1.0)
    assert all(torch.isfinite(value).all() for value in got.values())


@pytest.mark.parametrize("votes", [[3, 1], [20, 5, 0], [51, 0], [1, 1, 1, 1]])
def test_entropy_split_against_simulation(votes):
    got = vote_uncertainty(*shares([votes]))
    posterior = np.random.default_rng(0).dirichlet(np.asarray(votes) + 0.5, 400_000)
    remaining = stats.entropy(posterior, axis=1)
    error = 5 * remaining.std() / math.sqrt(len(remaining))
    assert float(got["entropy_remaining"]) == pytest.approx(remaining.mean(), abs=error)
    total = stats.entropy(np.asarray(votes) + 0.5)
    assert float(got["entropy_monte_carlo"] + got["entropy_remaining"]) == pytest.approx(total, abs=1e-12)


def test_more_draws_settle_the_monte_carlo_part_only():
    got = [vote_uncertainty(torch.tensor([[0.7, 0.2, 0.1]]), n) for n in (5, 50, 500, 5000)]
    settled = [float(u["entropy_monte_carlo"]) for u in got]
    assert settled == sorted(settled, reverse=True)
    assert settled[-1] == pytest.approx(1 / 5000, rel=0.01), "(K - 1) / 2N to first order"
    assert float(got[-1]["entropy_remaining"]) == pytest.approx(float(got[0]["vote_entropy"]), abs=1e-3)


def test_monte_carlo_part_is_never_negative(device):
    votes = torch.rand(200, 4, generator=torch.Generator().manual_seed(0)).softmax(1).to(device)
    got = vote_uncertainty(votes, 10**9)
    assert (got["entropy_monte_carlo"] >= 0).all()
    assert all(value.device == votes.device and value.dtype == votes.dtype for value in got.values())


def test_draws_of_each_image_count():
    share = torch.tensor([[0.8, 0.2], [0.8, 0.2]])
    got = vote_uncertainty(share, torch.tensor([5, 500]))
    alone = vote_uncertainty(share[1:], 500)
    for name, value in got.items():
        assert torch.equal(value[1:], alone[name])
    assert got["vote_share_low"][0] < got["vote_share_low"][1]


def test_refuses_negative_draws():
    with pytest.raises(ValueError, match="num_draws: expected the number of draws that voted, at least 0, got -1"):
        vote_uncertainty(torch.tensor([[1.0, 0.0]]), -1)


@pytest.mark.parametrize("rule", ["vote", "mean", "weighted_vote"])
def test_classification_gives_them(rule):
    values = torch.rand(6, 3, 10, generator=torch.Generator().manual_seed(1))
    values[0, :, 4:] = torch.nan
    errors = DenoisingErrors(values, torch.arange(10), torch.linspace(4, -4, 10))
    result = classify_errors(errors, rule)
    assert set(result.uncertainty) == {*KEYS, "probability_margin", "probability_entropy"}
    draws = torch.tensor([4, 10, 10, 10, 10, 10])
    for name, value in vote_uncertainty(result.vote_share, draws).items():
        torch.testing.assert_close(result.uncertainty[name], value)
    assert all(value.shape == (6,) for value in result.uncertainty.values())


def test_uneven_weights_are_worth_fewer_draws():
    values = torch.rand(2, 2, 40, generator=torch.Generator().manual_seed(2))
    values[1, :, 20:] = torch.nan
    weights = torch.rand(40, generator=torch.Generator().manual_seed(3)) ** 4
    errors = DenoisingErrors(values, torch.arange(40), torch.zeros(40))
    got = effective_draws(errors, weights)
    for i, part in enumerate((weights, weights[:20])):
        assert float(got[i]) == pytest.approx(float(part.sum() ** 2 / (part**2).sum()))
    assert effective_draws(errors, torch.full((40,), 3.0)).tolist() == pytest.approx([40.0, 20.0])


def test_effective_draws_predict_the_variance_of_a_weighted_share():
    # The share of 40 weighted fair votes varies as that of so many equal ones.
    weights = torch.arange(1, 41).double() ** 2
    votes = np.random.default_rng(0).random((200_000, 40)) < 0.5
    share = votes @ (weights / weights.sum()).numpy()
    errors = DenoisingErrors(torch.rand(1, 2, 40), torch.arange(40), torch.zeros(40))
    assert 0.25 / share.var() == pytest.approx(float(effective_draws(errors, weights)), rel=0.02)


def test_a_unanimous_vote_has_no_entropy_of_minus_zero():
    entropy = vote_uncertainty(torch.tensor([[1.0, 0.0]]))["vote_entropy"]
    assert f"{float(entropy):.6f}" == "0.000000"
