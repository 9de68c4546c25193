"""NIfTI and NRRD volumes in their own space; MONAI's transforms, and the way back."""

from __future__ import annotations

import gzip
import tracemalloc

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Orientationd, ResizeWithPadOrCropd, ScaleIntensityRanged, Spacingd
from nibabel.affines import apply_affine
from PIL import Image
from scipy.ndimage import center_of_mass

from monai_diffclf.image_io import ReadImage, ReadVolume, ReadVolumed
from monai_diffclf.image_io.map_file import map_to_image_size, nifti_bytes
from monai_diffclf.image_io.volume_file import read_volume_grid
from tests.volume_fixtures import ALL_CODES, affine, phantom, save_nifti, write_series

SPACING = 1.3


def preprocessing(**reader) -> list:
    return [
        ReadVolumed("image", **reader),
        Orientationd("image", axcodes="RAS", labels=None),
        Spacingd("image", pixdim=(SPACING,) * 3, padding_mode="border"),
        ScaleIntensityRanged("image", a_min=-1000, a_max=500, b_min=-1, b_max=1, clip=True),
        ResizeWithPadOrCropd("image", (12, 10, 20)),
    ]


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_values_and_affine_are_those_that_nibabel_reads(tmp_path, name):
    image = save_nifti(tmp_path / name, phantom(), codes="PSL")
    image.header.set_slope_inter(2, -3)
    nibabel.save(image, tmp_path / name)
    found = ReadVolume()(tmp_path / name)
    stored = nibabel.load(tmp_path / name)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found[0].numpy(), stored.get_fdata(), rtol=1e-6)
    np.testing.assert_array_equal(found.affine.numpy(), stored.affine)
    assert found.meta["warnings"] == ""


@pytest.mark.parametrize("codes", ALL_CODES)
def test_a_map_lies_on_its_volume_in_every_orientation(tmp_path, codes):
    values, transforms = phantom(), preprocessing()
    path = tmp_path / "scan.nii.gz"
    source = save_nifti(path, values, codes=codes)
    image = Compose(transforms)({"image": path})["image"]
    blob = ((image.as_tensor()[0] + 1) / 2 - 0.15).clamp(min=0)  # as if a map had found it
    returned = map_to_image_size(blob, image, transforms).numpy()
    (tmp_path / "map.nii.gz").write_bytes(nifti_bytes(returned, read_volume_grid(path)))
    found = nibabel.load(tmp_path / "map.nii.gz")
    assert found.shape == source.shape
    np.testing.assert_allclose(found.affine, source.affine)
    assert "".join(nibabel.aff2axcodes(found.affine)) == codes
    codes_of = [(int(header["sform_code"]), int(header["qform_code"])) for header in (found.header, source.header)]
    assert codes_of[0] == codes_of[1]
    expected = (4.0, 8.0, 3.0)  # voxel of the blob in RAS order
    middle = apply_affine(found.affine, center_of_mass(np.clip(found.get_fdata(), 0, None) ** 2))
    off = np.abs(np.linalg.inv(affine()[:3, :3]) @ (middle - apply_affine(affine(), expected)))
    assert off.max() < 0.5


def test_monais_inverse_gives_the_same_map(tmp_path):
    save_nifti(tmp_path / "scan.nii.gz", phantom(), codes="SAL")
    transforms = preprocessing()
    image = Compose(transforms)({"image": tmp_path / "scan.nii.gz"})["image"]
    found = map_to_image_size(image.as_tensor()[0], image, transforms)
    again = map_to_image_size(image.as_tensor()[0], image, transforms)
    moved = MetaTensor(image.as_tensor(), affine=image.affine, applied_operations=image.applied_operations)
    back = Compose(transforms).inverse({"image": moved})["image"]
    torch.testing.assert_close(back.as_tensor()[0], found)
    torch.testing.assert_close(again, found)
    np.testing.assert_allclose(back.affine.numpy(), nibabel.load(tmp_path / "scan.nii.gz").affine, atol=1e-5)


def test_one_time_point_is_a_volume_and_its_map_has_three_axes(tmp_path):
    path = tmp_path / "a.nii"
    nibabel.save(nibabel.Nifti1Image(phantom()[..., None], affine()), path)
    assert ReadVolume()(path).shape == (1, 14, 12, 10)
    assert read_volume_grid(path).shape == (14, 12, 10)


def test_arrays_and_metatensors_are_taken_with_their_affine():
    volume = ReadVolume()(phantom())
    np.testing.assert_array_equal(volume.affine.numpy(), np.eye(4))
    given = MetaTensor(torch.from_numpy(phantom())[None], affine=torch.from_numpy(affine()))
    np.testing.assert_array_equal(ReadVolume()(given).affine.numpy(), affine())


def nifti(tmp_path, array, matrix=None, sform=1, qform=0):
    image = nibabel.Nifti1Image(array, affine())
    image.set_qform(affine(), qform)
    image.set_sform(affine() if matrix is None else matrix, sform)
    nibabel.save(image, tmp_path / "a.nii")
    return tmp_path / "a.nii"


def test_an_orientation_or_a_spacing_that_is_absent_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected an orientation, got none .*set_sform"):
        ReadVolume()(nifti(tmp_path, phantom(), sform=0))
    flat = affine()
    flat[:3, 1] = 0
    with pytest.raises(ValueError, match="expected an affine with a spacing and a direction for each axis"):
        ReadVolume()(nifti(tmp_path, phantom(), flat))


@pytest.mark.parametrize("unit", ["meter", "micron"])
def test_lengths_that_are_no_millimetres_are_refused(tmp_path, unit):
    image = nibabel.Nifti1Image(phantom(), affine())
    for name, told in ((unit, True), ("mm", False), ("unknown", False)):
        image.header.set_xyzt_units(name)
        nibabel.save(image, tmp_path / f"{name}.nii.gz")
        if told:
            with pytest.raises(ValueError, match=rf"expected an affine in millimetres, got lengths in {unit} \(xyzt"):
                ReadVolume()(tmp_path / f"{name}.nii.gz")
        else:
            assert ReadVolume()(tmp_path / f"{name}.nii.gz").pixdim.tolist() == pytest.approx([1.0, 0.8, 2.5])


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((8, 9, 1), np.int16), r"expected a volume, got a plane image \[8, 9, 1\]"),
        (np.zeros((8, 9), np.int16), r"expected a volume, got a plane image \[8, 9\]"),
        (np.zeros((8, 9, 7, 5), np.int16), "expected one time point, got 5"),
        (np.zeros((8, 9, 7, 5, 3), np.int16), "expected one time point, got 5"),
        (np.zeros((8, 9, 7, 1, 3), np.int16), r"expected one value for each voxel, got 3 in an array \[8, 9, 7, 1, 3"),
        (np.zeros((8, 9, 7), np.complex64), "expected real grey values, got complex64"),
        (np.full((8, 9, 7), np.nan, np.float32), "expected finite pixels, got 504 NaN"),
    ],
)
def test_what_is_no_grey_volume_is_refused(tmp_path, array, words):
    with pytest.raises(ValueError, match=words) as refused:
        ReadVolume()(nifti(tmp_path, array))
    assert "a.nii" in str(refused.value)


def test_planes_and_volumes_do_not_pass_for_each_other(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a.png: .*expected NIfTI, NRRD or DICOM .*got a plane image \(PNG\)"):
        ReadVolume()(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"image \(array\): expected a volume .* got a plane \[8, 8\]"):
        ReadVolume()(np.zeros((8, 8)))
    with pytest.raises(ValueError, match="expected 2 spatial dimensions .*split it into its slices"):
        ReadImage([8, 8])(nifti(tmp_path, phantom()))


def test_a_volume_smaller_than_the_network_needs_is_refused(tmp_path):
    path = nifti(tmp_path, phantom())  # 14 x 9.6 x 25 mm
    assert ReadVolume(min_extent=[14, 9.6, 25])(path).shape == (1, 14, 12, 10)
    with pytest.raises(ValueError, match=r"at least 14 x 9.6 x 26 mm .*feet to head.*got 14 x 9.6 x 25 mm"):
        ReadVolume(min_extent=[14, 9.6, 26])(path)
    turned = tmp_path / "turned.nii"
    save_nifti(turned, phantom(), codes="SPL")
    with pytest.raises(ValueError, match="got 14 x 9.6 x 25 mm"):
        ReadVolumed("image", min_extent=[14, 9.6, 26])({"image": turned})


@pytest.mark.parametrize("bad", [[1, 2], [1, 2, -3], [1, 2, float("nan")]])
def test_a_least_extent_that_is_none_is_refused(bad):
    with pytest.raises(ValueError, match="min_extent: expected None or three lengths"):
        ReadVolume(min_extent=bad)


def test_limits_hold_before_a_file_is_unpacked(tmp_path):
    save_nifti(tmp_path / "a.nii.gz", phantom())
    with pytest.raises(ValueError, match="at most 1,000 pixels, got 14 x 12 x 10 = 1,680"):
        ReadVolume(max_pixels=1000)(tmp_path / "a.nii.gz")


class TestNrrd:
    nrrd = pytest.importorskip("nrrd", reason="pynrrd is not installed")

    def write(self, path, values, **more):
        header = {"space": "left-posterior-superior", "space directions": np.diag([-1, 0.8, 2.5]), **more}
        header = {name: value for name, value in header.items() if value is not None}
        self.nrrd.write(str(path), values, {"space origin": [10.0, 5.0, 30.0], **header})
        return path

    @pytest.mark.parametrize("encoding", ["raw", "gzip"])
    @pytest.mark.parametrize("endian", ["little", "big"])
    def test_a_file_lies_where_simpleitk_puts_it(self, tmp_path, encoding, endian):
        itk = pytest.importorskip("SimpleITK", reason="SimpleITK is not installed")
        values = phantom().astype(">i2" if endian == "big" else "<i2")
        path = self.write(tmp_path / "a.nrrd", values, encoding=encoding, endian=endian)
        found, image = ReadVolume()(path), itk.ReadImage(str(path))
        np.testing.assert_array_equal(found[0].numpy(), itk.GetArrayFromImage(image).transpose(2, 1, 0))
        for corner in ((0, 0, 0), (13, 0, 0), (0, 11, 0), (0, 0, 9)):
            left, back, up = image.TransformIndexToPhysicalPoint(corner)
            np.testing.assert_allclose((found.affine.numpy() @ [*corner, 1])[:3], [-left, -back, up], atol=1e-5)

    @pytest.mark.parametrize(
        ("more", "words"),
        [
            ({"space": None, "space directions": None}, "nothing says where the voxels lie, got space 'none'"),
            ({"space": "scanner-xyz"}, "got space 'scanner-xyz'"),
            ({"space units": ["cm", "cm", "cm"]}, "lengths in millimetres, got 'space units' cm"),
            ({"encoding": "bzip2"}, "the encoding raw or gzip and nothing skipped, got bzip2"),
        ],
    )
    def test_what_does_not_say_enough_is_refused(self, tmp_path, more, words):
        if more.get("space directions", 1) is None:
            more = {**more, "spacings": [1, 1, 1], "space origin": None}
            self.nrrd.write(str(tmp_path / "a.nrrd"), phantom(), {"spacings": [1, 1, 1]})
        else:
            self.write(tmp_path / "a.nrrd", phantom(), **more)
        with pytest.raises(ValueError, match=words):
            ReadVolume()(tmp_path / "a.nrrd")

    def test_values_elsewhere_and_files_cut_off_are_refused(self, tmp_path):
        self.nrrd.write(str(tmp_path / "a.nhdr"), phantom(), detached_header=True)
        (tmp_path / "b.nrrd").write_bytes((tmp_path / "a.nhdr").read_bytes())
        with pytest.raises(ValueError, match="got a header of another file"):
            ReadVolume()(tmp_path / "b.nrrd")
        path = self.write(tmp_path / "c.nrrd", phantom(), encoding="raw")
        path.write_bytes(path.read_bytes()[:-5])
        with pytest.raises(ValueError, match="3,360 bytes of values, got 3,355: the file is cut off"):
            ReadVolume()(path)

    def test_a_stream_that_inflates_to_more_is_read_no_further(self, tmp_path):
        path = self.write(tmp_path / "a.nrrd", phantom(), encoding="gzip")
        head = path.read_bytes().split(b"\n\n")[0] + b"\n\n"
        path.write_bytes(head + gzip.compress(phantom().tobytes(order="F") + bytes(10**7)))
        np.testing.assert_array_equal(ReadVolume()(path)[0].numpy(), phantom())


@pytest.mark.parametrize("kind", ["nifti", "gzip", "series"])
def test_memory_while_reading_is_bounded(tmp_path, kind):
    shape = (96, 96, 40)
    values = np.random.default_rng(0).integers(0, 4000, shape).astype(np.int16)
    if kind == "series":
        path = write_series(tmp_path / "series", values.transpose(2, 1, 0))
    else:
        path = tmp_path / ("a.nii" if kind == "nifti" else "a.nii.gz")
        save_nifti(path, values)
    reader = ReadVolume()
    reader(path)  # what is made once
    tracemalloc.start()
    try:
        kept = reader(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert kept.numel() == values.size
    # What docs/volumes.md says, and 4 MB for what does not grow with the volume.
    assert peak < 16 * values.size + 4_000_000
