"""DICOM results of volumes and of several findings by `classify --dicom-out`."""

from __future__ import annotations

import csv
import zipfile
from dataclasses import replace

import numpy as np
import pydicom
import pytest
import torch
from PIL import Image

highdicom = pytest.importorskip("highdicom", reason="highdicom is not installed")

from monai_diffclf.archive import ClassifierSettings, classify_archive  # noqa: E402
from monai_diffclf.bundle import find_bundle  # noqa: E402
from monai_diffclf.handlers import classification_writer  # noqa: E402
from tests.volume_fixtures import phantom, save_nifti, volume_bundle  # noqa: E402
from tools import dicom_sources  # noqa: E402
from tools.dicom_sources import CORONAL, OBLIQUE, SAGITTAL, Plane, ct  # noqa: E402
from tools.validate_dicom import missing_validators, validate, validate_together  # noqa: E402

ROWS, COLUMNS, SLICES = 26, 30, 12
VOXEL = (20, 9, 7)  # column, row and slice of the middle of a blob
PLANES = {
    "sagittal": SAGITTAL,
    "coronal": CORONAL,
    "oblique": OBLIQUE,
    "backwards": Plane((-1, 0, 0, 0, 1, 0), (1.2, 0.9, 1.5)),
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return volume_bundle(tmp_path_factory.mktemp("bundle") / "tiny", size=24)


def write_series(folder, name, plane):
    """A series with a blob whose middle lies off the centre; the place of it in mm, RAS."""
    folder.mkdir(parents=True)
    grid = np.indices((SLICES, ROWS, COLUMNS))
    steps = (plane.spacing[2], plane.spacing[0], plane.spacing[1])
    middle = (VOXEL[2], VOXEL[1], VOXEL[0])
    distance = sum((step * (axis - place)) ** 2 for axis, place, step in zip(grid, middle, steps, strict=True))
    stored = 24 + 1500 * np.exp(-distance / (2 * 3.0**2))
    for number, pixels in enumerate(stored):
        dataset = ct(number, name=name, plane=plane, stored=pixels)
        pydicom.dcmwrite(folder / f"{(7 * number) % SLICES:02d}.dcm", dataset, enforce_file_format=True)
        if number == VOXEL[2]:
            row, column = np.array(plane.axes[:3]), np.array(plane.axes[3:])
            place = np.array(dataset.ImagePositionPatient, dtype=float)
            place += VOXEL[0] * plane.spacing[1] * row + VOXEL[1] * plane.spacing[0] * column
            at = place * [-1, -1, 1], dataset.SOPInstanceUID
    return at


def classify(source, settings, tmp_path, **options):
    options = {"dicom_out": tmp_path / "dicom"} | options
    return classify_archive([source], settings, tmp_path / "out", progress=False, **options)


def worklist(folder):
    with (folder / "worklist.csv").open(newline="") as file:
        return {row["key"]: row for row in csv.DictReader(file)}


def valid(folder):
    if not missing_validators():
        for path in folder.glob("*.dcm"):
            for found in validate(path, "report" if path.stem.endswith("report") else path.stem[:9]).values():
                assert found["errors"] == [], path.name


@pytest.mark.parametrize("name", PLANES)
def test_a_blob_comes_back_where_it_is(name, bundle, device, tmp_path, monkeypatch):
    # The image itself as its map: what comes out of all transforms and back, and of the file, has to be where it was.
    monkeypatch.setattr(
        classification_writer, "map_of_class", lambda result: 1 + torch.as_tensor(result["image"])[0].cpu()
    )
    where, instance = write_series(tmp_path / "scans" / name, name, PLANES[name])
    settings = ClassifierSettings(str(bundle), device=device, maps="npy", report=False)
    classify(tmp_path / "scans", settings, tmp_path)
    (path,) = (tmp_path / "dicom").glob("*_map.dcm")
    volume = highdicom.pm.ParametricMap.from_dataset(pydicom.dcmread(path)).get_volume()
    assert np.asarray(volume.spacing) == pytest.approx([PLANES[name].spacing[n] for n in (2, 0, 1)], abs=1e-5)
    weight = np.where(volume.array > 0.3 * volume.array.max(), volume.array, 0)
    middle = [float((axis * weight).sum() / weight.sum()) for axis in np.indices(weight.shape)]
    found = (volume.affine @ [*middle, 1])[:3] * [-1, -1, 1]
    # Along each axis of the volume, in voxels.
    off = np.linalg.solve((np.diag([-1, -1, 1]) @ volume.affine[:3, :3]), found - where)
    assert np.abs(off).max() < 0.5
    picture = pydicom.dcmread(next((tmp_path / "dicom").glob("*_overlay.dcm")))
    assert picture.SourceImageSequence[0].ReferencedSOPInstanceUID == instance


def test_volumes(bundle, device, tmp_path):
    scans = tmp_path / "scans"
    write_series(scans / "one", "one", OBLIQUE)
    slices = [ct(number, name="two", plane=SAGITTAL) for number in range(6)]
    pydicom.dcmwrite(scans / "two.dcm", dicom_sources.enhanced_ct(slices), enforce_file_format=True)
    save_nifti(scans / "three.nii.gz", phantom())
    (scans / "four").mkdir()
    for number in (1, 2, 3, 5):
        pydicom.dcmwrite(scans / "four" / f"{number}.dcm", ct(number, name="four"), enforce_file_format=True)
    settings = ClassifierSettings(str(bundle), device=device, maps="nifti", report=False)
    with pytest.warns(UserWarning, match=r"no DICOM results of what is no DICOM: three\.nii\.gz$"):
        done = classify(scans, replace(settings, positive=["lesion"]), tmp_path)
    assert [key for key, _ in done.without_dicom] == ["four"] and "a gap of 6 mm" in dict(done.without_dicom)["four"]
    rows = worklist(tmp_path / "dicom")
    assert set(rows) == {"one", "two.dcm", "four"} and rows["four"]["read_first"] == "true" and rows["four"]["error"]
    for key in ("one", "two.dcm"):
        stem = rows[key]["report"].removesuffix("_report.dcm")
        report = highdicom.sr.ComprehensiveSR.from_dataset(pydicom.dcmread(tmp_path / "dicom" / rows[key]["report"]))
        assert len(report.get_evidence()) == (SLICES if key == "one" else 1)
        picture = pydicom.dcmread(tmp_path / "dicom" / f"{stem}_overlay.dcm")
        (reference,) = picture.SourceImageSequence
        assert rows[key]["sop_instance_uid"] == reference.ReferencedSOPInstanceUID
        if rows[key]["predicted"] != "lesion":
            continue
        notes = [pydicom.dcmread(path) for path in (tmp_path / "dicom").glob("read_first_*.dcm")]
        (note,) = [note for note in notes if note.StudyInstanceUID == picture.StudyInstanceUID]
        (item,) = highdicom.ko.KeyObjectSelectionDocument.from_dataset(note).content.get_references()
        assert item.referenced_sop_instance_uid == reference.ReferencedSOPInstanceUID
        assert item.ReferencedSOPSequence[0].get("ReferencedFrameNumber") == reference.get("ReferencedFrameNumber")
    valid(tmp_path / "dicom")
    first = {path.name: path.read_bytes() for path in (tmp_path / "dicom").iterdir()}
    with pytest.warns(UserWarning):
        assert classify(scans, replace(settings, positive=["lesion"]), tmp_path).done_before
    assert {path.name: path.read_bytes() for path in (tmp_path / "dicom").iterdir()} == first


def test_volumes_without_a_study_are_refused_in_one_line(bundle, device, tmp_path):
    (tmp_path / "scans").mkdir()
    save_nifti(tmp_path / "scans" / "a.nii.gz", phantom())
    settings = ClassifierSettings(str(bundle), device=device)
    with pytest.raises(ValueError, match=r"--dicom-out: expected DICOM images, .* \(a\.nii\.gz is of another kind\)"):
        classify(tmp_path / "scans", settings, tmp_path)
    assert not (tmp_path / "out").exists() and not (tmp_path / "dicom").exists()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_zip_gives_what_its_folder_gives(bundle, device, tmp_path):
    scans = tmp_path / "scans"
    write_series(scans / "one", "one", CORONAL)
    with zipfile.ZipFile(scans / "two.zip", "w") as archive:
        for file in sorted((scans / "one").iterdir()):
            archive.write(file, f"export/{file.name}")
    settings = ClassifierSettings(str(bundle), device=device, maps="nifti", report=False, positive=["clear"])
    classify(scans, settings, tmp_path)
    rows = worklist(tmp_path / "dicom")
    assert {name: value for name, value in rows["one"].items() if name not in ("rank", "key", "report")} == {
        name: value for name, value in rows["two.zip"].items() if name not in ("rank", "key", "report")
    }
    for kind in ("report", "map", "overlay"):  # made of the same facts, so the same objects
        made = [(tmp_path / "dicom" / f"{stem}_{kind}.dcm").read_bytes() for stem in ("000000_one", "000001_two")]
        assert made[0] == made[1], kind


@pytest.fixture
def films(tmp_path):
    folder = tmp_path / "films"
    folder.mkdir()
    for name, dataset in {"cr": dicom_sources.cr(monochrome1=True), "dx": dicom_sources.dx()}.items():
        pydicom.dcmwrite(folder / f"{name}.dcm", dataset, enforce_file_format=True)
    Image.fromarray(np.zeros((32, 32), np.uint8) + 5).save(folder / "picture.png")
    return folder


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_findings(films, device, tmp_path):
    settings = ClassifierSettings(
        str(find_bundle("phantom_findings_diffusion")), values={"num_draws": 5}, device=device, maps="npy", report=False
    )
    done = classify(films, settings, tmp_path)
    dicom, rows = tmp_path / "dicom", worklist(tmp_path / "dicom")
    with done.table.open(newline="") as file:
        table = {row["key"]: row for row in csv.DictReader(file)}
    noted = set()
    for path in dicom.glob("read_first_*.dcm"):
        note = highdicom.ko.KeyObjectSelectionDocument.from_dataset(pydicom.dcmread(path))
        noted |= {each.referenced_sop_instance_uid for each in note.content.get_references()}
    for place, key in enumerate(("cr.dcm", "dx.dcm")):
        stem, row, source = f"{place:06d}_{key[:2]}", table[key], pydicom.dcmread(films / key)
        # Of findings all are urgent unless some are named.
        any_present = row["predicted"] != "none"
        assert (rows[key]["read_first"], source.SOPInstanceUID in noted) == (str(any_present).lower(), any_present)
        chances = [float(row[f"probability_{name}"]) for name in ("nodule", "effusion")]
        assert float(rows[key]["probability_positive"]) == max(chances)
        report = highdicom.sr.ComprehensiveSR.from_dataset(pydicom.dcmread(dicom / f"{stem}_report.dcm"))
        groups = report.content.get_image_measurement_groups()
        assert [str(group.finding_type.meaning) for group in groups] == ["Nodule", "Effusion"]
        for number, (name, group) in enumerate(zip(("nodule", "effusion"), groups, strict=True)):
            numbers = {str(each.name.meaning): float(each.value) for each in group.get_measurements()}
            assert numbers["Probability"] == float(row[f"probability_{name}"])
            assert numbers["Share of the draws that vote for the class"] == float(row[f"vote_share_{name}"])
            mapped = pydicom.dcmread(dicom / f"{stem}_finding_{number}_map.dcm")
            values = np.frombuffer(mapped.FloatPixelData, np.float32).reshape(mapped.Rows, mapped.Columns)
            np.testing.assert_array_equal(values, np.load(tmp_path / "out" / row[f"map_{name}"]))
            assert name in mapped.SeriesDescription and name in mapped.ContentDescription
            assert (dicom / f"{stem}_finding_{number}_overlay.dcm").is_file()
    valid(dicom)
    if not missing_validators():
        kept = {path.stem: path for path in dicom.glob("000000_*.dcm")} | {"source": films / "cr.dcm"}
        assert validate_together(kept)["dcentvfy"]["errors"] == []
    named = classify(films, replace(settings, positive=["effusion"]), tmp_path, replace=True)
    again = worklist(named.dicom)
    assert float(again["cr.dcm"]["probability_positive"]) == float(table["cr.dcm"]["probability_effusion"])
