"""DICOM results of an archive: which images get them, the worklist, going on after a stop, and what is refused."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from PIL import Image

highdicom = pytest.importorskip("highdicom", reason="highdicom is not installed")

from monai_diffclf.archive import classify_archive  # noqa: E402
from monai_diffclf.archive.dicom_folder import DicomFolder  # noqa: E402
from monai_diffclf.dicom_out import read_source  # noqa: E402
from monai_diffclf.dicom_out.worklist import COLUMNS  # noqa: E402
from tests.archive.conftest import contents, stop_after_one, write_pictures  # noqa: E402
from tools import dicom_sources  # noqa: E402
from tools.validate_dicom import missing_validators, validate  # noqa: E402

SETTINGS = {"maps": "npy", "report": False, "positive": ["LESION"]}


@pytest.fixture
def films(tmp_path):
    """Five DICOM images and a picture: two of one study, one in colour, one to which nothing can refer."""
    folder = tmp_path / "films"
    folder.mkdir()
    nameless = dicom_sources.cr("nameless")
    nameless.StudyInstanceUID = ""
    made = {
        "cr.dcm": dicom_sources.cr(monochrome1=True),
        "colour.dcm": dicom_sources.sc(colour=True),
        "left.dcm": dicom_sources.mg(),
        "nameless.dcm": nameless,
        "=right.dcm": dicom_sources.mg("right", side="R"),
    }
    for name, dataset in made.items():
        pydicom.dcmwrite(folder / name, dataset, enforce_file_format=True)
    Image.fromarray(np.zeros((32, 32), np.uint8) + 5).save(folder / "picture.png")
    return folder


def classify(films, settings, tmp_path, **options):
    options = {"dicom_out": tmp_path / "dicom"} | options
    return classify_archive([films], replace(settings, **SETTINGS), tmp_path / "out", progress=False, **options)


def read_worklist(folder):
    with (folder / "worklist.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_results(films, settings, tmp_path):
    with pytest.warns(UserWarning, match=r"no DICOM results of what is no DICOM: picture\.png$"):
        done = classify(films, settings, tmp_path)
    check_worklist(films, tmp_path)
    names = {path.name for path in (tmp_path / "dicom").iterdir()}
    kinds = ("report", "map", "overlay")
    expected = {f"{stem}_{kind}.dcm" for stem in ("000000_left", "000001_right", "000003_cr") for kind in kinds}
    assert names - {path for path in names if path.startswith("read_first")} == expected | {
        "worklist.csv",
        "dicom.json",
    }
    assert done.dicom == tmp_path / "dicom" and [key for key, _ in done.without_dicom] == ["colour.dcm", "nameless.dcm"]
    assert "expected a StudyInstanceUID" in dict(done.without_dicom)["nameless.dcm"]
    # The map is the one of maps/, on the pixels of the file; the report says what the table says.
    rows = {row["key"]: row for row in json.loads((tmp_path / "out" / "predictions.json").read_text())["predictions"]}
    for key, stem in (("cr.dcm", "000003_cr"), ("left.dcm", "000000_left")):
        mapped = pydicom.dcmread(tmp_path / "dicom" / f"{stem}_map.dcm")
        np.testing.assert_array_equal(
            np.frombuffer(mapped.FloatPixelData, np.float32).reshape(mapped.Rows, mapped.Columns),
            np.load(tmp_path / "out" / "maps" / f"{stem}.npy"),
        )
        report = highdicom.sr.ComprehensiveSR.from_dataset(pydicom.dcmread(tmp_path / "dicom" / f"{stem}_report.dcm"))
        (group,) = report.content.get_image_measurement_groups()
        numbers = {str(each.name.meaning): float(each.value) for each in group.get_measurements()}
        assert numbers["Probability of lesion"] == rows[key]["probability_lesion"]
        share = rows[key]["vote_share_" + rows[key]["predicted"]]
        assert numbers["Share of the draws that vote for the class"] == share
        assert "num_draws=2" in pydicom.dcmread(tmp_path / "dicom" / f"{stem}_report.dcm").to_json()
    if not missing_validators():
        for path in (tmp_path / "dicom").glob("*.dcm"):
            for found in validate(path, path.stem.rpartition("_")[2]).values():
                assert found["errors"] == [], path.name


def check_worklist(films, tmp_path):
    rows = read_worklist(tmp_path / "dicom")
    assert tuple(rows[0]) == COLUMNS and [row["rank"] for row in rows] == ["1", "2", "3", "4", "5"]
    # What could not be classified is first, as nothing is known of it.
    assert rows[0]["key"] == "colour.dcm" and rows[0]["error"] and rows[0]["read_first"] == "true"
    chances = [float(row["probability_positive"]) for row in rows[1:]]
    assert chances == sorted(chances, reverse=True)
    named = {row["key"]: row for row in rows}
    assert named["'=right.dcm"]["laterality"] == "R" and named["'=right.dcm"]["patient_id"] == "ID-study mg"
    assert named["nameless.dcm"]["error"] and not named["nameless.dcm"]["report"]
    source = read_source(films / "cr.dcm")
    assert named["cr.dcm"]["sop_instance_uid"] == source.instances[0]
    assert (tmp_path / "dicom" / named["cr.dcm"]["report"]).is_file()
    # Notes refer to what is found to be a lesion, study by study.
    first = {row["sop_instance_uid"] for row in rows if row["predicted"] == "lesion" and row["report"]}
    noted = set()
    for path in (tmp_path / "dicom").glob("read_first_*.dcm"):
        note = highdicom.ko.KeyObjectSelectionDocument.from_dataset(pydicom.dcmread(path))
        noted |= {each.referenced_sop_instance_uid for each in note.content.get_references()}
    assert noted == first


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_goes_on_where_it_was_stopped(films, settings, tmp_path, monkeypatch):
    stop_after_one(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        classify(films, settings, tmp_path)
    assert not [path for path in (tmp_path / "dicom").iterdir() if not path.name.startswith(".")]
    monkeypatch.undo()

    def killed(self, algorithm):
        publish(self, algorithm)
        raise KeyboardInterrupt

    publish = DicomFolder.publish
    monkeypatch.setattr(DicomFolder, "publish", killed)
    with pytest.raises(KeyboardInterrupt):  # between the two folders
        classify(films, settings, tmp_path)
    first = contents(tmp_path / "dicom")
    monkeypatch.undo()
    assert not classify(films, settings, tmp_path).done_before
    assert contents(tmp_path / "dicom") == first  # the time of the results is that of the beginning
    again = classify(films, settings, tmp_path)
    assert again.done_before and len(again.without_dicom) == 2
    assert contents(tmp_path / "dicom") == first


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_folder_holds_the_results_of_one_run(films, settings, tmp_path):
    classify(films, settings, tmp_path)
    before = contents(tmp_path / "dicom")
    with pytest.raises(ValueError, match="holds results of another run"):
        classify(films, replace(settings, values={"num_draws": 3}), tmp_path)
    (tmp_path / "dicom" / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"expected an empty folder, or one with results of this command.*mine\.txt"):
        classify(films, settings, tmp_path, replace=True)
    (tmp_path / "dicom" / "mine.txt").unlink()
    assert contents(tmp_path / "dicom") == before
    shutil.rmtree(tmp_path / "dicom")
    with pytest.raises(ValueError, match="add --replace"):  # the table alone cannot be made DICOM of
        classify(films, settings, tmp_path)
    classify(films, settings, tmp_path, replace=True)
    assert set(contents(tmp_path / "dicom")) == set(before)


def test_what_is_refused(films, settings, tmp_path):
    write_pictures(tmp_path / "pictures", 2)
    with pytest.raises(ValueError, match="--dicom-out: expected DICOM images"):
        classify(tmp_path / "pictures", settings, tmp_path)
    with pytest.raises(ValueError, match="expected another folder than --output"):
        classify(films, settings, tmp_path, dicom_out=tmp_path / "out")
    with pytest.raises(ValueError, match="--positive: expected it with --dicom-out"):
        classify(films, settings, tmp_path, dicom_out=None)
    options = {"dicom_out": tmp_path / "dicom", "progress": False}
    for positive, reason in (["cancer"], "names among the classes clear, lesion"), (["clear", "lesion"], "not all"):
        with pytest.raises(ValueError, match=f"--positive: .*{reason}"), pytest.warns(UserWarning):
            classify_archive([films], replace(settings, positive=positive), tmp_path / "out", **options)
    assert not (tmp_path / "dicom").exists() and not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_own_results_are_no_images(films, settings, tmp_path):
    inside = films / "dicom"
    first = classify(films, settings, tmp_path, dicom_out=inside)
    assert classify(films, settings, tmp_path, dicom_out=inside).images == first.images == 6
