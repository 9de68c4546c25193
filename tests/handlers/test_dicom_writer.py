"""DICOM results from a bundle's own inference, by the handler."""

from __future__ import annotations

import csv
import json

import numpy as np
import pydicom
import pytest
import torch
from PIL import Image

highdicom = pytest.importorskip("highdicom", reason="highdicom is not installed")

from monai_diffclf.bundle import find_bundle, open_bundle  # noqa: E402
from monai_diffclf.data import find_images  # noqa: E402
from monai_diffclf.engines import collate_readable  # noqa: E402
from monai_diffclf.handlers import DicomWriter  # noqa: E402
from tests.bundles.workflows import bundle_workflow, run  # noqa: E402
from tests.volume_fixtures import volume_bundle  # noqa: E402
from tools import dicom_sources  # noqa: E402

HANDLER = {
    "+named_handlers": {
        "dicom": {
            "_target_": "monai_diffclf.handlers.DicomWriter",
            "output_dir": "$@output_dir + '/dicom'",
            "classes": "@classes",
            "preprocessing": "@preprocessing",
            "name": "phantom_xray_diffusion",
        }
    }
}


@pytest.fixture
def films(tmp_path):
    """Two films, a picture in colour, which a grey bundle cannot read, and a grey one."""
    folder = tmp_path / "films"
    folder.mkdir()
    pydicom.dcmwrite(folder / "a.dcm", dicom_sources.cr(monochrome1=True), enforce_file_format=True)
    pydicom.dcmwrite(folder / "b.dcm", dicom_sources.sc(colour=True), enforce_file_format=True)
    pydicom.dcmwrite(folder / "c.dcm", dicom_sources.mg(side="R"), enforce_file_format=True)
    Image.fromarray(np.full((32, 32), 5, np.uint8)).save(folder / "d.png")
    return folder


def inference(films, tmp_path, device):
    (tmp_path / "dicom.json").write_text(json.dumps(HANDLER))
    given = {"dataset_dir": str(films), "output_dir": str(tmp_path / "out"), "num_draws": 2, "report": False}
    workflow = bundle_workflow(
        find_bundle("phantom_xray_diffusion"),
        "inference",
        "inference.json",
        str(tmp_path / "dicom.json"),
        **given,
        progress=False,
        device=torch.device(device),
    )
    run(workflow)
    with (tmp_path / "out" / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_file_of_configuration_is_enough(films, tmp_path, device):
    with pytest.warns(UserWarning, match=r"1 image\(s\) have no DICOM results; the first: .*d\.png"):
        rows = inference(films, tmp_path, device)
    folder = tmp_path / "out" / "dicom"
    kinds = ("map", "overlay", "report")
    assert sorted(path.name for path in folder.glob("*.dcm")) == [
        f"{place:06d}_{kind}.dcm" for place in (0, 2) for kind in kinds
    ]
    assert [bool(row["error"]) for row in rows] == [False, True, False, False]
    for place, name in ((0, "a.dcm"), (2, "c.dcm")):
        image = pydicom.dcmread(films / name)
        report = highdicom.sr.ComprehensiveSR.from_dataset(pydicom.dcmread(folder / f"{place:06d}_report.dcm"))
        (group,) = report.content.get_image_measurement_groups()
        numbers = {str(each.name.meaning): float(each.value) for each in group.get_measurements()}
        assert numbers["Probability of lesion"] == float(rows[place]["probability_lesion"])
        assert group.source_images[0].referenced_sop_instance_uid == image.SOPInstanceUID
        mapped = pydicom.dcmread(folder / f"{place:06d}_map.dcm")
        assert (mapped.Rows, mapped.Columns) == (image.Rows, image.Columns) and mapped.StudyID == image.StudyID


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_an_earlier_run_wrote_is_removed(films, tmp_path, device):
    inference(films, tmp_path, device)
    (tmp_path / "out" / "dicom" / "mine.dcm").write_bytes(b"mine")
    (films / "c.dcm").unlink()
    inference(films, tmp_path, device)
    left = {path.name for path in (tmp_path / "out" / "dicom").glob("*.dcm")}
    assert left == {"000000_map.dcm", "000000_overlay.dcm", "000000_report.dcm", "mine.dcm"}


def test_needs_highdicom(tmp_path, monkeypatch):
    monkeypatch.setattr("monai_diffclf._optional.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs the package highdicom; install it with: pip install 'monai-diffclf"):
        DicomWriter(tmp_path, ["a", "b"], preprocessing=[], name="bundle")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_volumes_and_findings(tmp_path, device):
    dicom_sources.write_sources(tmp_path / "scans" / "ct", "ct_oblique")
    pydicom.dcmwrite(tmp_path / "film.dcm", dicom_sources.dx(), enforce_file_format=True)
    bundles = {"scans": volume_bundle(tmp_path / "tiny"), "film.dcm": find_bundle("phantom_findings_diffusion")}
    found = {}
    for source, bundle in bundles.items():
        opened = open_bundle(bundle, "inference.json", num_draws=2, device=device)
        preprocessing = opened.get("preprocessing")
        opened.parser["evaluator::val_handlers"] = []
        opened.parser["evaluator::val_data_loader"] = []
        evaluator = opened.get("evaluator")
        if hasattr(evaluator, "journal_dir"):
            evaluator.journal_dir = None
        items = [preprocessing(item) for item in find_images(tmp_path / source, volumes=source == "scans")]
        evaluator.data_loader = [collate_readable(items)]
        evaluator.state.epoch_length = 1
        writer = DicomWriter(tmp_path / source[:4], opened.classes, preprocessing=preprocessing, name="b")
        writer.attach(evaluator)
        evaluator.run()
        found[source] = {path.name: pydicom.dcmread(path) for path in (tmp_path / source[:4]).glob("*.dcm")}
    assert set(found["scans"]) == {f"000000_{kind}.dcm" for kind in ("report", "map", "overlay")}
    assert found["scans"]["000000_map.dcm"].NumberOfFrames == 4
    assert set(found["film.dcm"]) == {"000000_report.dcm"} | {
        f"000000_finding_{number}_{kind}.dcm" for number in (0, 1) for kind in ("map", "overlay")
    }
