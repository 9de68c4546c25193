"""A note that names what to read first."""

from __future__ import annotations

import pydicom
import pytest

highdicom = pytest.importorskip("highdicom", reason="highdicom is not installed")

from monai_diffclf.dicom_out import key_objects, read_source, to_bytes  # noqa: E402
from tools.dicom_sources import write_sources  # noqa: E402
from tools.validate_dicom import ALGORITHM, WHEN  # noqa: E402


def test_note_refers_to_the_images_in_their_order(tmp_path):
    sources = [read_source(write_sources(tmp_path, name)) for name in ("mg_right", "mg_left")]
    path = tmp_path / "note.dcm"
    path.write_bytes(to_bytes(key_objects(sources, ["malignant"], ALGORITHM, when=WHEN)))
    note = highdicom.ko.KeyObjectSelectionDocument.from_dataset(pydicom.dcmread(path))
    found = [each.referenced_sop_instance_uid for each in note.content.get_references()]
    assert found == [sources[0].instances[0], sources[1].instances[0]]
    study, series, _ = note.resolve_reference(found[0])
    assert (study, series) == (sources[0].first.StudyInstanceUID, sources[0].first.SeriesInstanceUID)
    assert "Read first: found to be malignant. Not a medical device." in note.to_json()


def test_several_studies_are_refused(tmp_path):
    sources = [read_source(write_sources(tmp_path, name)) for name in ("cr", "dx")]
    with pytest.raises(ValueError, match="sources: expected images of one study, got those of 2"):
        key_objects(sources, ["a"], ALGORITHM, when=WHEN)


def test_several_patients_under_one_study_are_refused(tmp_path):
    paths = [path for name in ("mg_right", "mg_left") for path in write_sources(tmp_path, name)]
    other = pydicom.dcmread(paths[1])
    other.PatientID = "another"
    other.save_as(paths[1], enforce_file_format=True)
    with pytest.raises(ValueError, match="sources: expected images of one patient, got those of 2"):
        key_objects([read_source(path) for path in paths], ["malignant"], ALGORITHM, when=WHEN)
