"""The file of what was learned about spending draws."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from monai_diffclf.classification import (
    DenoisingErrors,
    DifferenceModel,
    LevelSampling,
    LevelWeights,
    PredictiveCurtailment,
    VoteModel,
    replay,
)
from monai_diffclf.storage import LearnedDecision, load_decision, save_decision

LEARNED = {
    "vote": LearnedDecision(VoteModel(0.8), LevelSampling((1.0, 2.0), (False, True)), LevelWeights((0.0,), (1.0, 2.0))),
    "mean": LearnedDecision(
        DifferenceModel.prior(), LevelSampling((1.0,)), LevelWeights((), (1.0,)), "0123456789abcdef"
    ),
}


def test_round_trip(tmp_path):
    save_decision(tmp_path / "decision.json", LEARNED, {"images": 9})
    for rule, learned in LEARNED.items():
        found = load_decision(tmp_path / "decision.json", rule)
        assert found.model == learned.model
        assert found.network == learned.network
        assert tuple(found.level_sampling.density) == tuple(learned.level_sampling.density)
        assert tuple(found.level_weights.weights) == tuple(learned.level_weights.weights)
    assert json.loads((tmp_path / "decision.json").read_text())["images"] == 9


def test_files_from_before_have_fewer_bands(tmp_path):
    model = {"edges": [0.0], "noise": [1.0, 2.0], "covariance": [[1.0, 0.5], [0.5, 1.0]], "degrees": 40.0}
    old = {
        "network": "a0829df0ba775294",
        "model": model,
        "level_sampling": {"density": [1.0, 2.0], "antithetic": [False, True]},
        "level_weights": {"edges": [0.0], "weights": [1.0, 2.0]},
    }
    (tmp_path / "decision.json").write_text(json.dumps({"images": 429, "mean": old, "weighted_vote": old}))
    for rule in ("mean", "weighted_vote"):
        learned = load_decision(tmp_path / "decision.json", rule)
        assert learned.model == DifferenceModel(**model)
        errors = DenoisingErrors(torch.rand(3, 2, 20), torch.arange(20), torch.linspace(3, -3, 20))
        result = replay(errors, PredictiveCurtailment(0.1, learned.model), rule=rule)
        assert result.decided.all()


def test_the_shipped_file_has_as_many_bands_as_its_draws_allow():
    path = Path(__file__).resolve().parents[2] / "bundles" / "pneumonia_xray_diffusion" / "configs" / "decision.json"
    assert len(load_decision(path, "mean").model.noise) == min(json.loads(path.read_text())["num_draws"] // 16, 32)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"mean": {"model": {}}}', '{"mean": {"model": 3}}'])
def test_refuses_what_is_no_such_file(tmp_path, content):
    (tmp_path / "decision.json").write_text(content)
    with pytest.raises(ValueError, match="path: expected a file written by save_decision with 'mean'"):
        load_decision(tmp_path / "decision.json", "mean")


def test_refuses_a_missing_file(tmp_path):
    with pytest.raises(ValueError, match="path: expected a file written by save_decision"):
        load_decision(tmp_path / "none.json", "mean")
