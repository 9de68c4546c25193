"""From where on a cheap classifier may answer first: known for classifiers of known accuracy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import beta

from monai_diffclf.classification import fit_cascade


def classifiers(images: int, seed: int = 0, better: float = 0.95):
    """The first is right with the probability it gives, the second always with the same one."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, images)
    sure = rng.uniform(0.5, 1, images)
    first = np.where(rng.random(images) < sure, labels, 1 - labels)
    second = np.where(rng.random(images) < better, labels, 1 - labels)
    p = np.where(np.arange(2) == first[:, None], sure[:, None], 1 - sure[:, None])
    q = np.where(np.arange(2) == second[:, None], 0.9, 0.1)
    return torch.from_numpy(p), torch.from_numpy(q), torch.from_numpy(labels)


def test_accuracy_of_a_share_is_the_known_one():
    # Half is deferred: the other half is right with its mean probability, 0.875, the deferred one with 0.95.
    fit = fit_cascade(*classifiers(20000), deferred=0.5)
    assert fit.deferred == 0.5 and fit.threshold == pytest.approx(0.75, abs=0.01)
    assert fit.accuracy["cascade"] == pytest.approx((0.875 + 0.95) / 2, abs=0.01)
    assert fit.accuracy["first"] == pytest.approx(0.75, abs=0.01)
    assert fit.accuracy["second"] == pytest.approx(0.95, abs=0.01)


@pytest.mark.parametrize("max_loss", [0.01, 0.03, 0.1])
def test_what_is_lost_keeps_its_limit(max_loss):
    # At threshold t the first answers the share 2 (1 - t), and loses 0.95 less its mean probability (1 + t) / 2 there.
    lost = []
    for seed in range(20):
        fit = fit_cascade(*classifiers(2000, seed), max_loss=max_loss)
        lost.append(2 * (1 - fit.threshold) * (0.95 - (1 + fit.threshold) / 2))
        assert fit.loss_limit <= max_loss
    assert sum(value > max_loss for value in lost) <= 4  # 90 % sure of each: more than 4 of 20 has a chance of 4 %
    assert np.mean([value < max_loss for value in lost]) > 0 and max(lost) > 0  # and it is made use of


def test_shares_at_the_ends():
    p, q, labels = classifiers(50)
    none, every = (fit_cascade(p, q, labels, deferred=share) for share in (0, 1))
    assert (none.threshold, none.deferred, none.accuracy["cascade"]) == (0.0, 0.0, none.accuracy["first"])
    assert (every.threshold, every.deferred, every.loss_limit) == (1.0, 1.0, 0.0)
    assert every.accuracy["cascade"] == every.accuracy["second"]


def test_few_images_can_show_little():
    # The same answers: nothing is lost, and 20 images show no more than the upper limit of 0 of 20.
    p, _, labels = classifiers(20)
    limit = float(beta.ppf(0.95, 1, 20))
    assert fit_cascade(p, p, labels, max_loss=limit - 0.001).threshold == 1.0
    assert fit_cascade(p, p, labels, max_loss=limit + 0.001).threshold == 0.0


def test_a_patient_is_lost_by_one_image():
    labels = torch.zeros(100).long()
    second = torch.tensor([[0.9, 0.1]]).repeat(100, 1)
    first = torch.tensor([[0.99, 0.01]]).repeat(100, 1)
    first[0] = torch.tensor([0.01, 0.99])
    alone = fit_cascade(first, second, labels, deferred=0.0)
    pairs = fit_cascade(first, second, labels, deferred=0.0, patients=[f"P{i // 2}" for i in range(100)])
    assert alone.loss_limit == pytest.approx(float(beta.ppf(0.95, 2, 99)))
    assert pairs.loss_limit == pytest.approx(float(beta.ppf(0.95, 2, 49)))


def test_together_is_compared_with_together():
    p, q, labels = classifiers(500)
    fit = fit_cascade(p, q, labels, deferred=1.0, combine=lambda both: (both[0] + both[1]) / 2)
    assert fit.accuracy["second"] == float((((p + q) / 2).argmax(1) == labels).double().mean())


def test_refusals():
    p, q, labels = classifiers(10)
    for bad, words in (
        ({"first": p[:5]}, r"first, second: expected probabilities \[n, K\] of the same images, got \[5, 2\] and"),
        ({"labels": labels[:5]}, r"labels: expected one class an image, \[10\], got \[5\]"),
        ({"labels": labels + 5}, "labels: expected class numbers from 0 to 1"),
        ({"labels": labels + 0.5}, "labels: expected class numbers from 0 to 1, got"),
        ({"first": p - 0.5}, r"first: expected numbers in \[0, 1\] with rows that sum to 1, got 10 others"),
        ({"second": q * torch.nan}, r"second: expected numbers in \[0, 1\] with rows that sum to 1, got 10 others"),
        ({"max_loss": 0.0}, "max_loss: expected a probability"),
        ({"certainty": 1}, "certainty: expected a probability"),
        ({"deferred": 1.5}, "deferred: expected a share"),
        ({"deferred": "0.2"}, "deferred: expected a share from 0 to 1, got '0.2'"),
        ({"max_loss": "0.01"}, "max_loss: expected a probability"),
        ({"patients": ["a"]}, r"patients: expected one patient an image, \[10\], got \[1\]"),
        ({"patients": "P1"}, r"patients: expected one patient an image, \[10\], got str"),
        ({"combine": lambda both: both[0][:, :1]}, r"combine: expected probabilities \[10, 2\] of the same images"),
        ({"combine": lambda both: both[0] * torch.nan}, r"combine: expected numbers in \[0, 1\] with rows that sum"),
    ):
        with pytest.raises(ValueError, match=words):
            fit_cascade(**{"first": p, "second": q, "labels": labels, **bad})


@pytest.mark.parametrize("name", ["first", "second"])
def test_probabilities_are_tensors_of_floats(name):
    p, q, labels = classifiers(10)
    given = {"first": p, "second": q, "labels": labels}
    for values, got in ((given[name].numpy(), "Tensor .* got ndarray"), (given[name].tolist(), "Tensor .* got list")):
        with pytest.raises(TypeError, match=f"{name}: expected a {got}; torch.as_tensor makes one"):
            fit_cascade(**given | {name: values})
    with pytest.raises(TypeError, match=f"{name}: expected floating point probabilities, got torch.int64"):
        fit_cascade(**given | {name: given[name].round().long()})
    with pytest.raises(TypeError, match=r"combine: expected a Tensor \[n, K\] from it, got ndarray"):
        fit_cascade(**given, combine=lambda both: both[0].numpy())


def test_labels_may_be_any_whole_numbers_and_patients_any_names():
    p, q, labels = classifiers(60)
    fit = fit_cascade(p, q, labels, deferred=0.3, patients=[str(i // 2) for i in range(60)])
    for same in (labels.tolist(), labels.float().numpy(), labels[:, None]):
        assert fit_cascade(p, q, same, deferred=0.3, patients=[i // 2 for i in range(60)]) == fit
    assert fit_cascade(p, q, labels, deferred=0.3, patients=torch.arange(60) // 2) == fit
