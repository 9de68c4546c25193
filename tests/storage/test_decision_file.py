"""The file of what was learned about spending draws."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from monai_diffclf.classification import (
    DenoisingErrors,
    DifferenceModel,
    FewDraws,
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


def test_stopping_and_few_draws_are_kept(tmp_path):
    fitted = PredictiveCurtailment(0.2, DifferenceModel.prior(), block=1, min_draws=1, spending=0.0, risk=0.01)
    few = {1: FewDraws((5.3,), 30.0), 2: FewDraws((5.3, 2.0), 20.0)}
    save_decision(tmp_path / "decision.json", {"mean": replace(LEARNED["mean"], fitted=fitted, few_draws=few)})
    found = load_decision(tmp_path / "decision.json", "mean")
    assert repr(found.stopping(0.01)) == repr(fitted) and found.stopping(0.01).guarantee == fitted.guarantee
    assert found.stopping(0.05).alpha == 0.05 and "under the model" in found.stopping(0.05).guarantee
    assert found.few(2) == few[2]
    with pytest.raises(ValueError, match=r"num_draws: expected one of \[1, 2\], for which levels were chosen, got 3"):
        found.few(3)
    with pytest.raises(ValueError, match="a file with few_draws, fit it anew"):
        LEARNED["mean"].few(1)


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("stopping", {"alpha": 2.0, "spending": 0.5, "risk": 0.01}),
        ("stopping", {"alpha": 0.1, "spending": -1, "risk": 0.01}),
        ("stopping", {"alpha": 0.1, "spending": 0.5}),
        ("stopping", 3),
        ("few_draws", {"1": {"log_snr": [1.0, 2.0], "temperature": 1.0}}),
        ("few_draws", {"1": {"log_snr": [1.0], "temperature": 0}}),
        ("few_draws", {"one": {"log_snr": [1.0], "temperature": 1}}),
        ("few_draws", []),
    ],
)
def test_refuses_numbers_that_no_fit_gives(tmp_path, part, value):
    save_decision(tmp_path / "decision.json", LEARNED)
    content = json.loads((tmp_path / "decision.json").read_text())
    content["mean"][part] = value
    (tmp_path / "decision.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f"path: expected a file written by save_decision with 'mean'.*mean.{part}"):
        load_decision(tmp_path / "decision.json", "mean")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"mean": {"model": {}}}', '{"mean": {"model": 3}}'])
def test_refuses_what_is_no_such_file(tmp_path, content):
    (tmp_path / "decision.json").write_text(content)
    with pytest.raises(ValueError, match="path: expected a file written by save_decision with 'mean'"):
        load_decision(tmp_path / "decision.json", "mean")


def test_refuses_a_missing_file(tmp_path):
    with pytest.raises(ValueError, match="path: expected a file written by save_decision"):
        load_decision(tmp_path / "none.json", "mean")
