"""Curtailed voting: exhaustively over all votes that five draws can cast, and replayed on stored errors."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from monai_diffclf.classification import CurtailedVote, DenoisingErrors, StoppingRule, classify_errors, count_votes


def make(values: torch.Tensor) -> DenoisingErrors:
    return DenoisingErrors(values, torch.arange(values.shape[2]), torch.zeros(values.shape[2]))


def errors_of_votes(votes: list[tuple[int, ...]], classes: int) -> DenoisingErrors:
    """Errors under which draw n votes for class votes[n]."""
    return make(1 - torch.nn.functional.one_hot(torch.tensor(votes), classes).float().transpose(1, 2))


@pytest.mark.parametrize("classes", [2, 3])
def test_decided_exactly_when_no_later_vote_can_matter(classes):
    total = 5
    every = list(product(range(classes), repeat=total))
    full = count_votes(errors_of_votes(every, classes))
    top = full.topk(2, dim=1).values
    # The winner of each full vote, -1 where the leaders tie.
    winner = torch.where(top[:, 0] > top[:, 1], full.argmax(1), -1).tolist()
    for made in range(1, total + 1):
        decided = CurtailedVote().decided(errors_of_votes(every, classes).first(made), total).tolist()
        ends: dict[tuple[int, ...], set[int]] = {}
        for votes, end in zip(every, winner, strict=True):
            ends.setdefault(votes[:made], set()).add(end)
        for votes, flag in zip(every, decided, strict=True):
            certain = len(ends[votes[:made]]) == 1 and -1 not in ends[votes[:made]]
            assert flag == certain, (votes[:made], flag)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("classes", [2, 3, 20])
def test_replay_gives_the_class_of_all_draws(classes, ties):
    values = torch.rand(300, classes, 21, generator=torch.Generator().manual_seed(classes))
    values[:, 0] -= torch.linspace(0, 0.8, 300)[:, None]
    errors = make((values * 4).round() if ties else values)
    expected = classify_errors(errors).predicted
    stopped = torch.zeros(300, dtype=torch.bool)
    for made in range(1, 22):
        decided = CurtailedVote().decided(errors.first(made), 21)
        assert (decided | ~stopped).all(), "a decided image stays decided"
        stopped = decided
        predicted = classify_errors(errors.first(made)).predicted
        assert torch.equal(predicted[decided], expected[decided])
    assert stopped.float().mean() > 0.5


def test_images_that_were_stopped_earlier_stay_decided():
    errors = errors_of_votes([(0, 0, 0, 1, 1), (0, 1, 0, 1, 0)], 2)
    errors.values[0, :, 3:] = torch.nan
    assert CurtailedVote().decided(errors, 5).tolist() == [True, True]
    assert CurtailedVote().decided(errors.first(4), 5).tolist() == [True, False]


def test_is_a_stopping_rule():
    assert isinstance(CurtailedVote(3), StoppingRule)
    assert CurtailedVote(3).block == 3
    assert CurtailedVote.rules == ("vote",)
    assert not isinstance("vote", StoppingRule)


@pytest.mark.parametrize("block", [0, -1, 1.5])
def test_refuses(block):
    with pytest.raises(ValueError, match=f"block: expected a positive integer, got {block}"):
        CurtailedVote(block)
