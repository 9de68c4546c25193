"""NIfTI files: any orientation, form of affine, type of voxel; what is refused."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nibabel.orientations import apply_orientation, axcodes2ornt, ornt_transform
from PIL import Image

from monai_diffclf.image_io import ReadImage, read_grid, read_image_file

AFFINE = np.diag([2.0, 3.0, 4.0, 1.0])
PLANE = np.random.default_rng(0).integers(0, 256, (5, 6, 1), dtype=np.uint8)
TEST_DATA = Path(nibabel.__file__).parent / "tests" / "data"


def save(path: Path, image: object) -> Path:
    nibabel.save(image, path)
    return path


def with_sform(array: np.ndarray, affine: np.ndarray) -> nibabel.Nifti1Image:
    """An affine as it is, which nibabel itself would refuse."""
    image = nibabel.Nifti1Image(array, None)
    image.header["sform_code"] = 1
    for name, row in zip(("srow_x", "srow_y", "srow_z"), affine, strict=False):
        image.header[name] = row
    return image


@pytest.mark.parametrize("codes", [(x, y, z) for x, y, z in product("RL", "AP", "SI")], ids="".join)
def test_values_of_axial_planes_are_what_they_were(tmp_path: Path, codes: tuple[str, str, str]) -> None:
    affine = np.diag([0.7 if code in "RAS" else -0.7 for code in codes] + [1.0])
    expected = PLANE[:, :, 0]
    expected = expected[::-1] if codes[0] == "R" else expected
    expected = expected[:, ::-1] if codes[1] == "A" else expected
    image = read_image_file(save(tmp_path / "a.nii", nibabel.Nifti1Image(PLANE, affine)))
    assert np.array_equal(image[..., 0], (expected.T / np.float32(255)).astype(np.float32))


def test_rows_stored_first(tmp_path: Path) -> None:
    # Axis 0 points to the back and axis 1 to the left: stored as a screen has it.
    image = np.zeros((40, 30, 1), np.int16)
    image[:10] = 100
    affine = np.array([[0, -1, 0, 0], [-1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    read = read_image_file(save(tmp_path / "a.nii.gz", nibabel.Nifti1Image(image, affine)))
    assert np.array_equal(read[..., 0], image[..., 0] / 100)


@pytest.mark.parametrize(("across", "upright"), [("S", "PL"), ("A", "IL"), ("R", "IP")])
def test_planes_hang_as_in_a_viewer(tmp_path: Path, across: str, upright: str) -> None:
    canonical = np.random.default_rng(1).integers(0, 256, (6, 7, 8), dtype=np.uint8)
    canonical = np.take(canonical, [3], axis="RAS".index(across))
    start = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt((*upright, across)))
    expected = apply_orientation(canonical, start)[:, :, 0]
    for stored in ("RAS", "LPI", "SAR", "PIL", "IRA"):
        ornt = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(stored))
        array = apply_orientation(canonical, ornt)
        affine = np.eye(4) * (2, 2, 2, 1) @ nibabel.orientations.inv_ornt_aff(ornt, canonical.shape)
        image = read_image_file(save(tmp_path / "a.nii", nibabel.Nifti1Image(array, affine)))
        assert np.array_equal(np.rint(255 * image[..., 0]), expected), stored


def test_volume_does_not_depend_on_how_it_is_stored(tmp_path: Path) -> None:
    canonical = np.random.default_rng(1).integers(0, 256, (6, 7, 8), dtype=np.uint8)
    expected = canonical[::-1, ::-1].transpose(1, 0, 2)
    for stored in ("RAS", "LPI", "SAR", "PIL", "IRA"):
        ornt = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(stored))
        affine = AFFINE @ nibabel.orientations.inv_ornt_aff(ornt, canonical.shape)
        file = save(tmp_path / "a.nii", nibabel.Nifti1Image(apply_orientation(canonical, ornt), affine))
        image = read_image_file(file)[..., 0]
        assert np.array_equal(np.rint(255 * image), expected), stored
        assert np.array_equal(read_grid(file).to_stored(np.rint(255 * image)), apply_orientation(canonical, ornt))
        assert read_grid(file).pixel_size == pytest.approx((3, 2, 4))


def test_forms_of_the_affine(tmp_path: Path) -> None:
    flipped = PLANE[::-1, ::-1, 0].T / np.float32(255)
    qform = nibabel.Nifti1Image(PLANE, None)
    qform.set_qform(AFFINE, 1)
    qform.set_sform(None, 0)
    sform = nibabel.Nifti1Image(PLANE, None)
    sform.set_sform(AFFINE, 2)
    sform.set_qform(None, 0)
    for image in (qform, sform, nibabel.Nifti2Image(PLANE, AFFINE), with_sform(PLANE, AFFINE * [1, 1, 0, 1])):
        assert np.array_equal(read_image_file(save(tmp_path / "a.nii", image))[..., 0], flipped.astype(np.float32))
    neither = nibabel.Nifti1Image(PLANE, None)
    neither.header.set_zooms((1, 2, 1))
    file = save(tmp_path / "a.nii", neither)
    assert np.array_equal(read_image_file(file)[..., 0], (PLANE[:, :, 0].T / np.float32(255)).astype(np.float32))
    assert read_grid(file).pixel_size == (2, 1, 1)


def test_contradicting_forms_are_named(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.repeat(np.repeat(PLANE, 5, 0), 5, 1), AFFINE)
    image.set_sform(AFFINE, 1)
    image.set_qform(np.diag([-2.0, 3, 4, 1]), 1)
    read = ReadImage(20, resize=True)(save(tmp_path / "a.nii", image))
    assert "sform (RAS) and qform (LAS) orient the image differently" in read.meta["warnings"]


@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 1), (5, 6, 1, 1), (5, 6, 1, 1, 1), (5, 1, 6), (1, 5, 6)])
def test_shapes_of_a_plane(tmp_path: Path, shape: tuple[int, ...]) -> None:
    file = save(tmp_path / "a.nii", nibabel.Nifti1Image(PLANE.reshape(shape), AFFINE))
    image = read_image_file(file)
    assert image.shape == (6, 5, 1)
    back = read_grid(file).to_stored(np.rint(255 * image[..., 0]))
    assert np.array_equal(back, PLANE.reshape(shape[:3]))


@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 1), (5, 1, 6), (1, 5, 6), (1, 5, 6, 1)])
@pytest.mark.parametrize("zooms", [None, (2, 3)])
def test_a_plane_without_orientation_is_read_alike_wherever_its_one_slice_is(
    tmp_path: Path, shape: tuple[int, ...], zooms: tuple[int, int] | None
) -> None:
    stored = nibabel.Nifti1Image(PLANE.reshape(shape), np.eye(4) if zooms is None else None)
    if zooms is not None:  # neither sform nor qform, but sizes of voxels
        sizes = iter(zooms)
        stored.header.set_zooms([next(sizes) if size > 1 else 1 for size in shape])
    file = save(tmp_path / "a.nii", stored)
    image = read_image_file(file)
    assert np.array_equal(image[..., 0], (PLANE[:, :, 0].T / np.float32(255)).astype(np.float32))
    assert np.array_equal(read_grid(file).to_stored(np.rint(255 * image[..., 0])), PLANE.reshape(shape[:3]))
    assert read_grid(file).pixel_size[:2] == ((1, 1) if zooms is None else (3, 2))
    assert ReadImage([6, 5], resize=True)(file).shape == (1, 6, 5)


def test_colours_and_slopes(tmp_path: Path) -> None:
    names = ("R", "G", "B", "A")
    colour = np.zeros(PLANE.shape, dtype=[(name, "u1") for name in names])
    colour["G"], colour["A"] = PLANE, 255
    image = read_image_file(save(tmp_path / "a.nii", nibabel.Nifti1Image(colour, AFFINE)))
    assert image.shape == (6, 5, 3)
    assert np.array_equal(np.rint(255 * image[..., 1]), PLANE[::-1, ::-1, 0].T)
    colour["A"][2, 2] = 7
    with pytest.raises(ValueError, match=r"a\.nii: .*expected opaque pixels, got transparent ones"):
        read_image_file(save(tmp_path / "a.nii", nibabel.Nifti1Image(colour, AFFINE)))
    scaled = nibabel.Nifti1Image(PLANE.astype(np.int16), AFFINE)
    scaled.header.set_slope_inter(-2, 3)
    image = read_image_file(save(tmp_path / "a.nii", scaled))[..., 0]
    values = PLANE[::-1, ::-1, 0].T.astype(float)
    assert np.allclose(image, (values.max() - values) / np.ptp(values), atol=1e-3)


@pytest.mark.parametrize(
    ("image", "text"),
    [
        (nibabel.Nifti1Image(PLANE.astype(np.complex64), AFFINE), "expected real pixels, got complex ones"),
        (nibabel.Nifti1Image(PLANE.reshape(-1), AFFINE), r"\[X, Y, Z\], got \[30\]"),
        (nibabel.Nifti1Image(np.stack([PLANE] * 3, -1), AFFINE), r"\[X, Y, Z\], got \[5, 6, 1, 3\]"),
        (with_sform(np.repeat(PLANE, 3, 2), AFFINE * [1, 1, 0, 1]), r"affine \(sform\) whose columns point somewhere"),
        (with_sform(PLANE, AFFINE * [0, 0, 0, 1]), r"affine \(sform\) whose columns point somewhere"),
        (with_sform(PLANE, AFFINE + np.diag([np.nan, 0, 0, 0])), r"expected a finite affine \(sform\)"),
    ],
)
def test_what_is_refused(tmp_path: Path, image: object, text: str) -> None:
    with pytest.raises(ValueError, match=rf"a\.nii: .*{text}") as caught:
        read_image_file(save(tmp_path / "a.nii", image))
    assert "\n" not in str(caught.value)


def test_half_of_a_pair_is_refused(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Pair(PLANE, AFFINE), tmp_path / "a.hdr")
    with pytest.raises(ValueError, match=r"a\.hdr: .*half of a pair of \.hdr and \.img; write one with nibabel\.save"):
        read_image_file(tmp_path / "a.hdr")
    with pytest.raises(ValueError, match=r"a\.img: .*cannot be read as an image"):
        read_image_file(tmp_path / "a.img")


@pytest.mark.parametrize("name", ["anatomical.nii", "reoriented_anat_moved.nii", "standard.nii.gz"])
def test_nibabels_own_volumes(name: str) -> None:
    if not (TEST_DATA / name).is_file():
        pytest.skip("nibabel is installed without its test data")
    file = nibabel.as_closest_canonical(nibabel.load(TEST_DATA / name))
    array = np.asarray(file.dataobj, dtype=np.float64)[::-1, ::-1].transpose(1, 0, 2)
    expected = (array - array.min()) / np.ptp(array) if array.dtype != np.uint8 else array / 255
    image = read_image_file(TEST_DATA / name)[..., 0]
    assert np.allclose(image, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("example4d.nii.gz", r"got \[128, 96, 24, 2\]"),
        ("functional.nii", r"got \[17, 21, 3, 20\]"),
        ("row_major.dconn.nii", "got a Cifti2Image"),
        ("nifti1.hdr", "half of a pair"),
        ("analyze.hdr", "cannot be read as an image"),
        ("resampled_anat_moved.nii", "expected finite pixels, got 1071 NaN"),
    ],
)
def test_nibabels_other_files_are_refused(name: str, text: str) -> None:
    if not (TEST_DATA / name).is_file():
        pytest.skip("nibabel is installed without its test data")
    with pytest.raises(ValueError, match=text) as caught:
        read_image_file(TEST_DATA / name)
    assert "\n" not in str(caught.value)


def test_a_window_of_stored_values(tmp_path):
    """Values that become 0 and 1, whatever the file's own extremes; only for NIfTI."""
    values = np.array([[-2000.0, -1000.0], [0.0, 1000.0]], dtype=np.float32)
    nibabel.save(nibabel.Nifti1Image(values[..., None], np.eye(4)), tmp_path / "a.nii")
    read = ReadImage([2, 2], window=[-1000, 1000])
    assert sorted(read(tmp_path / "a.nii").flatten().tolist()) == [0.0, 0.0, 0.5, 1.0]
    Image.new("L", (2, 2)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="expected a NIfTI file, as a window"):
        read(tmp_path / "a.png")
    for window in ([1, 1], [1], 5, ["a", "b"]):
        with pytest.raises(ValueError, match="window: expected None or two rising numbers"):
            ReadImage([2, 2], window=window)
