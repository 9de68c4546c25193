"""Ensembles: closed forms of the pools, and weights that find who knows."""

from __future__ import annotations

import pytest
import torch
from sklearn.linear_model import LogisticRegression

from monai_diffclf.uncertainty import Ensemble, ensemble_probabilities, fit_ensemble

ROWS = torch.rand(30, 3, generator=torch.Generator().manual_seed(0)).softmax(1)


def gaussians(images: int = 4000, seed: int = 0):
    """Two measurements of the class with independent noise, and the exact posterior of each and of both."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(images) % 2
    sign = (2 * labels - 1).double()
    x = torch.stack([sign + s * torch.randn(images, generator=generator).double() for s in (1.0, 2.0)])
    log_odds = torch.stack([2 * x[0], 2 * x[1] / 4])
    to_p = lambda odds: torch.stack([-odds / 2, odds / 2], 1).softmax(1)  # noqa: E731
    return [to_p(odds) for odds in log_odds], to_p(log_odds.sum(0)), labels


def test_one_member_is_itself():
    for pool in ("log_linear", "mean"):
        torch.testing.assert_close(ensemble_probabilities([ROWS], pool=pool), ROWS)
        torch.testing.assert_close(ensemble_probabilities([ROWS, ROWS, ROWS], pool=pool), ROWS)


def test_independent_evidence_adds_up_in_the_log_linear_pool():
    members, both, labels = gaussians()
    torch.testing.assert_close(ensemble_probabilities(members, (1.0, 1.0)), both)
    ensemble = fit_ensemble(members, labels)
    assert ensemble.temperatures == () and ensemble.weights == pytest.approx((1.0, 1.0), abs=0.12)
    torch.testing.assert_close(ensemble(members), both, atol=0.03, rtol=0)


def test_weights_are_those_of_a_logistic_regression():
    members, _, labels = gaussians(1000, seed=3)
    odds = torch.stack([p[:, 1].log() - p[:, 0].log() for p in members], 1).numpy()
    expected = LogisticRegression(C=1e9, fit_intercept=False).fit(odds, labels).coef_[0]
    assert fit_ensemble(members, labels).weights == pytest.approx(expected.tolist(), abs=0.01)


@pytest.mark.parametrize("pool", ["log_linear", "mean"])
def test_who_guesses_is_not_heard(pool):
    members, _, labels = gaussians(800)
    guess = torch.rand(800, 2, generator=torch.Generator().manual_seed(9)).double().softmax(1)
    ensemble = fit_ensemble([members[0], guess], labels, pool=pool)
    assert ensemble.weights[0] > 8 * ensemble.weights[1]
    assert torch.allclose(ensemble([members[0], guess]).sum(1), torch.ones(800).double())


def test_order_of_images_does_not_matter_and_files_keep_it():
    members, _, labels = gaussians(300)
    ensemble = fit_ensemble(members, labels, pool="mean")
    turn = torch.randperm(300, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(ensemble(members)[turn], ensemble([member[turn] for member in members]))
    assert Ensemble.from_dict(ensemble.to_dict()) == ensemble and sum(ensemble.weights) == pytest.approx(1)


def test_sure_members_stay_finite():
    sure = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert bool(ensemble_probabilities([sure, sure.flip(0)]).isfinite().all())
    torch.testing.assert_close(ensemble_probabilities([sure, sure.flip(0)]), torch.full((2, 2), 0.5))


@pytest.mark.parametrize(
    ("members", "settings", "words"),
    [
        ([], {}, "members: expected probabilities"),
        ([ROWS, ROWS[:5]], {}, "members: expected probabilities"),
        ([ROWS], {"weights": (1.0, 1.0)}, "weights: expected one a member, 1, got 2"),
        ([ROWS], {"weights": (-1.0,)}, "weights: expected numbers of at least 0"),
        ([ROWS], {"weights": (0.0,)}, "not all 0"),
        ([ROWS], {"weights": ("1",)}, "weights: expected numbers of at least 0, got '1'"),
        ([ROWS], {"weights": 1.0}, "weights: expected a list of numbers, one a member, got 1.0"),
        ([ROWS], {"pool": "product"}, "pool: expected one of"),
    ],
)
def test_refusals(members, settings, words):
    with pytest.raises(ValueError, match=words):
        ensemble_probabilities(members, **settings)


def test_members_are_tensors_of_floats():
    onehot = torch.nn.functional.one_hot(ROWS.argmax(1), 3)
    ensemble = Ensemble("mean", (0.5, 0.5))
    asks = (ensemble_probabilities, ensemble, lambda members: fit_ensemble(members, torch.arange(30) % 3))
    for ask in asks:
        with pytest.raises(TypeError, match=r"members\[0\]: expected floating point probabilities, got torch.int64"):
            ask([onehot, ROWS])
        for wrong, kind in ((ROWS.numpy(), "ndarray"), (ROWS.tolist(), "list")):
            with pytest.raises(TypeError, match=rf"members\[1\]: expected a Tensor \[n, K\], got {kind}"):
                ask([ROWS, wrong])
        with pytest.raises(TypeError, match=r"members: expected a list of Tensors \[n, K\], .* got ndarray"):
            ask(torch.stack([ROWS, ROWS]).numpy())
    assert ensemble_probabilities([onehot.double(), ROWS.double()], pool="mean").argmax(1).equal(ROWS.argmax(1))


def test_a_fit_refuses_other_labels():
    for labels, words in (
        (torch.zeros(30).long(), r"labels: expected images of each class from 0 to 2, got 30 of \[0\]"),
        (torch.arange(29) % 3, r"labels: expected one class an image, \[30\], got \[29\]"),
        (torch.arange(30) % 4, "labels: expected class numbers from 0 to 2, got 3"),
        (torch.arange(30) % 3 + 0.5, "labels: expected class numbers from 0 to 2, got 0.5"),
        (torch.full((30,), torch.nan), "labels: expected class numbers from 0 to 2, got nan"),
    ):
        with pytest.raises(ValueError, match=words):
            fit_ensemble([ROWS], labels)


def test_whole_numbers_of_any_type_are_labels():
    members, _, labels = gaussians(100)
    assert fit_ensemble(members, labels.float()) == fit_ensemble(members, labels)


@pytest.mark.parametrize(
    "rows",
    [ROWS.log(), ROWS * 0.9, torch.full_like(ROWS, torch.nan), ROWS + torch.tensor([0.5, -0.5, 0.0])],
    ids=["logits", "sum", "nan", "negative"],
)
def test_what_is_no_probability_is_refused(rows):
    ensemble = Ensemble("mean", (0.5, 0.5), (1.0, 2.0))
    asks = (ensemble_probabilities, ensemble, lambda members: fit_ensemble(members, torch.arange(30) % 3))
    for ask in asks:
        with pytest.raises(ValueError, match=r"members\[1\]: expected numbers in \[0, 1\] with rows that sum to 1"):
            ask([ROWS, rows])
    close = ROWS * 1.004  # as of half precision
    assert bool(ensemble_probabilities([ROWS, close]).isfinite().all())


def test_an_ensemble_refuses_other_members():
    with pytest.raises(ValueError, match="members: expected 2, as were fitted, got 1"):
        Ensemble("mean", (0.5, 0.5))([ROWS])
    with pytest.raises(ValueError, match="temperatures: expected one a member"):
        Ensemble("mean", (0.5, 0.5), (1.0,))
    with pytest.raises(ValueError, match="temperatures: expected positive"):
        Ensemble("mean", (0.5,), (0.0,))
    with pytest.raises(ValueError, match=r"values: expected pool and weights, \['weights'\] missing"):
        Ensemble.from_dict({"pool": "mean"})
