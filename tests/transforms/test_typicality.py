"""The out-of-distribution score as a MONAI post-transform."""

from __future__ import annotations

import pytest
import torch
from monai.transforms import Compose

from monai_diffclf.classification import DenoisingErrors
from monai_diffclf.storage import FittedUncertainty, save_uncertainty
from monai_diffclf.transforms import TypicalityScore, TypicalityScored
from monai_diffclf.uncertainty import Calibration, ConformalSets, Typicality, fit_typicality

PROVENANCE = {"network": "0c37"}


@pytest.fixture(scope="module")
def values() -> torch.Tensor:
    return torch.rand(40, 2, 9, generator=torch.Generator().manual_seed(0)) + 1


@pytest.fixture(scope="module")
def fitted(values) -> Typicality:
    return fit_typicality(DenoisingErrors(values, torch.arange(9), torch.linspace(4, -4, 9)), num_bands=3)


@pytest.fixture
def file(tmp_path, fitted):
    return save(tmp_path / "uncertainty.json", fitted)


def save(path, typicality):
    calibration = Calibration("temperature", {"temperature": 2.0}, (0.5, 0.5), 100)
    sets = ConformalSets(([0.1] * 9, [0.2] * 9))
    save_uncertainty(path, {"mean": FittedUncertainty("mean", calibration, sets, typicality, PROVENANCE)})
    return path


def test_an_image_has_the_score_of_its_batch(fitted, values, device):
    score = TypicalityScored("errors", fitted)
    batch = values.to(device)
    items = [score({"errors": image}) for image in batch]
    assert torch.stack([item["ood_score"] for item in items]).double().cpu().tolist() == pytest.approx(
        fitted.score(values).tolist(), rel=1e-5
    )
    assert torch.stack([item["ood_p_value"] for item in items]).double().cpu().tolist() == pytest.approx(
        fitted.p_value(values).tolist(), rel=1e-5
    )
    assert items[0]["ood_score"].device == batch.device
    assert items[0]["errors"].equal(batch[0])


def test_from_a_file(file, fitted, values):
    transform = Compose([TypicalityScored("errors", file, rule="mean", provenance=PROVENANCE)])
    assert float(transform({"errors": values[0]})["ood_p_value"]) == pytest.approx(float(fitted.p_value(values[:1])))


def test_refused(file, fitted, values, tmp_path):
    with pytest.raises(ValueError, match="rule: expected the inferer's rule"):
        TypicalityScore(file)
    with pytest.raises(ValueError, match="typicality: expected a file that holds one, got .* without"):
        TypicalityScore(save(tmp_path / "without.json", None), rule="mean")
    with pytest.raises(ValueError, match="network: expected 'other', found '0c37'"):
        TypicalityScore(file, rule="mean", provenance={"network": "other"})
    with pytest.raises(TypeError, match="typicality: expected Typicality or the path of a file.*got int"):
        TypicalityScore(3)
    with pytest.raises(ValueError, match="keys: expected one key"):
        TypicalityScored(["errors", "more"], fitted)
    with pytest.raises(ValueError, match=r"errors: expected those of one image \[K, N\], got shape \[40, 2, 9\]"):
        TypicalityScore(fitted)(values)
    stopped = values[0].clone()
    stopped[:, 5:] = torch.nan
    with pytest.raises(ValueError, match="expected all draws of all classes.*without a stopping rule"):
        TypicalityScore(fitted)(stopped)
    with pytest.raises(KeyError, match="errors"):
        TypicalityScored("errors", fitted)({"pred": values})
    assert TypicalityScored("errors", fitted, allow_missing_keys=True)({"pred": 1}) == {"pred": 1}
