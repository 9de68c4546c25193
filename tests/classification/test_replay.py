"""Deciding draw by draw, from stored errors."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from monai_diffclf.classification import (
    CurtailedVote,
    DenoisingErrors,
    DifferenceModel,
    Look,
    PredictiveCurtailment,
    SequentialTest,
    StagedElimination,
    classify_errors,
    replay,
)
from monai_diffclf.classification.replay import run_draws

RULES = [
    CurtailedVote(),
    CurtailedVote(5),
    PredictiveCurtailment(0.1),
    PredictiveCurtailment(0.1, max_draws=20),
    SequentialTest(0.1, seed=3),
    SequentialTest(0.1, max_draws=20),
    StagedElimination((5, 12), (2, 1)),
]
CASES = [(stopping, rule) for stopping in RULES for rule in stopping.rules]
FITTED = PredictiveCurtailment(0.1, DifferenceModel((0.0,), (0.5, 2.0), ((0.2, 0.1), (0.1, 0.4)), 6.0))


def make(classes: int = 3, draws: int = 40, images: int = 60) -> DenoisingErrors:
    values = torch.randn(images, classes, draws, generator=torch.Generator().manual_seed(classes))
    values[:, 0] -= torch.linspace(0, 1.5, images)[:, None]
    return DenoisingErrors(values, torch.arange(draws), torch.linspace(6, -6, draws), torch.ones(draws), 3)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize(("stopping", "rule"), [*CASES, (FITTED, "mean"), (FITTED, "vote")])
def test_an_image_alone_is_as_in_company(stopping, rule, classes):
    errors = make(classes)
    together = replay(errors, stopping, rule=rule, weighting="min_snr", temperature=2.0)
    for b in (0, 17, 59):
        alone = replay(errors[b : b + 1], stopping, rule=rule, weighting="min_snr", temperature=2.0)
        for name in ("predicted", "network_evaluations", "decided", "probabilities", "vote_share", "mean_error"):
            torch.testing.assert_close(getattr(alone, name)[0], getattr(together, name)[b])


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize(("stopping", "rule"), CASES)
def test_the_result_is_that_of_the_draws_made(stopping, rule, classes):
    errors = make(classes)
    result = replay(errors, stopping, rule=rule, weighting="min_snr")
    made = result.errors.evaluated
    assert torch.equal(result.errors.values[made], errors.values[made])
    assert torch.equal(result.network_evaluations, made.sum((1, 2)))
    expected = classify_errors(result.errors, rule, weighting="min_snr")
    assert torch.equal(result.predicted, expected.predicted)
    assert torch.equal(result.probabilities, expected.probabilities)
    # The winner was never given up: it has all the draws that were made.
    assert torch.equal(made[torch.arange(60), result.predicted], made.any(1))
    if rule != "mean" and not isinstance(stopping, StagedElimination):
        assert torch.equal(made.any(1), made.all(1)), "in a vote nobody leaves alone"
    # A rule that stopped replays itself.
    again = replay(result.errors, stopping, rule=rule, weighting="min_snr")
    assert torch.equal(again.predicted, result.predicted)
    assert torch.equal(again.network_evaluations, result.network_evaluations)
    assert torch.equal(again.decided, result.decided)


@pytest.mark.parametrize(("stopping", "rule"), CASES)
def test_undecided_only_where_draws_ran_out(stopping, rule):
    result = replay(make(), stopping, rule=rule)
    limit = getattr(stopping, "max_draws", None)
    if limit is None:
        assert result.decided.all()
    else:
        assert not result.decided.all()
        assert (result.errors.evaluated.any(1).sum(1)[~result.decided] == limit).all()


def test_draws_come_in_the_order_of_the_rule():
    seen = []

    def make_draws(images, draws, classes):
        seen.append((images.tolist(), draws.tolist(), classes.sum(1).tolist()))
        return torch.rand(len(images), 2, len(draws))

    blank = make(2, 10, 4)
    blank.values.fill_(torch.nan)
    stopping = SequentialTest(0.001, block=4, seed=5)
    errors, decided = run_draws(blank, make_draws, stopping, rule="mean")
    order = stopping.order(10).tolist()
    assert [draws for _, draws, _ in seen] == [order[:4], order[4:8], order[8:]]
    assert seen[0] == ([0, 1, 2, 3], order[:4], [2, 2, 2, 2])
    assert decided.all()
    assert errors.evaluated.all()
    assert torch.equal(errors.log_snr, blank.log_snr), "in their own order again"
    assert blank.values.isnan().all(), "what came in is left alone"


def test_decided_images_make_no_more_draws():
    errors = make(2)
    errors.values[:30, 0] = -9
    asked = []

    def make_draws(images, draws, classes):
        asked.append(images.tolist())
        return errors.values[images][:, :, draws]

    blank = DenoisingErrors(torch.full_like(errors.values, torch.nan), errors.timesteps, errors.log_snr)
    run_draws(blank, make_draws, CurtailedVote(), rule="vote")
    assert all(set(later) <= set(earlier) for earlier, later in pairwise(asked))
    assert all(len(images) == 60 for images in asked[:10])
    assert min(asked[21]) >= 30, "clear images need 21 of 40 draws"


def test_on_the_device_of_the_errors(device):
    errors = make().to(device)
    for stopping, rule in [*CASES, (FITTED, "mean")]:
        weights = torch.linspace(0.5, 1, 40)
        on_device, here = (replay(e, stopping, rule=rule, weighting=weights) for e in (errors, errors.to("cpu")))
        assert on_device.predicted.device.type == on_device.decided.device.type == device
        assert torch.equal(on_device.predicted.cpu(), here.predicted)


@pytest.mark.parametrize("stopping", [*RULES, FITTED], ids=repr)
def test_weights_by_number_and_by_level_agree(stopping):
    errors = make()
    weights = torch.rand(40, generator=torch.Generator().manual_seed(0)) + 0.1
    by_rate = DenoisingErrors(errors.values, errors.timesteps, errors.log_snr, weights, 3)
    for rule in set(stopping.rules) - {"vote"}:
        a = replay(errors, stopping, rule=rule, weighting=weights)
        b = replay(by_rate, stopping, rule=rule, weighting="elbo")
        assert torch.equal(a.network_evaluations, b.network_evaluations)
        assert torch.equal(a.predicted, b.predicted)


def test_no_images():
    result = replay(make()[:0], CurtailedVote())
    assert len(result) == 0
    assert result.decided.tolist() == []


def test_a_look():
    values = torch.tensor([[[1.0, 2, 3, 9], [2.0, 1, 5, 9], [0.5, 4, torch.nan, 9]]])
    errors = DenoisingErrors(values, torch.arange(4), torch.linspace(3, -3, 4), importance=torch.tensor([1.0, 2, 3, 4]))
    look = Look.of(errors, 3, rule="mean", weighting=torch.tensor([1.0, 1, 2, 2]))
    assert (look.num_made, look.num_draws, look.rule) == (3, 4, "mean")
    assert look.weights.tolist() == [1, 2, 6, 8]
    assert look.racing.tolist() == [[True, True, False]]
    assert look.totals.tolist() == [[-23.0, -34.0, -torch.inf]]
    leader, leads = look.leads()
    assert leader.tolist() == [0]
    assert leads[0, 1].tolist() == [1, -1, 2]
    assert Look.of(errors.first(2), 2).totals.tolist() == [[0.0, 2.0, 1.0]]


@pytest.mark.parametrize(
    ("stopping", "rule", "message"),
    [
        (
            CurtailedVote(),
            "mean",
            r"stopping: CurtailedVote is valid for rules \['vote', 'weighted_vote'\], not 'mean'",
        ),
        (SequentialTest(), "median", r"stopping: SequentialTest is valid for rules .*, not 'median'"),
        (SequentialTest(max_draws=41), "vote", "max_draws: expected at most the 40 draws there are, got 41"),
        (PredictiveCurtailment(min_draws=41), "vote", "min_draws: expected at most the 40 draws there are, got 41"),
        (StagedElimination(), "vote", "draws: expected at most the 40 draws there are, got 250"),
    ],
)
def test_refuses(stopping, rule, message):
    with pytest.raises(ValueError, match=message):
        replay(make(), stopping, rule=rule)


def test_a_fitted_model_may_be_used_for_other_draws():
    model = DifferenceModel.fit(make(images=100), "mean", num_bands=4)
    result = replay(make(draws=16), PredictiveCurtailment(0.1, model), rule="mean")
    assert result.decided.all()


def test_refuses_errors_that_decide_nothing():
    errors = make()
    with pytest.raises(TypeError, match="errors: expected DenoisingErrors, got Tensor"):
        replay(errors.values, CurtailedVote())
    errors.values[2, 0, 39] = torch.inf  # of a draw that need not be made
    with pytest.raises(ValueError, match=r"errors: expected finite values, got infinity for image\(s\) \[2\]"):
        replay(errors, CurtailedVote())
    errors.values[2] = torch.nan
    with pytest.raises(ValueError, match=r"errors: expected at least one that was evaluated .* \[2\]"):
        replay(errors, SequentialTest())
