"""What was fitted for several findings is written together or not at all."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from monai_diffclf.classification import DenoisingErrors
from monai_diffclf.fitting.fit_findings import FindingsFit, fit_findings, join_findings
from monai_diffclf.storage import StoredErrors, load_uncertainty
from tests.fitting.test_fit_uncertainty import Opened, made


@pytest.fixture(scope="module")
def fit(tmp_path_factory: pytest.TempPathFactory) -> FindingsFit:
    bundle = Opened(2)
    return fit_findings(bundle, tmp_path_factory.mktemp("run"), [made([30, 20], bundle), made([20, 30], bundle)])


def test_each_finding_has_a_file(fit, tmp_path):
    dataclasses.replace(fit, folder=tmp_path / "findings").save()
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == ["finding_0.json", "finding_1.json"]
    for number, name in enumerate(fit.fits):
        read = load_uncertainty(tmp_path / "findings" / f"finding_{number}.json", "mean")
        assert read.provenance["classes"] == [f"no {name}", name]


def test_a_fit_that_cannot_be_written_leaves_those_of_all_findings_as_they_were(fit, tmp_path):
    for number in range(2):
        (tmp_path / f"finding_{number}.json").write_text("old")

    class Full:
        def save(self, path):
            path.write_text("half")
            raise OSError("no space left")

    first, second = fit.fits
    with pytest.raises(OSError, match="no space left"):
        FindingsFit(tmp_path, {first: fit.fits[first], second: Full()}).save()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "finding_0.json": "old",
        "finding_1.json": "old",
    }


def test_errors_of_other_findings_are_refused(fit, tmp_path):
    bundle = Opened(2)
    with pytest.raises(ValueError, match="run: expected errors of the 2 findings .*, got 1"):
        fit_findings(bundle, tmp_path, [made([30, 20], bundle)])


def test_findings_of_an_image_stay_together_whether_its_patient_is_known_or_not():
    errors = DenoisingErrors(torch.rand(3, 2, 3), torch.arange(3), torch.zeros(3))
    each = StoredErrors(errors, torch.tensor([0, 1, 0]), ["a", "b", "c"], ["P1", "", "P1"])
    assert join_findings([each, each]).patients == ["P1", "b", "P1"] * 2
