"""Uncertainty fitted to few images and to several classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from monai_diffclf.classification import DenoisingErrors, classify_errors
from monai_diffclf.fitting import UncertaintyFit, fit_uncertainty
from monai_diffclf.fitting.choose_calibration import cross_fitted_loss
from monai_diffclf.networks import network_hash
from monai_diffclf.storage import StoredErrors, load_uncertainty


class Opened:
    """What a fit takes from a bundle."""

    def __init__(self, num_classes: int) -> None:
        torch.manual_seed(0)
        self.network = torch.nn.Linear(2, 2)
        self.classes = [f"class {k}" for k in range(num_classes)]
        self.image_size = (8, 8)
        self.decision = {"weighting": "uniform", "temperature": 0.3}

    def get(self, name):
        return {"evaluate#network": self.network}[name]


def made(counts: list[int], bundle: Opened, draws: int = 8, patients: list[str] | None = None) -> StoredErrors:
    """Errors that are smaller under the true class, by chance not always."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.cat([torch.full((count,), k) for k, count in enumerate(counts)])
    values = torch.rand(len(labels), len(counts), draws, generator=generator) + 1
    values[torch.arange(len(labels)), labels] *= 0.93
    errors = DenoisingErrors(values, torch.arange(draws), torch.linspace(4, -4, draws))
    keys = [f"{i:03d}" for i in range(len(labels))]
    made_by = {"network": network_hash(bundle.network)}
    return StoredErrors(errors, labels, keys, patients or [""] * len(keys), made_by)


def fitted(counts: list[int], **options) -> UncertaintyFit:
    bundle = Opened(len(counts))
    patients = options.pop("patients", None)
    return fit_uncertainty(bundle, made(counts, bundle, patients=patients), source="errors.npz", **options)


def test_several_classes_with_images_enough(tmp_path):
    fit = fitted([40, 30, 50, 25])
    assert fit.remarks == () and set(fit.losses["mean"]) == {"temperature", "beta", "isotonic", "none"}
    fit.save(tmp_path / "uncertainty.json")
    for rule in ("mean", "vote"):
        read = load_uncertainty(tmp_path / "uncertainty.json", rule)
        assert read.calibration.num_classes == 4 and read.conformal.per_class and read.typicality.num_images == 145
        assert min(fit.losses[rule], key=fit.losses[rule].get) == fit.methods[rule]


def test_probabilities_stay_as_they_are_where_every_calibration_does_worse(tmp_path):
    bundle = Opened(3)
    stored = made([30, 30, 30], bundle)
    stored.errors.values[torch.arange(90), stored.labels] *= 0.5  # all right, and sure
    fit = fit_uncertainty(bundle, stored, source="errors.npz")
    assert fit.methods["vote"] == "none"
    assert all(loss > fit.losses["vote"]["none"] for name, loss in fit.losses["vote"].items() if name != "none")
    assert any("probabilities stay as they are" in text for text in fit.remarks)
    fit.save(tmp_path / "uncertainty.json")
    calibration = load_uncertainty(tmp_path / "uncertainty.json", "vote").calibration
    probabilities = torch.tensor([[0.7, 0.2, 0.1], [1.0, 0.0, 0.0]])
    assert torch.allclose(calibration(probabilities), probabilities, atol=1e-6)


def test_draws_that_all_agree_leave_nothing_to_calibrate(tmp_path):
    """As on easy images: everything else is fitted all the same."""
    bundle = Opened(3)
    stored = made([30, 30, 30], bundle)
    stored.errors.values.mul_(1000)
    stored.errors.values[torch.arange(90), stored.labels] *= 1e-6
    fit = fit_uncertainty(bundle, stored, source="errors.npz")
    assert fit.methods == {"mean": "none", "vote": "none"}
    assert any("leaves nothing to calibrate" in text for text in fit.remarks)
    fit.save(tmp_path / "uncertainty.json")
    read = load_uncertainty(tmp_path / "uncertainty.json", "mean")
    sure = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    assert torch.allclose(read.calibration(sure), sure, atol=1e-6)
    assert read.conformal.sets(sure).sum(1).tolist() == [1, 1] and read.typicality.num_images == 90
    with pytest.raises(ValueError, match="nothing to calibrate"):
        fit_uncertainty(bundle, stored, source="errors.npz", method="temperature")


def test_few_images_get_what_they_suffice_for(tmp_path):
    fit = fitted([30, 20, 1])
    assert set(fit.methods.values()) == {"temperature"} and set(fit.losses["vote"]) == {"none"}
    assert fit.fitted["mean"].conformal.per_class is False
    said = " ".join(fit.remarks)
    assert "too few validation images to judge methods by (a class has 1 validation patient(s)" in said
    assert "on average over the classes only: class 2 has 1 validation image(s)" in said
    fit.save(tmp_path / "uncertainty.json")
    assert load_uncertainty(tmp_path / "uncertainty.json", "mean").typicality.num_images == 51


def test_folds_that_are_too_small_are_told_by_the_number_of_all_images():
    remarks = fitted([12, 12]).remarks
    assert remarks[0] == (
        "the method of calibration was not chosen but is a temperature: too few validation images to judge methods by "
        "(24 images, of which a fit without one of 5 parts gets 19, where it needs 20)"
    )
    labels = torch.tensor([0] * 30 + [1] * 3)
    patients = np.array([*range(30), 30, 30, 30])  # of class 1 there is one patient
    with pytest.raises(ValueError, match="33 images, of which a fit without one of 5 parts gets none of class 1"):
        cross_fitted_loss(torch.full((33, 2), 0.5), labels, patients, "temperature")


def test_few_patients_say_little_of_what_is_usual():
    fit = fitted([20, 20], patients=[f"P{i % 12}" for i in range(40)], method="temperature")
    assert fit.fitted["mean"].typicality.num_images == 40
    assert fit.remarks == (
        "more images than should will be marked as unusual: that needs 20 validation patients to judge by, got 12",
    )


def test_a_method_that_was_named_is_taken():
    assert set(fitted([30, 30], method="isotonic").methods.values()) == {"isotonic"}


@pytest.mark.parametrize(
    ("counts", "options", "text"),
    [
        ([10, 9], {}, "errors.npz: expected the errors of at least 20 validation images to fit to, got 19"),
        ([30, 0], {}, "expected images of all 2 classes"),
        ([30, 30], {"confidence": 1.5}, "confidence: expected a number between 0 and 1, got 1.5"),
        ([12, 12], {"confidence": 0.99}, "confidence: 0.99 needs at least 99 calibration images, got 24"),
    ],
)
def test_what_cannot_be_fitted_is_refused(counts, options, text):
    with pytest.raises(ValueError, match=text):
        fitted(counts, **options)


def test_errors_of_another_network_are_refused():
    bundle = Opened(2)
    stored = made([20, 20], bundle)
    torch.nn.init.zeros_(bundle.network.weight)
    with pytest.raises(ValueError, match="expected errors of the bundle's network"):
        fit_uncertainty(bundle, stored, source="errors.npz")


def test_sets_hold_the_true_class_as_often_as_promised():
    fit = fitted([200, 200, 200], confidence=0.8)
    bundle = Opened(3)
    stored = made([200, 200, 200], bundle)
    pred = classify_errors(stored.errors, "mean", weighting="uniform", temperature=0.3).probabilities
    held = fit.fitted["mean"].conformal.sets(pred).gather(1, stored.labels[:, None]).double()
    shares = [float(held[stored.labels == k].mean()) for k in range(3)]
    assert np.all(np.asarray(shares) >= 0.8 - 1e-9)
