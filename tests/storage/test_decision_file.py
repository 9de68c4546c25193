"""The file of what was learned about spending draws."""

from __future__ import annotations

import json

import pytest

from monai_diffclf.classification import DifferenceModel, LevelSampling, LevelWeights, VoteModel
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


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"mean": {"model": {}}}', '{"mean": {"model": 3}}'])
def test_refuses_what_is_no_such_file(tmp_path, content):
    (tmp_path / "decision.json").write_text(content)
    with pytest.raises(ValueError, match="path: expected a file written by save_decision with 'mean'"):
        load_decision(tmp_path / "decision.json", "mean")


def test_refuses_a_missing_file(tmp_path):
    with pytest.raises(ValueError, match="path: expected a file written by save_decision"):
        load_decision(tmp_path / "none.json", "mean")
