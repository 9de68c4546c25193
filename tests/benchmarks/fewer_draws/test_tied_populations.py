"""Ties of real differences: the sequential test of the mean keeps its word on a part of the stored errors."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.fewer_draws import tied_populations
from benchmarks.fewer_draws.tied_populations import eliminations, measure, rate, ties
from monai_diffclf.classification import DenoisingErrors
from monai_diffclf.storage import load_errors, save_errors

ROOT = Path(__file__).resolve().parents[3]
STORED = ROOT / "bundles" / "pneumonia_xray_diffusion" / "docs" / "evaluation"
ALPHA = 0.05


@pytest.fixture(scope="module")
def stored() -> DenoisingErrors:
    """Every fifth validation image."""
    return load_errors(STORED / "errors_validation_draws_501.npz").errors[torch.arange(0, 429, 5)]


def test_errs_in_at_most_alpha(stored):
    found = measure(stored, ALPHA, orders=3)
    assert found["images"] == 86
    assert found["all"]["trials"] == 86 * 2 * 3
    assert found["all"]["upper_limit"] < ALPHA
    assert max(found["by_class"], key=lambda r: r["rate"])["upper_limit"] < ALPHA
    assert found["skew"][0] > 1, "these are skewed"


def test_the_sets_are_ties(stored):
    x = ties(stored)
    assert x.shape == (86, 501)
    assert np.abs(x.sum(1)).max() < 1e-12
    difference = (stored.values[:, 1] - stored.values[:, 0]).double()
    assert np.allclose(np.diff(x, axis=1), difference.diff(dim=1)), "differences of real errors, moved as a whole"
    three = DenoisingErrors(torch.rand(4, 3, 20), torch.arange(20), torch.zeros(20))
    assert ties(three).shape == (12, 20), "three pairs of classes"


def test_a_wrong_elimination_is_counted_for_its_class():
    # 499 draws for the first class and one that undoes them: in next to every order the second class is eliminated.
    x = np.ones((50, 500)) + 0.01 * np.random.default_rng(0).normal(size=(50, 500))
    x[:, 0] -= x.sum(1)
    found = eliminations(x, ALPHA, np.random.default_rng(0))
    assert found[:, 0].sum() == 0
    assert found[:, 1].sum() > 40
    assert eliminations(-x, ALPHA, np.random.default_rng(0))[:, 0].sum() > 40


def test_limits_by_hand():
    assert rate(0, 100)["upper_limit"] == pytest.approx(1 - 0.05 ** (1 / 100))
    assert rate(0, 100)["high"] == pytest.approx(1 - 0.025 ** (1 / 100))
    assert rate(3, 100)["rate"] == 0.03


def test_command(stored, tmp_path, monkeypatch, capsys):
    keys = [str(i) for i in range(6)]
    save_errors(tmp_path / "few.npz", stored[:6], labels=torch.zeros(6, dtype=torch.long), keys=keys)
    monkeypatch.setattr(sys, "argv", ["tied_populations", "--errors", str(tmp_path / "few.npz"), "--orders", "1"])
    tied_populations.main()
    assert json.loads(capsys.readouterr().out)["images"] == 6
