"""The tool that fits a bundle's uncertainty from its stored validation errors."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from monai_diffclf.classification import DenoisingErrors, classify_errors
from monai_diffclf.storage import StoredErrors, load_errors, load_uncertainty
from tools.fit_uncertainty import check_network, cross_fitted_loss, main

BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "pneumonia_xray_diffusion"


def test_cross_fitting_finds_the_bias():
    # Odds that are off by a constant: a temperature cannot mend them, and does not pretend to.
    generator = torch.Generator().manual_seed(0)
    odds = 2 * torch.randn(600, generator=generator)
    labels = (torch.rand(600, generator=generator) < torch.sigmoid(odds)).long()
    given = torch.stack([torch.sigmoid(-odds - 2), torch.sigmoid(odds + 2)], 1)
    loss = {name: cross_fitted_loss(given, labels, np.arange(600), name, 1) for name in ("temperature", "beta")}
    true = float(torch.nn.functional.binary_cross_entropy_with_logits(odds, labels.float()))
    assert loss["beta"] == pytest.approx(true, abs=0.02)
    assert loss["temperature"] > loss["beta"] + 0.1


def test_errors_of_another_network_are_refused(tmp_path):
    errors = DenoisingErrors(torch.rand(1, 2, 3), torch.arange(3), torch.zeros(3))
    stored = StoredErrors(errors, torch.tensor([0]), ["a"], [""], {"network": "0123"})
    check_network(stored, "0123", tmp_path)
    with pytest.raises(ValueError, match="expected errors of the bundle's network 4567, got those of 0123"):
        check_network(stored, "4567", tmp_path)
    with pytest.warns(UserWarning, match="does not say which network made its errors"):
        check_network(StoredErrors(errors, torch.tensor([0]), ["a"], [""]), "4567", tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*does not say which network")
def test_pneumonia_bundle(tmp_path, monkeypatch):
    for name in ("configs", "models"):
        shutil.copytree(BUNDLE / name, tmp_path / name)
    path = tmp_path / "docs" / "evaluation" / "errors_validation_seed_0.npz"
    path.parent.mkdir(parents=True)
    shutil.copy(BUNDLE / "docs" / "evaluation" / path.name, path)
    monkeypatch.setattr(sys, "argv", ["fit_uncertainty.py", str(tmp_path)])
    main()
    stored = load_errors(path)
    for rule in ("mean", "vote"):
        fitted = load_uncertainty(tmp_path / "configs" / "uncertainty.json", rule, provenance={"temperature": 0.27})
        pred = classify_errors(stored.errors, rule, temperature=0.27).probabilities
        before, after = (torch.nn.functional.nll_loss(p.log(), stored.labels) for p in (pred, fitted.calibration(pred)))
        assert after < before - 0.03
        held = fitted.conformal.sets(pred).gather(1, stored.labels[:, None])
        assert held.float().mean() >= 0.9
        assert fitted.typicality.num_images == 429
