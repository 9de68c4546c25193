"""DICOM series as volumes: place, order and units against SimpleITK, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset

from monai_diffclf.image_io import ReadVolume, read_volume_file
from monai_diffclf.image_io.volume_file import read_volume_grid
from tests.volume_fixtures import AXIAL, CORONAL, save, slices_of, write_enhanced, write_series

VOLUME = np.arange(6 * 5 * 4).reshape(6, 5, 4) * 8  # slices, rows, columns
OBLIQUE = (0.8, 0.6, 0.0, 0.0, 0.0, -1.0)


@pytest.mark.parametrize("axes", [AXIAL, CORONAL, OBLIQUE])
def test_a_series_lies_where_simpleitk_puts_it_in_hounsfield_units(tmp_path, axes):
    itk = pytest.importorskip("SimpleITK", reason="SimpleITK is not installed")
    folder = write_series(tmp_path, VOLUME, axes=axes)
    found = read_volume_file(folder)
    reader = itk.ImageSeriesReader()
    reader.SetFileNames(itk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    assert found.values.shape == image.GetSize() == found.grid.shape
    np.testing.assert_allclose(found.values, itk.GetArrayFromImage(image).transpose(2, 1, 0))
    for corner in ((0, 0, 0), (3, 0, 0), (0, 4, 0), (0, 0, 5), (3, 4, 5)):
        left, back, up = image.TransformIndexToPhysicalPoint(corner)
        np.testing.assert_allclose((found.grid.affine @ [*corner, 1])[:3], [-left, -back, up], atol=1e-4)


def test_values_are_those_of_the_slices_in_the_order_of_their_positions(tmp_path):
    found = read_volume_file(write_series(tmp_path, VOLUME, spacing=(0.8, 1.0, -2.5)))
    np.testing.assert_array_equal(found.values, (2.0 * VOLUME[::-1] - 1024).transpose(2, 1, 0))


def test_a_multiframe_file_is_the_same_volume_whatever_the_order_of_its_frames(tmp_path):
    series = read_volume_file(write_series(tmp_path / "series", VOLUME))
    enhanced = read_volume_file(write_enhanced(tmp_path / "enhanced.dcm", VOLUME, order=[3, 0, 5, 1, 4, 2]))
    np.testing.assert_array_equal(enhanced.values, series.values)
    np.testing.assert_allclose(enhanced.grid.affine, series.grid.affine)


def test_headers_alone_give_the_same_grid(tmp_path):
    folder = write_series(tmp_path, VOLUME)
    found = read_volume_grid(folder)
    np.testing.assert_array_equal(found.affine, read_volume_file(folder).grid.affine)
    assert found.shape == (4, 5, 6)


def test_each_slice_has_its_own_rescale(tmp_path):
    def change(n: int, dataset: Dataset) -> None:
        dataset.Modality, dataset.RescaleSlope, dataset.RescaleIntercept = "PT", n + 1, 0

    found = read_volume_file(write_series(tmp_path, VOLUME, change))
    np.testing.assert_allclose(found.values.transpose(2, 1, 0), VOLUME * np.arange(1, 7)[:, None, None])


def test_slices_thinned_out_evenly_are_said(tmp_path):
    """Distances are equal, so that nothing else shows it."""

    def every_other(n: int, dataset: Dataset) -> bool:
        dataset.SpacingBetweenSlices = 2.5
        return n % 2 == 0

    thin = ReadVolume()(str(write_series(tmp_path / "thin", VOLUME, every_other)))
    assert thin.meta["warnings"].startswith(
        "slices lie 5 mm apart, and 2.5 mm by SpacingBetweenSlices (0018,0088): only every 2nd may be here"
    )
    whole = write_series(tmp_path / "whole", VOLUME, lambda n, dataset: every_other(n, dataset) or True)
    assert "slices lie" not in ReadVolume()(str(whole)).meta["warnings"]


def test_a_tilted_gantry_is_a_shear_and_said(tmp_path):
    def change(n: int, dataset: Dataset) -> None:
        dataset.ImagePositionPatient = [-50.0, -40.0 + n, 100.0 + 2.5 * n]

    folder = write_series(tmp_path, VOLUME, change)
    with pytest.warns(UserWarning, match="tilted gantry"):
        found = ReadVolume()(folder)
    np.testing.assert_allclose(found.affine[:3, 2], [0, -1, 2.5])
    assert "tilted gantry" in found.meta["warnings"]


def leave_out(n: int, dataset: Dataset) -> bool:
    return n != 3


def uneven(n: int, dataset: Dataset) -> None:
    dataset.ImagePositionPatient = [-50, -40, 100 + 2.5 * n + 0.6 * (n > 2)]


def drifting(n: int, dataset: Dataset) -> None:
    dataset.ImagePositionPatient = [-50, -40, 100 + 2.5 * n * (1 + 0.0008 * n)]


def turned(n: int, dataset: Dataset) -> None:
    if n == 2:
        dataset.ImageOrientationPatient = list(CORONAL)


def no_directions(n: int, dataset: Dataset) -> None:
    dataset.ImageOrientationPatient = [1, 0, 0, 1, 0, 0]


def beside(n: int, dataset: Dataset) -> None:
    if n == 2:
        dataset.ImagePositionPatient = [-20, -40, 105]


def other_spacing(n: int, dataset: Dataset) -> None:
    if n == 2:
        dataset.PixelSpacing = [0.7, 0.7]


def without(name: str):
    def change(n: int, dataset: Dataset) -> None:
        delattr(dataset, name)

    return change


def coloured(n: int, dataset: Dataset) -> None:
    dataset.PhotometricInterpretation, dataset.SamplesPerPixel, dataset.PlanarConfiguration = "RGB", 3, 0
    dataset.PixelData = dataset.PixelData * 3


def acquisitions(n: int, dataset: Dataset) -> None:
    dataset.AcquisitionNumber = 1 + n // 3


def another(keyword: str, value: str):
    def change(n: int, dataset: Dataset) -> None:
        setattr(dataset, keyword, value if n == 2 else "1.2")

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (another("PatientID", "P2"), r"expected one PatientID \(.*\) in all images of a series, got 2: 1.2, P2; put"),
        (another("StudyInstanceUID", "1.3"), r"expected one StudyInstanceUID .* got 2: 1.2, 1.3"),
        (another("FrameOfReferenceUID", "1.3"), r"expected one FrameOfReferenceUID .* got 2"),
        (another("Modality", "MR"), r"expected one Modality .* got 2: 1.2, MR"),
        (another("RescaleType", "HU"), r"expected one RescaleType .* got 2: 1.2, HU"),
        (
            leave_out,
            r"a gap of 5 mm between IM\d+ and IM\d+, where others lie 2.5 mm apart: 1 missing; copy all slices",
        ),
        (uneven, r"equal distances, got distances from 2.5 to 3.1 mm"),
        (turned, r"one orientation \(ImageOrientationPatient .*\), got 1 of 6 turned against the first.*localizers"),
        (no_directions, r"ImageOrientationPatient .*: expected two perpendicular directions of length 1"),
        (beside, r"first pixels of all slices on one line, got IM\d+ 30 mm off"),
        (other_spacing, r"one PixelSpacing .*0.8 x 1 mm \(5 slices\), 0.7 x 0.7 mm \(1 slice\)"),
        (
            acquisitions,
            r"one acquisition, got slices that differ in AcquisitionNumber .* 1 \(3 slices\), 2 \(3 slices\)",
        ),
        (without("ImagePositionPatient"), r"expected ImagePositionPatient .* got none; give a cross-sectional series"),
        (without("ImageOrientationPatient"), r"expected ImageOrientationPatient .* got none"),
        (without("PixelSpacing"), r"expected PixelSpacing .* got none"),
        (without("RescaleIntercept"), r"Hounsfield units, got none"),
        (coloured, r"expected a grey volume, got colours"),
        (lambda n, dataset: n == 0, r"two slices or more, got one, which is a plane image"),
    ],
)
def test_a_series_that_is_not_one_volume_is_refused_in_one_line(tmp_path, change, words):
    write_series(tmp_path, VOLUME, change)
    with pytest.raises(ValueError, match=words) as refused:
        ReadVolume()(tmp_path)
    assert "\n" not in str(refused.value)
    assert str(tmp_path) in str(refused.value)


def test_slices_that_drift_apart_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"by which a slice lies .* mm off; resample"):
        ReadVolume()(write_series(tmp_path, np.tile(VOLUME, (7, 1, 1)), drifting))


def test_two_series_in_a_folder_are_named(tmp_path):
    write_series(tmp_path, VOLUME, SeriesDescription="chest", SeriesNumber=3)
    for n, dataset in enumerate(slices_of(VOLUME[:1], SeriesDescription="SCOUT\n", SeriesNumber=1)):
        save(dataset, tmp_path / f"scout{n}")
    with pytest.raises(
        ValueError, match=r"got 2: 3 'chest' \(6 images\), 1 'SCOUT.*' \(1 image\); put the files of each"
    ):
        ReadVolume()(tmp_path)


def test_slices_twice_are_refused_with_what_tells_them_apart(tmp_path):
    first = list(slices_of(VOLUME))
    for n, dataset in enumerate([*first, *slices_of(VOLUME, SeriesInstanceUID=first[0].SeriesInstanceUID)]):
        save(dataset, tmp_path / f"{n}.dcm")
    with pytest.raises(ValueError, match=r"got 6 at the place of another, such as 0.dcm and 6.dcm.*remove copies"):
        ReadVolume()(tmp_path)
    for n, dataset in enumerate(
        slices_of(VOLUME, SeriesInstanceUID=first[0].SeriesInstanceUID, TemporalPositionIdentifier=2)
    ):
        first[n].TemporalPositionIdentifier = 1
        save(first[n], tmp_path / f"{n}.dcm")
        save(dataset, tmp_path / f"{n + 6}.dcm")
    with pytest.raises(
        ValueError, match=r"6 of them at the place of another, that differ in TemporalPositionIdentifier"
    ):
        ReadVolume()(tmp_path)


def test_a_slice_twice_is_refused_wherever_its_header_says_that_it_lies(tmp_path):
    datasets = list(slices_of(VOLUME))
    datasets[4].SOPInstanceUID, datasets[4].PixelData = datasets[1].SOPInstanceUID, datasets[1].PixelData
    for n, dataset in enumerate(datasets):
        save(dataset, tmp_path / f"{n}.dcm")
    words = r"an own SOPInstanceUID \(0008,0018\) for each slice, got [\d.]+ in both 1.dcm and 4.dcm; remove the copy"
    with pytest.raises(ValueError, match=words):
        ReadVolume()(tmp_path)


def test_a_slice_that_cannot_be_decoded_is_named(tmp_path):
    def cut(n: int, dataset: Dataset) -> None:
        if n == 4:
            dataset.PixelData = dataset.PixelData[:8]

    folder = write_series(tmp_path, VOLUME, cut)
    (name,) = (
        path.name for path in folder.iterdir() if path.stat().st_size < max(p.stat().st_size for p in folder.iterdir())
    )
    with pytest.raises(ValueError, match=rf"as a volume: {name}: PixelData \(7FE0,0010\) cannot be decoded"):
        ReadVolume()(folder)


def test_rotations_one_after_the_other_are_one_scan_and_said(tmp_path):
    def change(n: int, dataset: Dataset) -> None:
        dataset.AcquisitionNumber = 7 - n // 2

    with pytest.warns(UserWarning, match="slices of 3 acquisitions lie one after the other"):
        assert ReadVolume()(write_series(tmp_path, VOLUME, change)).shape == (1, 4, 5, 6)


def test_acquisitions_between_each_other_are_refused(tmp_path):
    def change(n: int, dataset: Dataset) -> None:
        dataset.AcquisitionNumber = 1 + n % 3

    with pytest.raises(ValueError, match="expected one acquisition"):
        ReadVolume()(write_series(tmp_path, VOLUME, change))


def test_frames_without_places_are_refused(tmp_path):
    (dataset,) = slices_of(VOLUME[:1])
    dataset.NumberOfFrames, dataset.PixelData = 3, dataset.PixelData * 3
    with pytest.raises(
        ValueError, match="expected functional groups with the place of each of 3 frames, got one for all"
    ):
        ReadVolume()(save(dataset, tmp_path / "a.dcm"))


def test_frames_with_a_gap_are_refused(tmp_path):
    path = write_enhanced(tmp_path / "e.dcm", VOLUME, order=[0, 1, 2, 4, 5])
    with pytest.raises(ValueError, match=r"a gap of 5 mm between frame 3 and frame 4"):
        ReadVolume()(path)


def test_a_folder_without_slices_and_one_slice_by_itself(tmp_path):
    with pytest.raises(ValueError, match="expected the slices of a DICOM series in a folder, got none"):
        ReadVolume()(tmp_path)
    (dataset,) = slices_of(VOLUME[:1])
    with pytest.raises(ValueError, match="got one slice, a plane image; give the folder that the slices are in"):
        ReadVolume()(save(dataset, tmp_path / "one.dcm"))


def test_size_is_checked_before_anything_is_decoded(tmp_path):
    folder = write_series(tmp_path, VOLUME)
    for file in folder.iterdir():  # pixels that cannot be decoded
        file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(ValueError, match="at most 100 pixels, got 4 x 5 x 6 = 120"):
        ReadVolume(max_pixels=100)(folder)
    with pytest.raises(ValueError, match="cannot be read as a volume"):
        ReadVolume()(folder)


def test_what_is_no_image_is_left_out_and_named(tmp_path):
    write_series(tmp_path, VOLUME)
    (report,) = slices_of(VOLUME[:1])
    del report.PixelData
    report.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    save(report, tmp_path / "report.dcm")
    with pytest.warns(UserWarning, match="report.dcm is left out, as it is no image but of the class Basic Text SR"):
        assert ReadVolume()(tmp_path).shape == (1, 4, 5, 6)
