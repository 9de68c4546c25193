"""The sequential test: of thousands of ties, no more are decided wrongly than it says, over all looks together."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from monai_diffclf.classification import DenoisingErrors, Look, SequentialTest, classify_errors, replay

IMAGES, DRAWS, ALPHA = 2000, 32, 0.05


def make(values: np.ndarray | torch.Tensor) -> DenoisingErrors:
    values = torch.as_tensor(values)
    return DenoisingErrors(values, torch.arange(values.shape[2]), torch.linspace(6, -6, values.shape[2]))


def upper_rate(wrong: int, count: int) -> float:
    """Clopper-Pearson: the rate is below this with 99.9 % confidence."""
    return stats.binomtest(wrong, count).proportion_ci(0.998).high


def near_ties(kind: str, classes: int, seed: int = 0) -> DenoisingErrors:
    """Errors of IMAGES images whose class 0 is best by next to nothing, every image in a random order of its own."""
    rng = np.random.default_rng(seed)
    size = (IMAGES, classes, DRAWS)
    if kind == "votes":  # one vote more than each of the others, in as many draws as can be shared so
        each = (DRAWS - 1) // classes
        votes = np.repeat(np.arange(classes), each)
        votes = np.concatenate([votes, np.zeros(1, int)])
        errors = 1.0 - np.eye(classes)[rng.permuted(np.tile(votes, (IMAGES, 1)), axis=1)].transpose(0, 2, 1)
        return make(errors)
    draw = {"Gaussian": rng.normal, "Laplace": rng.laplace, "t3": lambda size: rng.standard_t(3, size=size)}[kind]
    errors = draw(size=size)
    errors -= errors.mean(2, keepdims=True)
    errors[:, 1:] += 1e-9
    return make(errors)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("kind", ["votes", "Gaussian", "Laplace", "t3"])
def test_near_ties_are_seldom_decided_wrongly(kind, classes):
    errors = near_ties(kind, classes)
    rule = "vote" if kind == "votes" else "mean"
    assert (classify_errors(errors, rule).predicted == 0).all()
    result = replay(errors, SequentialTest(ALPHA, block=1), rule=rule)
    wrong = int((result.predicted != 0).sum())
    assert upper_rate(wrong, IMAGES) < ALPHA, wrong
    assert result.decided.all()
    assert result.guarantee.startswith("the class that all draws would give, with probability at least 0.95")


@pytest.mark.parametrize("rule", ["vote", "mean"])
def test_the_order_protects_from_levels_that_differ(rule):
    # Class 1 is better at the first half of the levels, class 0 at the second: in the stored order all would be wrong.
    better = torch.where(torch.arange(DRAWS) < DRAWS // 2 - 1, -1.0, 1.0)
    errors = make(torch.stack([torch.zeros(DRAWS), better])[None])
    assert classify_errors(errors, rule).predicted.tolist() == [0]

    class InOrder(SequentialTest):
        def order(self, num_draws: int) -> torch.Tensor:
            return torch.arange(num_draws)

    test = InOrder(ALPHA, block=1)
    assert replay(errors, test, rule=rule).predicted.tolist() == [1]
    # One image for each seed, in the order that a test with that seed makes its draws.
    orders = torch.stack([SequentialTest(seed=seed).order(DRAWS) for seed in range(1000)])
    result = replay(make(errors.values[0, :, orders].transpose(0, 1)), test, rule=rule)
    wrong = int((result.predicted != 0).sum())
    assert upper_rate(wrong, 1000) < ALPHA, wrong


@pytest.mark.parametrize("rule", ["vote", "mean", "weighted_vote"])
@pytest.mark.parametrize("classes", [2, 3])
def test_clear_images_stop_early_with_the_class_of_all_draws(rule, classes):
    values = torch.randn(500, classes, 200, generator=torch.Generator().manual_seed(0))
    values[:, 0] -= torch.linspace(0, 3, 500)[:, None]
    errors = make(values)
    weights = torch.linspace(0.5, 1.5, 200)
    expected = classify_errors(errors, rule, weighting=weights)
    result = replay(errors, SequentialTest(0.05), rule=rule, weighting=weights)
    wrong = int((result.predicted != expected.predicted).sum())
    assert stats.binomtest(wrong, 500).proportion_ci(0.998).low < 0.05
    made = result.errors.evaluated.any(1).sum(1)
    assert ((made % 4 == 0) | (made == 200)).all()
    assert made[-100:].double().mean() < 50
    assert made[:100].double().mean() > 2 * made[-100:].double().mean()


def test_classes_leave_the_mean_one_by_one():
    values = torch.randn(100, 4, 200, generator=torch.Generator().manual_seed(0)) * 0.5
    values += torch.tensor([0.0, 0.1, 1.0, 2.0])[:, None]
    spent = replay(make(values), SequentialTest(0.05), rule="mean").errors.evaluated.sum(2).double().mean(0)
    assert spent[0] == spent.max()
    assert spent[1] > 3 * spent[2]
    assert spent[2] > spent[3]


def test_equal_classes_are_never_decided_early():
    # A network that ignores the class.
    errors = make(torch.rand(5, 1, 60, generator=torch.Generator().manual_seed(0)).expand(5, 3, 60).contiguous())
    for rule in ("vote", "mean", "weighted_vote"):
        result = replay(errors, SequentialTest(0.2, max_draws=40), rule=rule)
        assert result.network_evaluations.tolist() == [120] * 5
        assert not result.decided.any()


def test_undecided_when_draws_run_out():
    values = torch.zeros(2, 2, 60)
    values[0, 1] = 1.0
    values[1, 1] = torch.tensor([1.0, -1.0]).repeat(30)
    result = replay(make(values), SequentialTest(0.01, max_draws=30), rule="vote")
    assert result.decided.tolist() == [True, False]
    assert result.network_evaluations.tolist()[1] == 60
    assert replay(make(values), SequentialTest(0.01), rule="vote").decided.all(), "all draws decide"


def test_a_tie_of_all_draws_is_decided_as_ever():
    values = torch.zeros(1, 2, 40)
    values[0, 1] = torch.tensor([1.0, -1.0]).repeat(20)
    errors = make(values)
    for rule in ("vote", "mean"):
        result = replay(errors, SequentialTest(0.01), rule=rule)
        assert torch.equal(result.predicted, classify_errors(errors, rule).predicted)
        assert torch.equal(result.probabilities, classify_errors(errors, rule).probabilities)


def test_order_by_seed():
    first, again, other = (SequentialTest(seed=seed).order(50) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, torch.arange(50))


def test_union_bound_over_the_rivals():
    # The same two classes need more evidence where more rivals might have won.
    values = torch.zeros(1, 2, 100)
    values[:, 1] = 1.0
    far = torch.full((1, 18, 100), 9.0)
    two, twenty = (
        replay(make(v), SequentialTest(0.01, block=1), rule="vote") for v in (values, torch.cat([values, far], 1))
    )
    assert twenty.network_evaluations.item() / 20 > two.network_evaluations.item() / 2


def test_weights_belong_to_their_draws():
    # All the weight on ten draws that agree: the test must look at them, wherever they come in its order.
    values = torch.zeros(1, 2, 60)
    values[0, 1] = torch.where(torch.arange(60) % 6 == 0, 1.0, -1.0)
    weights = (torch.arange(60) % 6 == 0).float()
    rule = SequentialTest(0.05, block=1)
    result = replay(make(values), rule, rule="weighted_vote", weighting=weights)
    assert result.predicted.tolist() == [0]
    made = result.errors.evaluated.any(1)[0]
    order = rule.order(60)
    look = Look.of(make(values).select(order), int(made.sum()), rule="weighted_vote", weighting=weights[order])
    assert look.totals[0, 0] > look.totals[0, 1]
    assert rule.remaining(look).tolist() == [[True, False]]
