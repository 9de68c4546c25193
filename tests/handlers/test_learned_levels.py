"""What a loss has learned of the noise levels: in validation, beside the weights, and in the classifier."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Engine
from monai.networks.schedulers import DDPMScheduler

from monai_diffclf.classification import LevelWeights
from monai_diffclf.handlers import BestModelSaver, LearnedLevels
from monai_diffclf.inferers import DiffusionClassifierInferer, learned_levels
from monai_diffclf.networks import load_weights

LEARNED = {"level_weights": {"edges": [0.0], "weights": [0.5, 1.5]}, "temperature": 20.0, "log_snr": [-5.0, 5.0]}


def save(tmp_path, learned):
    network = torch.nn.Linear(1, 1)
    saver = BestModelSaver(network, tmp_path / "model.pt", "val_auc", learned=learned)
    saver(SimpleNamespace(state=SimpleNamespace(metrics={"val_auc": 0.5}, epoch=1)))
    return network, tmp_path / "model.pt"


def test_it_is_written_beside_the_weights_and_taken_for_learned(tmp_path):
    _, path = save(tmp_path, lambda: LEARNED)
    levels = learned_levels("learned", 0.5, path)
    assert levels.weighting == LevelWeights((0.0,), (0.5, 1.5), trained=True)
    assert levels.temperature == 10.0
    inferer = DiffusionClassifierInferer(DDPMScheduler(10), weighting=levels.weighting, temperature=levels.temperature)
    assert inferer.weighting.at(torch.tensor([3.0])).tolist() == [1.5]
    # Any other weighting stays as it is, whatever was learned.
    assert learned_levels("min_snr", 0.5, path) == ("min_snr", 0.5)


def test_that_of_other_weights_is_refused(tmp_path):
    network, path = save(tmp_path, lambda: LEARNED)
    with torch.no_grad():
        network.bias += 1
    torch.save(network.state_dict(), path)
    with pytest.raises(ValueError, match="describes other weights"):
        load_weights(network, path)


@pytest.mark.parametrize("learned", [None, lambda: None])
def test_weights_of_which_nothing_was_learned_have_none(tmp_path, learned):
    _, path = save(tmp_path, learned)
    assert "learned" not in json.loads(path.with_suffix(".json").read_text())
    with pytest.raises(ValueError, match="weighting: expected level weights beside .*contrastive_weight above 0"):
        learned_levels("learned", 1.0, path)


@pytest.mark.parametrize("wrong", [{}, {"temperature": 1.0}, {**LEARNED, "temperature": "hot"}, "text"])
def test_what_no_training_writes_is_refused(tmp_path, wrong):
    path = tmp_path / "model.pt"
    path.with_suffix(".json").write_text(json.dumps({"learned": wrong}))
    with pytest.raises(ValueError, match="weighting: expected level weights and temperature"):
        learned_levels("learned", 1.0, path)


def test_validation_judges_with_what_was_learned_so_far():
    inferer, found = DiffusionClassifierInferer(DDPMScheduler(10)), []
    engine = Engine(lambda engine, batch: found.append((inferer.weighting, inferer.temperature)))
    state = {"learned": None}
    LearnedLevels(inferer, lambda: state["learned"]).attach(engine)
    engine.run([0])
    state["learned"] = LEARNED
    engine.run([0])
    assert found == [("uniform", 1.0), (LevelWeights((0.0,), (0.5, 1.5)), 20.0)]
