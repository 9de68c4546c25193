"""The tool that fits a bundle's uncertainty from its stored validation errors."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from monai_diffclf.classification import DenoisingErrors, classify_errors
from monai_diffclf.fitting.choose_calibration import cross_fitted_loss
from monai_diffclf.fitting.fitted_run import evaluated_run
from monai_diffclf.fitting.same_images import check_network
from monai_diffclf.storage import StoredErrors, load_errors, load_uncertainty
from tools.fit_uncertainty import main

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


def finished_run(folder, seed=3):
    """A run with classes of its own, as training and evaluation leave it behind, but for weights and real errors."""
    (folder / "evaluation").mkdir(parents=True)
    note = {"training": {"seed": seed}, "model": {"classes": ["clear", "ill"]}}
    (folder / "model.json").write_text(json.dumps(note))
    (folder / "evaluation" / f"errors_validation_seed_{seed}.npz").write_bytes(b"errors")
    return folder


def test_a_run_is_fitted_with_its_own_classes_and_weights(tmp_path):
    fit = evaluated_run(finished_run(tmp_path / "run"))
    assert fit.errors == tmp_path / "run" / "evaluation" / "errors_validation_seed_3.npz"
    assert fit.uncertainty == tmp_path / "run" / "uncertainty.json"  # the bundle's own file stays as it is
    assert fit.settings == {
        "checkpoint": str(tmp_path / "run" / "model.pt"),
        "classes": ["clear", "ill"],
        "resize": True,
    }


@pytest.mark.parametrize("missing", ["model.json", "evaluation/errors_validation_seed_3.npz"])
def test_what_is_no_evaluated_run_ends_in_one_line(tmp_path, monkeypatch, capsys, missing):
    run = finished_run(tmp_path / "run")
    (run / missing).unlink()
    monkeypatch.setattr(sys, "argv", ["fit_uncertainty", str(BUNDLE), "--run", str(run)])
    with pytest.raises(SystemExit) as stop:
        main()
    told = capsys.readouterr().err
    assert stop.value.code == 2 and told.startswith("error: run: expected ") and told.count("\n") == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*does not say which network")
def test_fitted_to_a_run(tmp_path, monkeypatch):
    run = tmp_path / "run"
    (run / "evaluation").mkdir(parents=True)
    shutil.copy(BUNDLE / "docs" / "evaluation" / "errors_validation_seed_0.npz", run / "evaluation")
    for name in ("model.pt", "model.json"):
        shutil.copy(BUNDLE / "models" / name, run)
    before = (BUNDLE / "configs" / "uncertainty.json").read_bytes()
    monkeypatch.setattr(sys, "argv", ["fit_uncertainty.py", str(BUNDLE), "--run", str(run)])
    main()
    assert load_uncertainty(run / "uncertainty.json", "mean").typicality.num_images == 429
    assert (BUNDLE / "configs" / "uncertainty.json").read_bytes() == before
