"""The comparison of one network for all findings with others runs, and its arithmetic is right."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from benchmarks.findings import one_network


def test_runs_on_a_few_phantoms(tmp_path, monkeypatch):
    for name, value in {"TRAIN": (64, 90), "TEST": (24, 91), "DRAWS": 1}.items():
        monkeypatch.setattr(one_network, name, value)
    output = tmp_path / "one.json"
    monkeypatch.setattr(sys, "argv", ["one_network", "--steps", "2", "--output", str(output)])
    one_network.main()
    result = json.loads(output.read_text())
    assert {way: result[way]["evaluations_a_draw"] for way in ("one", "separate", "combinations")} == {
        "one": 4,
        "separate": 4,
        "combinations": 4,
    }
    for way in ("one", "separate", "separate_equal", "combinations"):
        assert result[way]["training_cpu_seconds"] > 0
        for finding in one_network.FINDINGS:
            assert 0 <= result[way][finding]["auc"]["value"] <= 1


def test_judges_each_finding_by_its_own_labels():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (60, 2))
    scores = {"one": labels + rng.normal(0, 1, (60, 2)), "separate": labels + rng.normal(0, 2, (60, 2))}
    found = one_network.judge(labels, scores)
    for number, name in enumerate(one_network.FINDINGS):
        own, other = (roc_auc_score(labels[:, number], scores[way][:, number]) for way in ("one", "separate"))
        assert found["one"][name]["auc"]["value"] == pytest.approx(own)
        assert found["separate"][name]["less_one"]["value"] == pytest.approx(other - own)


def test_odds_of_a_finding_sum_over_the_combinations_that_have_it(monkeypatch):
    """With errors that add up finding by finding, the other findings drop out of the odds."""
    monkeypatch.setattr(one_network, "train", lambda *args, **kwargs: (None, 0.0))
    errors = torch.tensor([[0.0, -2.0, 1.0, -1.0]]) * 1e-4  # finding 0 lowers them by 2e-4, finding 1 raises by 1e-4

    class Known:
        def __init__(self, *args, **kwargs):
            pass

        def classify(self, images, network):
            return type("Result", (), {"mean_error": errors})

    monkeypatch.setattr(one_network, "DiffusionClassifierInferer", Known)
    score, _, _ = one_network.train_combinations((torch.zeros(2, 1), torch.tensor([[0, 1], [2, 1]])), 1)
    expected = one_network.log_odds(torch.tensor([[-2e-4, 1e-4]]))
    torch.testing.assert_close(score(torch.zeros(1)), expected)
