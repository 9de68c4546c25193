"""Calibration: against other optimisers, on data whose truth is known, and what it refuses."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import expit, log_expit, log_softmax
from sklearn.isotonic import IsotonicRegression

from monai_diffclf.uncertainty import Calibration, adjust_prior, fit_calibration

METHODS = ("temperature", "beta", "isotonic")


def make(count: int = 600, classes: int = 3, *, sharpness: float = 4.0, seed: int = 0):
    """Overconfident probabilities, labels drawn from the true ones, and the true ones."""
    generator = torch.Generator().manual_seed(seed)
    scores = 1.5 * torch.randn(count, classes, generator=generator).double()
    truth = scores.softmax(1)
    labels = torch.multinomial(truth, 1, generator=generator)[:, 0]
    return (sharpness * scores).softmax(1), labels, truth


def platt_targets(labels: torch.Tensor, classes: int) -> np.ndarray:
    sizes = np.bincount(labels.numpy(), minlength=classes)
    rows = [[(sizes[y] * (k == y) + 1) / (sizes[y] + classes) for k in range(classes)] for y in labels.tolist()]
    return np.asarray(rows)


def beta_loss(parameters: np.ndarray, q: np.ndarray, target: np.ndarray) -> float:
    a, b, c = parameters
    z = c + a * np.log(q) - b * np.log1p(-q)
    return -float((target * log_expit(z) + (1 - target) * log_expit(-z)).sum())


def two_classes(log_odds: torch.Tensor) -> torch.Tensor:
    """Probabilities [B, 2] from the log odds of class 1."""
    return torch.stack([torch.sigmoid(-log_odds), torch.sigmoid(log_odds)], 1)


def overlap(truth: torch.Tensor, got: torch.Tensor) -> float:
    return float((truth - got).abs().mean())


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("method", METHODS)
def test_recovers_the_true_probabilities(method, classes):
    given, labels, truth = make(20_000, classes)
    got = fit_calibration(given, labels, method=method)(given)
    # With more classes, one against the rest is not the form of this truth.
    limit = {"temperature": 0.005, "beta": 0.005 if classes == 2 else 0.02, "isotonic": 0.02}[method]
    assert overlap(truth, got) < limit < overlap(truth, given)


@pytest.mark.parametrize("classes", [2, 3])
def test_temperature_against_another_optimiser(classes):
    given, labels, _ = make(300, classes)
    targets, logs = platt_targets(labels, classes), given.log().numpy()
    found = minimize(lambda b: -(targets * log_softmax(logs * b[0], axis=1)).sum(), [1.0], method="Nelder-Mead")
    calibration = fit_calibration(given, labels)
    assert 1 / calibration.parameters["temperature"] == pytest.approx(found.x[0], rel=1e-3)


@pytest.mark.parametrize("classes", [2, 3])
def test_beta_against_another_optimiser(classes):
    given, labels, _ = make(300, classes, sharpness=2)
    targets, fit = platt_targets(labels, classes), fit_calibration(given, labels, method="beta").parameters
    for k in range(classes):
        q, target = given[:, k].numpy(), targets[:, k]
        found = minimize(beta_loss, [1, 1, 0], args=(q, target), bounds=[(0, None), (0, None), (None, None)])
        own = np.array([fit["a"][k], fit["b"][k], fit["c"][k]])
        assert beta_loss(own, q, target) == pytest.approx(found.fun, rel=1e-6)
        z, other = (p[2] + p[0] * np.log(q) - p[1] * np.log1p(-q) for p in (own, found.x))
        np.testing.assert_allclose(expit(z), expit(other), atol=2e-3)


def test_beta_never_falls():
    # Labels that contradict one end of the scale pull a slope below 0 in the free fit.
    given, labels, _ = make(400, 2, sharpness=1)
    labels[given[:, 1] > 0.9] = 0
    calibration = fit_calibration(given, labels, method="beta")
    assert min(calibration.parameters["a"] + calibration.parameters["b"]) == 0
    scale = torch.linspace(0.001, 0.999, 200).double()
    got = calibration(torch.stack([1 - scale, scale], 1))[:, 1]
    assert (got.diff() >= 0).all()


def test_beta_of_a_classifier_that_is_always_wrong_gives_the_class_shares():
    given, labels, _ = make(400, 2)
    got = fit_calibration(given, 1 - labels, method="beta")
    assert got.parameters["a"] == got.parameters["b"] == [0.0, 0.0]
    share = float((1 - labels).double().mean())
    assert got(given)[:, 1].tolist() == pytest.approx([share] * 400, abs=1e-3)


def test_isotonic_of_two_classes_is_that_of_scikit_learn():
    given, labels, _ = make(200, 2)
    expected = IsotonicRegression().fit(given[:, 1].numpy(), platt_targets(labels, 2)[:, 1])
    got = fit_calibration(given, labels, method="isotonic")(given)
    np.testing.assert_allclose(got[:, 1].numpy(), expected.predict(given[:, 1].numpy()), atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_permuting_classes_permutes_results(method):
    given, labels, _ = make()
    order = torch.tensor([2, 0, 1])
    got = fit_calibration(given, labels, method=method)(given)
    permuted = fit_calibration(given[:, order], order.argsort()[labels], method=method)(given[:, order])
    torch.testing.assert_close(permuted, got[:, order], atol=1e-4, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_perfect_separation_stays_finite(method):
    labels = torch.arange(40) % 2
    given = torch.nn.functional.one_hot(labels).double() * 0.8 + 0.1
    got = fit_calibration(given, labels, method=method)(given)
    assert got.argmax(1).tolist() == labels.tolist()
    assert float(got.max()) == pytest.approx(21 / 22, abs=1e-3), "Platt's target"


@pytest.mark.parametrize("method", METHODS)
def test_extremes_give_probabilities(method):
    calibration = fit_calibration(*make()[:2], method=method)
    got = calibration(torch.tensor([[1.0, 0.0, 0.0], [0.0, 1e-30, 1.0], [1 / 3, 1 / 3, 1 / 3]]))
    assert torch.isfinite(got).all()
    torch.testing.assert_close(got.sum(1), torch.ones(3))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_keeps_type_and_device(method, dtype, device):
    # Half precision has no probabilities below 6e-8.
    given, labels, _ = make()
    calibration = fit_calibration(given, labels, method=method)
    got = calibration(given.to(device, dtype))
    assert (got.dtype, got.device.type) == (dtype, device)
    torch.testing.assert_close(
        got.cpu().double(), calibration(given), atol=5e-2 if dtype == torch.float16 else 1e-4, rtol=0
    )
    assert calibration(given[:0]).shape == (0, 3)


def test_prior_is_bayes_rule():
    # Two Gaussian classes at -1 and 1: the posterior under any prior is known.
    x = torch.linspace(-3, 3, 50).double()

    def posterior(share: float) -> torch.Tensor:
        return two_classes(2 * x + math.log(share / (1 - share)))

    torch.testing.assert_close(adjust_prior(posterior(0.3), [0.7, 0.3], [0.1, 0.9]), posterior(0.9))
    same = Calibration("temperature", {"temperature": 1.0}, (0.7, 0.3), 100)
    torch.testing.assert_close(same(posterior(0.3), torch.tensor([0.1, 0.9])), posterior(0.9))
    torch.testing.assert_close(same(posterior(0.3)), posterior(0.3))


@pytest.mark.parametrize("method", METHODS)
def test_prior_of_the_fit_is_that_of_the_labels_unless_the_fit_cannot_learn_it(method):
    given, labels, _ = make(100)
    calibration = fit_calibration(given, labels, method=method)
    shares = [1 / 3] * 3 if method == "temperature" else (np.bincount(labels) / 100).tolist()
    assert calibration.prior == pytest.approx(shares)
    assert calibration.num_images == 100


@pytest.mark.parametrize("share", [0.5, 0.73])
@pytest.mark.parametrize("method", METHODS)
def test_posterior_for_any_class_shares_whatever_those_of_the_fit(method, share):
    # Two Gaussian classes at -1 and 1, one more frequent; the classifier gives p(x | k), overconfident by a factor 3.
    generator = torch.Generator().manual_seed(0)
    labels = (torch.rand(20_000, generator=generator) < share).long()
    x = torch.randn(20_000, generator=generator).double() + 2 * labels - 1
    calibration = fit_calibration(two_classes(6 * x), labels, method=method)
    at = torch.linspace(-1.5, 1.5, 7).double()
    for wanted in (0.5, 0.2):
        exact = torch.sigmoid(2 * at + math.log(wanted / (1 - wanted)))
        got = calibration(two_classes(6 * at), [1 - wanted, wanted])[:, 1]
        torch.testing.assert_close(got, exact, atol=0.05, rtol=0)


def test_prior_of_the_fit_can_be_asked_for():
    # Three of four images of class 1 are missing from the fit; weighted back, it is as that of all.
    given, labels, _ = make(40_000, 2)
    keep = (labels == 0) | (torch.arange(40_000) % 4 == 0)
    everything = fit_calibration(given, labels, method="beta")
    weighted = fit_calibration(given[keep], labels[keep], method="beta", prior=everything.prior)
    biased = fit_calibration(given[keep], labels[keep], method="beta")
    assert overlap(everything(given), weighted(given)) < 0.01 < overlap(everything(given), biased(given))
    assert overlap(everything(given), biased(given, everything.prior)) < 0.01, "and so is Bayes' rule after the fit"


@pytest.mark.parametrize("method", METHODS)
def test_round_trip(method):
    given, labels, _ = make(100)
    calibration = fit_calibration(given, labels, method=method, provenance={"network": "0123"})
    found = Calibration.from_dict(json.loads(json.dumps(calibration.to_dict())))
    assert found == calibration
    assert found.provenance == {"network": "0123"}


def refused(**kwargs) -> str:
    given, labels, _ = make(60)
    with pytest.raises(ValueError) as caught:
        fit_calibration(kwargs.pop("probabilities", given), kwargs.pop("labels", labels), **kwargs)
    return str(caught.value)


def test_refuses_what_cannot_be_calibrated_on():
    given, labels, _ = make(60)
    assert "labels: expected images of all 3 classes, got class 2 only" in refused(labels=torch.full((60,), 2))
    assert "labels: expected images of all 3 classes, got none of [2]" in refused(labels=labels.clamp(max=1))
    message = "labels: expected at least 20 images to calibrate on, got 19"
    assert message in refused(probabilities=given[:19], labels=labels[:19])
    saturated = torch.nn.functional.one_hot(labels, 3).float()
    saturated[:20] = 1 / 3
    message = "got exactly 0 and 1 in 67 % of the images, which leaves nothing to calibrate; raise the inferer's temp"
    assert message in refused(probabilities=saturated)


def test_refuses_bad_arguments():
    given, labels, _ = make(60)
    assert "method: expected one of ['temperature', 'beta', 'isotonic'], got 'platt'" in refused(method="platt")
    assert "labels: expected one class an image, [60], got [59]" in refused(labels=labels[1:])
    unknown = labels.clone()
    unknown[7] = -1
    assert "labels: expected class numbers from 0 to 2, got -1 in 1 image(s), the first at 7" in refused(labels=unknown)
    assert "probabilities: expected numbers in [0, 1]" in refused(probabilities=given.log())
    assert "probabilities: expected numbers in [0, 1]" in refused(probabilities=given * torch.nan)
    assert "probabilities: expected shape [B, K] with K >= 2, got [60]" in refused(probabilities=given[:, 0])
    message = "prior: expected 3 positive class shares that sum to 1, got"
    assert message in refused(prior=[0.5, 0.5])
    assert message in refused(prior=[0.5, 0.5, 0.0])
    with pytest.raises(TypeError, match="probabilities: expected a Tensor"):
        fit_calibration(given.numpy(), labels)


def test_refuses_other_classes_and_broken_values():
    given, labels, _ = make(60)
    calibration = fit_calibration(given, labels)
    with pytest.raises(
        ValueError, match="probabilities: expected 3 classes, as in the fit, got 2; is this the file of"
    ):
        calibration(torch.tensor([[0.5, 0.5]]))
    with pytest.raises(ValueError, match="new_prior: expected 3 positive class shares"):
        calibration(given, [1.0, 1.0, 1.0])
    values = calibration.to_dict()
    with pytest.raises(ValueError, match="values: expected prior, it is missing"):
        Calibration.from_dict({name: value for name, value in values.items() if name != "prior"})
    with pytest.raises(ValueError, match=r"parameters: expected \['a', 'b', 'c'\] for beta, got \['temperature'\]"):
        Calibration.from_dict(values | {"method": "beta"})
    with pytest.raises(ValueError, match="parameters: expected 3 of each, one for every class"):
        Calibration.from_dict(values | {"method": "isotonic", "parameters": {"x": [[0]], "y": [[0.5]]}})
