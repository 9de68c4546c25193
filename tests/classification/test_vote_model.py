"""The beta-binomial model of votes."""

from __future__ import annotations

from fractions import Fraction
from math import comb

import pytest
import torch

from monai_diffclf.classification import DenoisingErrors, VoteModel


def chance(wins: int, losses: int, total: int, a: float = 1.0) -> float:
    x = torch.tensor([[1.0] * wins + [-1.0] * losses])
    return float(VoteModel(a).chance_to_lose(x, torch.ones(total), torch.zeros(total)))


def exact(wins: int, losses: int, total: int) -> float:
    """P(total votes do not favour the leader), all shares equally likely beforehand, by summing exact fractions."""
    left = total - wins - losses
    n, probability = wins + losses, Fraction(0)
    for more in range(left + 1):  # further votes of the rival
        if wins + left - more - losses - more <= 0:
            # Beta-binomial with a = 1: comb(left, k) B(losses + k + 1, wins + left - k + 1) / B(losses + 1, wins + 1)
            ways = Fraction(comb(n, wins) * (n + 1) * comb(left, more), comb(total, losses + more) * (total + 1))
            probability += ways
    return float(probability)


@pytest.mark.parametrize(("wins", "losses", "total"), [(1, 0, 5), (3, 1, 11), (5, 4, 20), (9, 0, 51), (12, 8, 41)])
def test_closed_form(wins, losses, total):
    assert chance(wins, losses, total) == pytest.approx(exact(wins, losses, total), rel=1e-9)


def test_certain_when_the_lead_cannot_be_undone():
    assert chance(6, 0, 11) == 0
    assert chance(5, 0, 10) > 0  # a tie is still possible


def test_more_votes_are_surer_and_clear_images_need_fewer():
    assert chance(20, 0, 501) < chance(8, 0, 501) < chance(3, 0, 501)
    assert chance(8, 0, 501, a=0.3) < chance(8, 0, 501, a=3.0)


def test_votes_that_go_to_others_say_nothing_of_the_pair():
    x = torch.tensor([[1.0, 0.0, 1.0, 0.0, 1.0, 0.0]])
    with_others = float(VoteModel().chance_to_lose(x, torch.ones(60), torch.zeros(60)))
    assert with_others == pytest.approx(chance(3, 0, 30), rel=0.2)


def test_calibrated_on_votes_from_the_model():
    generator = torch.Generator().manual_seed(0)
    share = torch.distributions.Beta(0.7, 0.7)
    torch.manual_seed(0)
    p = share.sample((6000,))
    votes = (torch.rand(6000, 61, generator=generator) < p[:, None]).float() * 2 - 1
    lead = votes[:, :9].sum(1)
    x = votes * lead.sign()[:, None]  # from the leader's side
    predicted = VoteModel(0.7).chance_to_lose(x[:, :9], torch.ones(61), torch.zeros(61))
    lost = (x.sum(1) <= 0).double()
    for low, high in ((0.0, 0.02), (0.02, 0.2), (0.2, 0.6)):
        inside = (predicted >= low) & (predicted < high)
        error = float(lost[inside].mean() - predicted[inside].mean())
        assert abs(error) < 4 * (0.25 / float(inside.sum())) ** 0.5


def test_fit_recovers_the_concentration():
    torch.manual_seed(1)
    p = torch.distributions.Beta(0.5, 0.5).sample((800,))
    first = (torch.rand(800, 101, generator=torch.Generator().manual_seed(1)) < p[:, None]).float()
    errors = DenoisingErrors(torch.stack([1 - first, first], 1), torch.arange(101), torch.zeros(101))
    assert VoteModel.fit(errors).concentration == pytest.approx(0.5, rel=0.2)


def test_round_trip_and_refusals():
    model = VoteModel(0.37)
    assert VoteModel.from_dict({**model.to_dict(), "note": "x"}) == model
    with pytest.raises(ValueError, match="concentration: expected a positive number, got 0"):
        VoteModel(0)
    with pytest.raises(ValueError, match="concentration, it is missing"):
        VoteModel.from_dict({})
    with pytest.raises(ValueError, match="expected at least 8 images"):
        VoteModel.fit(DenoisingErrors(torch.rand(3, 2, 9), torch.arange(9), torch.zeros(9)))
