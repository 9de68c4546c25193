"""Stopping rules with a network: the same as on stored errors, in forward calls that are full."""

from __future__ import annotations

import pytest
import torch
from monai.networks.schedulers import DDPMScheduler

from monai_diffclf.classification import (
    CurtailedVote,
    DifferenceModel,
    LevelSampling,
    LevelWeights,
    PredictiveCurtailment,
    SequentialTest,
    StagedElimination,
    classify_errors,
    replay,
)
from monai_diffclf.inferers import DiffusionClassifierInferer
from tests.closed_form import ExactDenoiser, make_classes, make_images

SCHEDULER = DDPMScheduler(1000, schedule="cosine_log_snr", log_snr_min=-6.0, log_snr_max=6.0)
DRAWS = 31
MODEL = DifferenceModel((0.0,), (0.3, 3.0), ((0.4, 0.2), (0.2, 1.0)), 6.0)
RULES = [
    CurtailedVote(2),
    PredictiveCurtailment(0.1),
    PredictiveCurtailment(0.01, max_draws=12),
    PredictiveCurtailment(0.1, MODEL),
    SequentialTest(0.2, block=3, seed=5),
    SequentialTest(0.2, max_draws=12),
    StagedElimination((4, 20), (2, 1)),
]
CASES = [(stopping, rule) for stopping in RULES for rule in stopping.rules]
KINDS = {2: "gaussian", 3: "three"}


def setting(classes: int, **kwargs) -> tuple[DiffusionClassifierInferer, ExactDenoiser, torch.Tensor]:
    laws = make_classes(KINDS[classes], gap=0.5)
    inferer = DiffusionClassifierInferer(SCHEDULER, classes, num_draws=DRAWS, **kwargs)
    return inferer, ExactDenoiser(inferer.process, laws), make_images(laws, 12 // classes, seed=2)


def assert_same(a, b) -> None:
    assert torch.equal(a.predicted, b.predicted)
    assert torch.equal(a.decided, b.decided)
    assert torch.equal(a.network_evaluations, b.network_evaluations)
    assert torch.equal(a.probabilities, b.probabilities)
    assert torch.equal(a.vote_share, b.vote_share)
    torch.testing.assert_close(a.errors.values, b.errors.values, equal_nan=True, rtol=0, atol=0)
    assert a.guarantee == b.guarantee


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize(("stopping", "rule"), CASES)
def test_with_the_network_as_on_stored_errors(stopping, rule, classes):
    settings = {"rule": rule, "weighting": "min_snr", "temperature": 2.0}
    inferer, network, images = setting(classes, stopping=stopping, batch_size=7, **settings)
    errors = inferer.compute_errors(images, network)
    network.calls.clear()
    result = inferer.classify(images, network)
    assert sum(network.calls) == int(result.network_evaluations.sum())
    assert_same(result, replay(errors, stopping, **settings))
    assert_same(result, inferer.classify_stored(errors.values, 16))
    assert_same(result, inferer.classify_stored(result.errors.values, 16))
    alone = inferer.classify(images[4:5], network)
    assert torch.equal(alone.predicted, result.predicted[4:5])
    assert torch.equal(alone.network_evaluations, result.network_evaluations[4:5])
    assert torch.equal(alone.probabilities, result.probabilities[4:5])
    assert result.network_evaluations.sum() < classes * DRAWS * len(images), "the rule spares something"


@pytest.mark.parametrize("rule", ["vote", "mean", "weighted_vote"])
def test_stored_without_a_rule(rule):
    inferer, network, images = setting(3, rule=rule, weighting="elbo")
    result = inferer.classify(images, network)
    stored = inferer.classify_stored(result.errors.values, 16)
    assert_same(result, stored)
    assert result.decided.all()
    assert result.guarantee == "all draws"


@pytest.mark.parametrize("rule", ["vote", "mean", "weighted_vote"])
@pytest.mark.parametrize(
    "weighting", [torch.linspace(0.2, 2, DRAWS), LevelWeights((0.0,), (1.0, 3.0))], ids=["tensor", "levels"]
)
def test_sampled_levels_and_learned_weights(weighting, rule):
    sampling = LevelSampling((3.0, 2.0, 1.0), antithetic=(True, False, True))
    kwargs = {"rule": rule, "weighting": weighting, "noise_levels": sampling}
    inferer, network, images = setting(3, stopping=SequentialTest(0.2), **kwargs)
    errors = inferer.compute_errors(images, network)
    assert torch.equal(errors.importance, 1 / sampling.at(inferer.draws.levels))
    result = inferer.classify(images, network)
    assert_same(result, replay(errors, SequentialTest(0.2), rule=rule, weighting=weighting))
    full = DiffusionClassifierInferer(SCHEDULER, 3, num_draws=DRAWS, **kwargs).classify(images, network)
    assert torch.equal(full.probabilities, classify_errors(errors, rule, weighting=weighting).probabilities)


@pytest.mark.parametrize("batch_size", [1, 7, 10, 1000])
@pytest.mark.parametrize(("stopping", "rule"), [(SequentialTest(0.2), "mean"), (CurtailedVote(3), "vote")])
def test_only_the_last_call_of_a_round_may_be_smaller(stopping, rule, batch_size):
    rounds: list[list[int]] = []

    class Noted(type(stopping)):
        def remaining(self, look):
            rounds.append(list(network.calls))
            network.calls.clear()
            return super().remaining(look)

    noted = Noted(**vars_of(stopping))
    inferer, network, images = setting(3, stopping=noted, rule=rule, batch_size=batch_size)
    network.calls.clear()
    result = inferer.classify(images, network)
    assert len(rounds) > 3
    for calls in rounds:
        assert calls[:-1] == [batch_size] * (len(calls) - 1)
        assert 1 <= calls[-1] <= batch_size
    assert sum(map(sum, rounds)) == int(result.network_evaluations.sum())
    plain, network, images = setting(3, stopping=stopping, rule=rule)
    assert torch.equal(plain.classify(images, network).network_evaluations, result.network_evaluations)


def vars_of(stopping) -> dict:
    return {name: value for name, value in vars(stopping).items() if name != "guarantee"}


def test_classes_given_up_are_not_evaluated_again():
    inferer, network, images = setting(3, stopping=SequentialTest(0.2, block=1), rule="mean")
    result = inferer.classify(images, network)
    made = result.errors.evaluated[:, :, inferer.stopping.order(DRAWS)].int()
    assert (made.diff(dim=2) <= 0).all(), "in the order of the rule, a class has its draws without a gap"
    count = made.sum(2)
    assert (count.min(1).values < count.max(1).values).any()
    assert (count.gather(1, result.predicted[:, None])[:, 0] == count.max(1).values).all()


def test_undecided_when_draws_run_out():
    inferer, network, images = setting(2, stopping=SequentialTest(1e-6, max_draws=8), rule="vote")
    result = inferer.classify(images, network)
    assert not result.decided.any()
    assert result.network_evaluations.tolist() == [16] * 12


@pytest.mark.parametrize(
    ("stopping", "message"),
    [
        (SequentialTest(max_draws=DRAWS + 1), "max_draws: expected at most the 31 draws there are, got 32"),
        (PredictiveCurtailment(min_draws=DRAWS + 1), "min_draws: expected at most the 31 draws there are, got 32"),
        (StagedElimination(), "draws: expected at most the 31 draws there are, got 250"),
    ],
)
def test_rules_that_do_not_fit_are_refused_at_once(stopping, message):
    with pytest.raises(ValueError, match=message):
        setting(2, stopping=stopping)


@pytest.mark.parametrize(
    ("weighting", "message"),
    [
        (torch.ones(DRAWS - 1), r"weighting: expected one weight a draw, \[31\], got \[30\]"),
        (-torch.ones(DRAWS), "weighting: expected finite weights of at least 0, not all 0"),
    ],
)
def test_weights_that_do_not_fit_are_refused_at_once(weighting, message):
    with pytest.raises(ValueError, match=message):
        setting(2, weighting=weighting)
