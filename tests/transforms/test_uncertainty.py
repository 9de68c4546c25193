"""Post-transforms for calibration and prediction sets, by themselves and behind MONAI's evaluator."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, MetaTensor
from monai.engines import SupervisedEvaluator
from monai.inferers import SimpleInferer
from monai.transforms import Activationsd, Compose

from monai_diffclf.storage import FittedUncertainty, save_uncertainty
from monai_diffclf.transforms import CalibrateProbabilities, CalibrateProbabilitiesd, ConformalSet, ConformalSetd
from monai_diffclf.uncertainty import Calibration, ConformalSets

CALIBRATION = Calibration("temperature", {"temperature": 2.0}, (0.5, 0.5), 100)
CONFORMAL = ConformalSets(([0.1, 0.2, 0.6], [0.0, 0.3, 0.5]), confidence=0.75)


@pytest.fixture
def path(tmp_path):
    made_by = {"network": "0123", "temperature": 0.5}
    save_uncertainty(
        tmp_path / "uncertainty.json", {"mean": FittedUncertainty("mean", CALIBRATION, CONFORMAL, None, made_by)}
    )
    return tmp_path / "uncertainty.json"


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_keeps_type_and_device(dtype, device):
    given = torch.tensor([0.1, 0.9], dtype=dtype, device=device)
    got = CalibrateProbabilities(CALIBRATION)(given)
    assert (got.dtype, got.device, got.shape) == (given.dtype, given.device, given.shape)
    torch.testing.assert_close(got.cpu().double(), torch.tensor([0.25, 0.75]).double(), atol=1e-3, rtol=0)
    held = ConformalSet(CONFORMAL)(given)
    assert (held.dtype, held.device) == (torch.bool, given.device)
    assert held.tolist() == [False, True]


def test_keeps_arrays_and_meta_tensors():
    calibrate = CalibrateProbabilities(CALIBRATION)
    array = calibrate(np.array([0.1, 0.9], dtype=np.float32))
    assert isinstance(array, np.ndarray) and array.dtype == np.float32
    meta = calibrate(MetaTensor([0.1, 0.9], meta={"key": "a"}))
    assert isinstance(meta, MetaTensor) and meta.meta["key"] == "a"
    assert not isinstance(ConformalSet(CONFORMAL)(meta), MetaTensor)


def test_prior():
    got = CalibrateProbabilities(CALIBRATION, prior=[0.75, 0.25])(torch.tensor([0.1, 0.9]))
    torch.testing.assert_close(got, torch.tensor([0.5, 0.5]))


def test_from_a_file(path):
    data = {"pred": torch.tensor([0.1, 0.9])}
    assert CalibrateProbabilitiesd("pred", path, rule="mean")(data)["pred"].tolist() == pytest.approx([0.25, 0.75])
    held = ConformalSetd("pred", str(path), rule="mean", provenance={"network": "0123"})(data)["prediction_set"]
    assert held.tolist() == [False, True]
    assert list(data) == ["pred"], "the input is left as it is"


def test_sets_are_those_of_the_inferers_probabilities_in_either_order():
    given = {"pred": torch.tensor([0.55, 0.45])}
    first = Compose([CalibrateProbabilitiesd("pred", CALIBRATION, prior=[0.1, 0.9]), ConformalSetd("pred", CONFORMAL)])
    last = Compose([ConformalSetd("pred", CONFORMAL), CalibrateProbabilitiesd("pred", CALIBRATION, prior=[0.1, 0.9])])
    one, other = first(given), last(given)
    assert other["prediction_set"].tolist() == [True, False]
    assert torch.equal(one["pred"], other["pred"]) and one["pred"].argmax() == 1
    # Where the class that is now the most probable is known, it is in: a larger set holds no less than promised.
    assert one["prediction_set"].tolist() == [True, True]
    assert torch.equal(one["pred_uncalibrated"], given["pred"])


def test_uncertainty_is_of_the_calibrated_probabilities():
    given = {"pred": torch.tensor([0.1, 0.9]), "other": torch.tensor([0.1, 0.9])}
    given["uncertainty"] = {"vote_margin": 0.7, "probability_margin": 0.8, "own": torch.tensor(2.0)}
    done = CalibrateProbabilitiesd("pred", CALIBRATION)(given)["uncertainty"]
    assert done == {"vote_margin": 0.7, "probability_margin": pytest.approx(0.5), "own": torch.tensor(2.0)}
    assert given["uncertainty"]["probability_margin"] == 0.8, "the input is left as it is"
    untouched = CalibrateProbabilitiesd("other", CALIBRATION)(given)["uncertainty"]
    assert untouched is given["uncertainty"], "it speaks of pred"


def test_several_keys():
    data = {"vote": torch.tensor([0.1, 0.9]), "mean": torch.tensor([0.9, 0.1])}
    predict = ConformalSetd(("vote", "mean", "none"), CONFORMAL, output_key=("a", "b", "c"), allow_missing_keys=True)
    got = predict(data)
    assert (got["a"].tolist(), got["b"].tolist()) == ([False, True], [True, False])
    assert "c" not in got
    with pytest.raises(ValueError, match="output_key: expected another one for each of"):
        ConformalSetd(("vote", "mean"), CONFORMAL)
    with pytest.raises(KeyError):
        CalibrateProbabilitiesd("none", CALIBRATION)(data)


def test_level_and_empty_sets():
    unusual = torch.tensor([0.6, 0.4])
    assert ConformalSet(CONFORMAL, confidence=0.4)(unusual).tolist() == [True, False]
    assert ConformalSet(CONFORMAL, confidence=0.4, allow_empty=True)(unusual).tolist() == [False, False]
    with pytest.raises(ValueError, match="confidence: 0.9 in every class needs at least 9"):
        ConformalSet(CONFORMAL, confidence=0.9)(unusual)


def test_behind_monais_evaluator():
    images = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    items: list = []
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader([{"image": image, "label": 0} for image in images], batch_size=2),
        network=torch.nn.Identity(),
        inferer=SimpleInferer(),
        postprocessing=Compose(
            [
                Activationsd("pred", softmax=True),
                CalibrateProbabilitiesd("pred", CALIBRATION),
                ConformalSetd("pred", CONFORMAL),
            ]
        ),
    )
    evaluator.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: items.extend(engine.state.output))
    evaluator.run()
    softmax = images.softmax(1)
    torch.testing.assert_close(torch.stack([item["pred"] for item in items]), CALIBRATION(softmax))
    assert torch.equal(torch.stack([item["prediction_set"] for item in items]), CONFORMAL.sets(softmax))


def test_refuses(path):
    with pytest.raises(TypeError, match="calibration: expected Calibration or the path of a file .* got ConformalSets"):
        CalibrateProbabilities(CONFORMAL)
    with pytest.raises(ValueError, match="rule: expected the inferer's rule, 'vote' or 'mean', to read .* got None"):
        ConformalSet(path)
    with pytest.raises(ValueError, match="network: expected '4567', found '0123'; fit anew"):
        CalibrateProbabilities(path, rule="mean", provenance={"network": "4567"})
    with pytest.raises(ValueError, match="path: expected a file written by save_uncertainty with 'vote'"):
        ConformalSet(path, rule="vote")
    with pytest.raises(ValueError, match=r"probabilities: expected those of one image \[K\], got shape \[1, 2\]"):
        CalibrateProbabilities(CALIBRATION)(torch.tensor([[0.1, 0.9]]))
    twice = Compose([CalibrateProbabilitiesd("pred", CALIBRATION)] * 2)
    with pytest.raises(Exception) as caught:
        twice({"pred": torch.tensor([0.1, 0.9])})
    assert "so they are calibrated already; calibrate once" in f"{caught.value} {caught.value.__cause__}"
