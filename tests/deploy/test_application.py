"""A bundle as an application of MONAI Deploy: what its operator does, and the whole where the SDK is installed."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pydicom
import pytest

highdicom = pytest.importorskip("highdicom", reason="highdicom is not installed")

from monai_diffclf.bundle import find_bundle  # noqa: E402
from monai_diffclf.deploy import application  # noqa: E402
from monai_diffclf.deploy.application import (  # noqa: E402
    application_class,
    bundle_of,
    classify_series,
    selected_series,
)
from tests.volume_fixtures import volume_bundle  # noqa: E402
from tools import dicom_sources  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
HAS_SDK = importlib.util.find_spec("monai.deploy") is not None


@pytest.fixture
def folder(tmp_path):
    """A film and two mammograms."""
    made = {"a": dicom_sources.cr(), "l": dicom_sources.mg(), "r": dicom_sources.mg("r", side="R")}
    (tmp_path / "in").mkdir()
    for name, dataset in made.items():
        pydicom.dcmwrite(tmp_path / "in" / f"{name}.dcm", dataset, enforce_file_format=True)
    return tmp_path / "in"


def selected(*groups):
    """What the SDK's selector hands on, as far as it is used: studies of series of files."""

    def instance(path):
        return SimpleNamespace(get_native_sop_instance=lambda: pydicom.dcmread(path))

    def series(paths):
        return SimpleNamespace(series=SimpleNamespace(get_sop_instances=lambda: [instance(path) for path in paths]))

    return [SimpleNamespace(selected_series=[series(paths)]) for paths in groups]


def reports(output):
    return {
        pydicom.dcmread(path)
        .CurrentRequestedProcedureEvidenceSequence[0]
        .ReferencedSeriesSequence[0]
        .ReferencedSOPSequence[0]
        .ReferencedSOPInstanceUID
        for path in (output / "dicom").glob("*_report.dcm")
    }


def test_selected_series_are_classified(folder, tmp_path):
    studies = selected([folder / "a.dcm"], [folder / "l.dcm", folder / "r.dcm"])
    series = selected_series(studies)
    assert [path.name for files in series.values() for path in files] == ["a.dcm", "l.dcm", "r.dcm"]
    assert all(
        {str(pydicom.dcmread(path).SeriesInstanceUID) for path in files} == {uid} for uid, files in series.items()
    )
    dicom = classify_series(studies[1:], find_bundle("phantom_xray_diffusion"), tmp_path / "out")
    kinds = sorted(path.stem.rpartition("_")[2] for path in dicom.glob("*.dcm"))
    assert kinds == ["map", "map", "overlay", "overlay", "report", "report"]
    wanted = {str(pydicom.dcmread(folder / name).SOPInstanceUID) for name in ("l.dcm", "r.dcm")}
    assert reports(tmp_path / "out") == wanted


def test_a_series_is_a_folder_for_bundles_that_read_volumes(tmp_path, monkeypatch):
    slices, where = [dicom_sources.ct(number) for number in (1, 2, 3)], tmp_path / "in"
    where.mkdir()
    for index, dataset in enumerate(slices):
        pydicom.dcmwrite(where / f"{index}.dcm", dataset, enforce_file_format=True)
    pydicom.dcmwrite(where / "film.dcm", dicom_sources.cr(), enforce_file_format=True)
    given = []

    def classify(images, settings, output, **more):  # DICOM results of volumes are another test's
        for image in images:
            files = sorted(image.iterdir()) if image.is_dir() else [image]
            given.append([image.name, [str(pydicom.dcmread(path).SOPInstanceUID) for path in files]])

    monkeypatch.setattr(application, "classify_archive", classify)
    studies = selected([where / "film.dcm"], sorted(where.glob("[0-9]*.dcm")))
    classify_series(studies, find_bundle("phantom_volume_diffusion"), tmp_path / "out")
    film, volume = given
    assert film[0] == "film.dcm" and volume[0] == slices[0].SeriesInstanceUID
    assert volume[1] == [dataset.SOPInstanceUID for dataset in slices]
    assert len(list(where.iterdir())) == len(slices) + 1, "the input is left as it is"


def test_a_series_of_slices_is_one_volume(tmp_path):
    (tmp_path / "in").mkdir()
    files = [tmp_path / "in" / f"{number}.dcm" for number in range(8)]
    for number, path in enumerate(files):
        pydicom.dcmwrite(path, dicom_sources.ct(number + 1), enforce_file_format=True)
    bundle = volume_bundle(tmp_path / "tiny")
    dicom = classify_series(selected(files), bundle, tmp_path / "out")
    objects = [pydicom.dcmread(path) for path in dicom.glob("*.dcm")]
    assert {"Comprehensive SR Storage", "Parametric Map Storage"} <= {one.SOPClassUID.name for one in objects}
    (report,) = (one for one in objects if one.Modality == "SR")
    evidence = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert {one.ReferencedSOPInstanceUID for one in evidence} == {
        pydicom.dcmread(path).SOPInstanceUID for path in files
    }


def test_nothing_selected_is_refused():
    with pytest.raises(ValueError, match="input: expected studies with series that the rules select, got none"):
        selected_series([SimpleNamespace(selected_series=[])])


def test_bundle_of_a_folder_of_models(tmp_path):
    bundle = find_bundle("phantom_xray_diffusion")
    assert bundle_of(bundle) == bundle
    for name in ("one", "two"):
        with pytest.raises(ValueError, match="model: expected a bundle's folder, or a folder with one bundle, got"):
            bundle_of(tmp_path) if name == "one" else bundle_of(tmp_path / "two" / "none")
        (tmp_path / name / "configs").mkdir(parents=True)
        (tmp_path / name / "configs" / "inference.json").touch()
        assert bundle_of(tmp_path / name) == tmp_path / name
        if name == "one":
            assert bundle_of(tmp_path) == tmp_path / "one"
    with pytest.raises(ValueError, match=r"with \['one', 'two'\]"):
        bundle_of(tmp_path)


@pytest.mark.skipif(HAS_SDK, reason="the MONAI Deploy App SDK is installed")
def test_without_the_sdk_the_application_is_refused():
    with pytest.raises(ValueError, match=r"needs the package monai\.deploy; install it with: pip install"):
        application_class()


@pytest.mark.slow
@pytest.mark.skipif(not HAS_SDK, reason="the MONAI Deploy App SDK is not installed (extra: deploy)")
def test_application(folder, tmp_path):
    command = [sys.executable, "-m", "monai_diffclf.deploy", "-i", str(folder), "-o", str(tmp_path / "out")]
    (tmp_path / "out").mkdir()
    done = subprocess.run(
        [*command, "-m", str(find_bundle("phantom_xray_diffusion"))],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(ROOT)])},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(reports(tmp_path / "out")) == 3
