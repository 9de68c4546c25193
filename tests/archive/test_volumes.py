"""A bundle for volumes classifies NIfTI files and folders of slices, and its maps lie on them."""

from __future__ import annotations

import csv
import warnings
from dataclasses import replace

import nibabel
import numpy as np
import pytest
from PIL import Image

from monai_diffclf.archive import ClassifierSettings, classify_archive, find_archive
from monai_diffclf.data import find_images
from tests.archive.conftest import write_pictures
from tests.volume_fixtures import phantom, save, save_nifti, slices_of, volume_bundle, write_enhanced, write_series


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return volume_bundle(tmp_path_factory.mktemp("bundle") / "tiny")


@pytest.fixture
def settings(bundle, device):
    return ClassifierSettings(str(bundle), device=device, maps="nifti")


@pytest.fixture
def scans(tmp_path):
    """Three volumes, one of them a series; a plane, and a series with a gap."""
    folder = tmp_path / "scans"
    stored = (phantom().transpose(2, 1, 0) + 1024) // 2
    write_series(folder / "a" / "series", stored)
    (folder / "b").mkdir()
    save_nifti(folder / "b" / "scan.nii.gz", phantom(), codes="PSL")
    write_enhanced(folder / "c.dcm", stored)
    Image.new("L", (8, 8)).save(folder / "d.png")
    write_series(folder / "e", stored, lambda n, dataset: n != 4)
    return folder


def table(folder):
    with (folder / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def classify(source, settings, output):
    return classify_archive([source], settings, output, progress=False)


def test_a_folder_of_slices_and_a_file_are_one_image_each(scans):
    found = find_archive([scans], volumes=True)
    assert [image.key for image in found] == ["a/series", "b/scan.nii.gz", "c.dcm", "d.png", "e"]
    assert found[0].size == sum(file.stat().st_size for file in (scans / "a" / "series").iterdir())
    assert all(image.series is None for image in found)
    assert [image.key for image in find_archive([scans / "a" / "series"], volumes=True)] == ["series"]
    assert [image.key for image in find_archive([scans / "a" / "series", scans / "c.dcm"], volumes=True)] == [
        "a/series",
        "c.dcm",
    ]


def test_a_datalist_has_an_item_for_each_volume(scans):
    found = find_images(scans, volumes=True)
    assert [item["key"] for item in found] == ["a/series", "b/scan.nii.gz", "c.dcm", "d.png", "e"]
    assert found[0]["image"] == str(scans / "a" / "series")
    assert [item["key"] for item in find_images(scans / "e", volumes=True)] == ["e"]
    assert len(find_images(scans / "e")) == 9


def test_a_folder_that_changes_is_another_image(scans):
    before = find_archive([scans], volumes=True)
    (dataset,) = slices_of(np.ones((1, 12, 14)))
    save(dataset, scans / "a" / "series" / "more.dcm")
    assert find_archive([scans], volumes=True)[0] != before[0]


def test_table_has_a_row_for_each_volume_and_says_what_is_none(scans, settings, tmp_path):
    done = classify(scans, settings, tmp_path / "out")
    rows = {row["key"]: row for row in table(tmp_path / "out")}
    assert done.images == 5 and [key for key, _ in done.failed] == ["d.png", "e"]
    for key in ("a/series", "b/scan.nii.gz", "c.dcm"):
        row = rows[key]
        total = sum(float(row[f"probability_{name}"]) for name in ("clear", "lesion"))
        assert row["predicted"] in ("clear", "lesion") and total == pytest.approx(1)
        assert float(row["vote_entropy"]) >= 0 and row["network_evaluations"] == "4"
    # The same voxels, read from slices and from frames.
    names = ["predicted", "probability_lesion", "vote_share_lesion"]
    assert [rows["a/series"][name] for name in names] == [rows["c.dcm"][name] for name in names]
    assert "got a plane image (PNG)" in rows["d.png"]["error"]
    assert "a gap of 5 mm" in rows["e"]["error"]
    assert "series" not in rows["e"]


def test_maps_are_nifti_in_the_space_of_their_volume(scans, settings, tmp_path):
    classify(scans, settings, tmp_path / "out")
    rows = {row["key"]: row for row in table(tmp_path / "out")}
    source = nibabel.load(scans / "b" / "scan.nii.gz")
    found = nibabel.load(tmp_path / "out" / rows["b/scan.nii.gz"]["map"])
    assert found.shape == source.shape and nibabel.aff2axcodes(found.affine) == ("P", "S", "L")
    np.testing.assert_allclose(found.affine, source.affine)
    assert np.abs(found.get_fdata()).max() > 0
    series = nibabel.load(tmp_path / "out" / rows["a/series"]["map"])
    frames = nibabel.load(tmp_path / "out" / rows["c.dcm"]["map"])
    assert series.shape == (14, 12, 10) and nibabel.aff2axcodes(series.affine) == ("L", "P", "S")
    np.testing.assert_array_equal(series.get_fdata(), frames.get_fdata())
    np.testing.assert_allclose(series.affine @ [0, 0, 9, 1], [50, 40, 122.5, 1])


def test_png_maps_are_mosaics_of_slices(scans, settings, tmp_path):
    classify(scans, replace(settings, maps="png"), tmp_path / "out")
    row = table(tmp_path / "out")[0]
    picture = np.asarray(Image.open(tmp_path / "out" / row["map"]))
    assert picture.shape[2] in (3, 4) and min(picture.shape[:2]) >= 64


def test_a_bundle_for_planes_still_takes_slices_one_by_one(scans, device, tmp_path):
    settings = ClassifierSettings("phantom_xray_diffusion", values={"num_draws": 2}, device=device, report=False)
    classify(scans / "e", settings, tmp_path / "out")
    rows = table(tmp_path / "out")
    assert [row["slice"] for row in rows] == [str(n + 1) for n in range(9)]
    done = classify(scans / "b", settings, tmp_path / "other")
    assert "expected 2 spatial dimensions" in done.failed[0][1]


def test_a_slice_by_itself_is_no_volume(tmp_path, settings, scans):
    (one, *_) = (scans / "a" / "series").iterdir()
    done = classify(one, settings, tmp_path / "out")
    assert "give the folder that the slices are in" in done.failed[0][1]


def test_pictures_to_a_bundle_for_volumes_are_refused_one_by_one(tmp_path, settings):
    write_pictures(tmp_path / "pictures", 2)
    done = classify(tmp_path / "pictures", settings, tmp_path / "out")
    assert len(done.failed) == 2 and all("got a plane image (PNG)" in error for _, error in done.failed)


def test_one_series_in_several_folders_is_said(tmp_path):
    """Media of a hundred files a folder make two volumes of a scan; copies of a series are as whole as it is."""
    volume = np.zeros((6, 4, 4), np.int16)
    write_series(tmp_path / "scan" / "1", volume, lambda n, dataset: n < 3)
    write_series(tmp_path / "scan" / "2", volume, lambda n, dataset: n >= 3)
    with pytest.warns(UserWarning, match=r"1 series of which slices lie in several folders.*/1 and .*/2; put all"):
        assert [item["key"] for item in find_images(tmp_path / "scan", volumes=True)] == ["1", "2"]
    with pytest.warns(UserWarning, match=r"1 series of which slices lie in several folders.*/1 and .*/2; put all"):
        find_archive([tmp_path / "scan" / "1", tmp_path / "scan" / "2"], volumes=True)
    for name in "ab":
        write_series(tmp_path / "copies" / name, volume)
    write_series(tmp_path / "copies" / "other", volume, SeriesDescription="other")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        find_images(tmp_path / "copies", volumes=True)
        find_archive(sorted((tmp_path / "copies").iterdir()), volumes=True)
