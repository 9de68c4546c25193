"""A blob in a file, seen on the network's grid and written back as a map: SimpleITK must find it where it was."""

from __future__ import annotations

from itertools import permutations, product
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from nibabel.affines import apply_affine
from nibabel.orientations import aff2axcodes
from PIL import Image
from pydicom.dataset import Dataset
from scipy.ndimage import center_of_mass

from monai_diffclf.image_io import ReadImage, read_grid
from monai_diffclf.monailabel.map_file import write_map

sitk = pytest.importorskip("SimpleITK")

CODES = [
    tuple(pair[side] for pair, side in zip(axes, sides, strict=True))
    for axes in permutations(("LR", "PA", "IS"))
    for sides in product((0, 1), repeat=3)
]
DIRECTIONS = {"R": (1, 0, 0), "L": (-1, 0, 0), "A": (0, 1, 0), "P": (0, -1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}
CLASS = "1.2.840.10008.5.1.4.1.1."


def blob(shape: tuple[int, ...], where: tuple[float, ...]) -> np.ndarray:
    """A smooth uint8 blob whose sides are a twelfth of those of the image."""
    distance = np.zeros(shape)
    for axis, (size, centre) in enumerate(zip(shape, where, strict=True)):
        if size > 1:
            line = (np.arange(size) - centre * (size - 1)) / max(size / 12, 1)
            distance += np.reshape(line**2, [-1 if i == axis else 1 for i in range(len(shape))])
    return np.rint(255 * np.exp(-distance)).astype(np.uint8)


def affine_of(codes: tuple[str, ...], spacing: tuple[float, ...], tilt: float = 0.0) -> np.ndarray:
    """An affine whose voxel axes point to the codes, turned by some radians about two axes."""
    columns = np.array([DIRECTIONS[code] for code in codes], dtype=float).T
    c, s = np.cos(tilt), np.sin(tilt)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ columns * spacing
    affine[:3, 3] = -17.0, 23.0, 5.0
    return affine


def itk_centre(path: Path) -> np.ndarray:
    """The blob's centre in ITK's millimetres (left, back, head)."""
    image = sitk.ReadImage(str(path))
    array = sitk.GetArrayFromImage(image).astype(float)
    if image.GetNumberOfComponentsPerPixel() > 1:
        array = array[..., 0]
    index = center_of_mass(array - array.min())[::-1]
    point = image.TransformContinuousIndexToPhysicalPoint([float(n) for n in index])
    return np.array([*point, 0.0][:3])


def check_round_trip(path: Path, size: list[int]) -> MetaTensor:
    """Read, send back, write: everywhere the blob must lie where ITK finds it in the file, to .3 network pixels."""
    read = ReadImage(size, resize=True)
    image = read(path)
    expected = itk_centre(path)
    pixel = float(np.linalg.norm(image.affine[:3, :3].numpy(), axis=0)[: len(size)].max())
    index = [*center_of_mass(image.as_tensor()[0].double().numpy()), 0.0][:3]
    seen = apply_affine(image.affine.numpy(), index) * (-1, -1, 1)
    assert np.linalg.norm(seen - expected) < 0.3 * pixel, "affine on the network's grid"

    whole = read.inverse(MetaTensor(image.as_tensor().clone(), applied_operations=list(image.applied_operations)))
    assert list(whole.shape[1:]) == image.meta["spatial_shape"].tolist()
    map_file = write_map(whole.as_tensor()[0], read_grid(path), ".nii")
    try:
        found = itk_centre(map_file)
    finally:
        map_file.unlink()
    assert np.linalg.norm(found - expected) < 0.3 * pixel, "map in the file's grid"
    return image


@pytest.mark.parametrize("codes", CODES, ids="".join)
def test_nifti_volume_in_any_orientation(tmp_path: Path, codes: tuple[str, ...]) -> None:
    affine = affine_of(codes, (1.1, 1.1, 1.1), tilt=0.3)
    stored = blob((36, 30, 33), (0.4, 0.55, 0.6))
    nibabel.save(nibabel.Nifti1Image(stored, affine), tmp_path / "a.nii")
    image = check_round_trip(tmp_path / "a.nii", [16, 16, 16])
    # The oblique image is not resampled; its axes are those nearest to back, left and head.
    assert aff2axcodes(image.affine.numpy()) == ("P", "L", "S")


@pytest.mark.parametrize("codes", CODES, ids="".join)
@pytest.mark.parametrize("across", [0, 1, 2])
def test_nifti_plane_in_any_orientation(tmp_path: Path, codes: tuple[str, ...], across: int) -> None:
    shape, spacing, where = [64, 45, 57], [0.7, 1.3, 0.9], [0.42, 0.55, 0.6]
    shape[across] = 1
    stored = blob(tuple(shape), tuple(where))
    affine = affine_of(codes, tuple(spacing), tilt=0.2)
    nibabel.save(nibabel.Nifti1Image(stored, affine), tmp_path / "a.nii.gz")
    image = check_round_trip(tmp_path / "a.nii.gz", [28, 28])
    directions = aff2axcodes(image.affine.numpy())[:2]
    plane = codes[across]
    assert directions == (("I", "P") if plane in "LR" else ("I", "L") if plane in "AP" else ("P", "L"))
    # Square pixels, of the size that fits.
    sizes = np.linalg.norm(image.affine[:3, :2].numpy(), axis=0)
    assert sizes[0] == pytest.approx(sizes[1], rel=0.02)


def place(dataset: Dataset) -> None:
    dataset.ImagePositionPatient = ["-12", "7", "50"]
    dataset.ImageOrientationPatient = ["1", "0", "0", "0", "0", "-1"]


SPACINGS = {
    "P": {"PixelSpacing": ["0.2", "0.3"]},
    "I": {"ImagerPixelSpacing": ["0.5", "0.4"]},
    "N": {"NominalScannedPixelSpacing": ["0.6", "0.5"]},
}


@pytest.mark.parametrize("given", ["", "P", "I", "N", "PI", "PN", "IN", "PIN"])
@pytest.mark.parametrize(
    "sop_class",
    [
        "1",
        "1.1",
        "1.1.1",
        "1.2",
        "1.3",
        "7",
        "2",
        "4",
        "6.1",
        "12.1",
        "12.2",
        "20",
        "128",
        "77.1.4",
        "481.1",
        "7.2",
        "4.1",
        "13.1.3",
    ],
)
def test_dicom_of_any_class_and_spacing(tmp_path: Path, write_dicom, sop_class: str, given: str) -> None:
    elements = {"SOPClassUID": CLASS + sop_class}
    for letter in given:
        elements |= SPACINGS[letter]
    if sop_class != "20":  # nuclear medicine has the place of its detectors instead
        elements["ImagePositionPatient"] = ["-12", "7", "50"]
        elements["ImageOrientationPatient"] = ["1", "0", "0", "0", "0", "-1"]
    stored = blob((61, 48), (0.42, 0.55))
    check_round_trip(write_dicom(tmp_path / "a.dcm", stored, **elements), [28, 28])


def functional_groups(frames: int) -> dict[str, object]:
    """Spacing and places in functional groups alone, frames 5 mm apart."""
    measures, orientation, shared = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = ["0.2", "0.3"], "3"
    orientation.ImageOrientationPatient = ["1", "0", "0", "0", "0", "-1"]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    each = []
    for index in range(frames):
        position, group = Dataset(), Dataset()
        position.ImagePositionPatient = ["-12", str(7 + 5 * index), "50"]
        group.PlanePositionSequence = [position]
        each.append(group)
    return {"SharedFunctionalGroupsSequence": [shared], "PerFrameFunctionalGroupsSequence": each}


@pytest.mark.parametrize("sop_class", ["2.1", "4.1", "7.2", "12.1.1", "13.1.1", "13.1.3", "130"])
def test_dicom_with_functional_groups(tmp_path: Path, write_dicom, sop_class: str) -> None:
    stored = blob((61, 48), (0.42, 0.55))
    elements = {"SOPClassUID": CLASS + sop_class, "NumberOfFrames": 1, **functional_groups(1)}
    check_round_trip(write_dicom(tmp_path / "a.dcm", stored, **elements), [28, 28])
    stored = blob((9, 33, 32), (0.4, 0.42, 0.55))
    elements = {"SOPClassUID": CLASS + sop_class, **functional_groups(9)}
    check_round_trip(write_dicom(tmp_path / "b.dcm", stored, **elements), [16, 16, 8])


@pytest.mark.parametrize("sop_class", ["1.1", "4", "6.1", "7"])
def test_dicom_frames(tmp_path: Path, write_dicom, sop_class: str) -> None:
    elements = {"SOPClassUID": CLASS + sop_class, "SpacingBetweenSlices": "4", "SliceThickness": "3"}
    elements |= {"ImagePositionPatient": ["-12", "7", "50"], "ImageOrientationPatient": ["0", "1", "0", "0", "0", "-1"]}
    stored = blob((9, 33, 32), (0.4, 0.42, 0.55))
    check_round_trip(write_dicom(tmp_path / "a.dcm", stored, PixelSpacing=["0.3", "0.3"], **elements), [16, 16, 8])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_turned_picture(tmp_path: Path, suffix: str, orientation: int) -> None:
    picture, path = Image.fromarray(blob((61, 48), (0.42, 0.55))), tmp_path / f"a{suffix}"
    if suffix == ".tif":
        picture.save(path, tiffinfo={274: orientation}, dpi=(100, 80))
    else:
        exif = Image.Exif()
        exif[274] = orientation
        picture.save(path, exif=exif, **({"dpi": (100, 80), "quality": 100} if suffix == ".jpg" else {}))
    check_round_trip(path, [28, 28])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_tiff(tmp_path: Path, orientation: int) -> None:
    stored = blob((61, 48), (0.42, 0.55))
    Image.fromarray(stored).save(tmp_path / "a.tif", tiffinfo={274: orientation}, dpi=(100, 80))
    upright = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.T,
        6: np.rot90(stored, -1),
        7: stored[::-1, ::-1].T,
        8: np.rot90(stored),
    }[orientation]
    seen = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a.tif")))
    seen = seen if seen.ndim == 2 else seen[..., 0]
    grid = read_grid(tmp_path / "a.tif")
    assert np.array_equal(grid.to_stored(upright)[:, :, 0].T, seen)
    assert grid.pixel_size[0] / grid.pixel_size[1] == pytest.approx(100 / 80 if orientation < 5 else 80 / 100)
    assert np.allclose(np.abs(np.diag(grid.affine))[:2], [25.4 / 100, 25.4 / 80])


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        (".jpg", {"dpi": (100, 50)}),
        (".tif", {"dpi": (100, 50)}),
        (".tif", {"x_resolution": 40.0, "y_resolution": 50.0, "resolution_unit": 3}),
        (".tif", {"x_resolution": 2.0, "y_resolution": 1.0, "resolution_unit": 1}),
        (".png", {"dpi": (100, 50)}),
        (".bmp", {"dpi": (100, 50)}),
    ],
)
def test_picture_with_a_resolution(tmp_path: Path, suffix: str, options: dict[str, object]) -> None:
    picture = blob((50, 100), (0.42, 0.55))
    Image.fromarray(picture).save(tmp_path / f"a{suffix}", **options)
    image = check_round_trip(tmp_path / f"a{suffix}", [28, 28])
    assert "times as high as wide, taken so" in image.meta["warnings"]


def test_array_lies_where_its_picture_does(tmp_path: Path) -> None:
    picture = blob((61, 48), (0.42, 0.55))
    Image.fromarray(picture).save(tmp_path / "a.png")
    read = ReadImage([28, 28], resize=True)
    torch.testing.assert_close(read(picture).affine, read(tmp_path / "a.png").affine)
    check_round_trip(tmp_path / "a.png", [28, 28])
