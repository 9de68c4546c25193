"""The way back from the network's grid to that of the image file."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from nibabel.affines import apply_affine
from pydicom import dcmread
from pydicom.uid import DigitalXRayImageStorageForPresentation

from monai_diffclf.image_io import crop_and_resize, read_image_file
from monai_diffclf.monailabel.image_grid import read_grid, undo_crop_and_resize
from tests.monailabel.example_images import AFFINE, COLUMN_SPACING, POSITION, ROW_SPACING


@pytest.mark.parametrize(
    ("size", "network"),
    [((61, 47), (28, 28)), ((60, 90), (32, 24)), ((300, 200), (28, 28)), ((9, 13), (28, 28)), ((28, 28), (28, 28))],
)
def test_positions_come_back_to_where_they_were(size: tuple[int, int], network: tuple[int, int]) -> None:
    # Every pixel holds its own coordinates; interpolation keeps what is linear, so they must return unchanged, but
    # for the antialiasing, whose weights are not quite symmetric.
    positions = torch.stack(torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in size), indexing="ij"))
    returned = torch.stack([undo_crop_and_resize(plane, size) for plane in crop_and_resize(positions, network)])
    ones = undo_crop_and_resize(torch.ones(network), size)
    inside = ones > 0.5
    # Where an edge is near, resizing repeats it.
    margin = int(np.ceil(2 * max(max(have / want, want / have) for have, want in zip(size, network, strict=True))))
    core = torch.nn.functional.avg_pool2d(inside[None].float(), 2 * margin + 1, 1, margin)[0] == 1
    assert core.any() or size == (9, 13)
    assert torch.allclose(returned[:, core], positions[:, core], atol=0.1)
    assert torch.equal(returned[:, ~inside], torch.zeros_like(returned[:, ~inside]))


def test_outside_the_crop_is_zero_and_the_crop_is_centred() -> None:
    whole = undo_crop_and_resize(torch.ones(28, 28), (61, 47))
    assert whole.shape == (61, 47)
    assert torch.equal(whole[7:54], torch.ones(47, 47))
    assert not whole[:7].any() and not whole[54:].any()


def test_one_pixel_of_the_network_lands_on_its_pixels_of_the_image() -> None:
    values = torch.zeros(28, 28)
    values[3, 20] = 1.0
    whole = undo_crop_and_resize(values, (61, 47))
    row, column = divmod(int(whole.argmax()), 47)
    # Centre of network pixel i is at (i + 1/2) 47 / 28 in the crop, which starts at row 7.
    assert abs(row + 0.5 - (7 + 3.5 * 47 / 28)) <= 1 and abs(column + 0.5 - 20.5 * 47 / 28) <= 1


def test_volume() -> None:
    whole = undo_crop_and_resize(torch.ones(4, 4, 4), (8, 8, 12))
    assert torch.equal(whole[..., 2:10], torch.ones(8, 8, 8)) and not whole[..., :2].any()


def test_nifti_returns_to_its_stored_order(images: dict[str, Path]) -> None:
    stored, grid = nibabel.load(images["nifti"]), read_grid(images["nifti"])
    upright = read_image_file(images["nifti"])[..., 0]
    assert np.array_equal(grid.to_stored(np.rint(255 * upright)), np.asarray(stored.dataobj))
    assert np.allclose(grid.affine, AFFINE) and grid.flipped == (0, 1)


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 1), (5, 4, 3), (5, 4, 1, 1)])
@pytest.mark.parametrize("affine", [np.diag([2.0, 2, 2, 1]), np.diag([-1.0, 3, 1, 1]), np.eye(4)])
def test_nifti_of_any_shape(tmp_path: Path, shape: tuple[int, ...], affine: np.ndarray) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    nibabel.save(nibabel.Nifti1Image(array, affine), tmp_path / "image.nii")
    upright = np.rint(255 * read_image_file(tmp_path / "image.nii")[..., 0])
    assert np.array_equal(read_grid(tmp_path / "image.nii").to_stored(upright), array.reshape(shape[:3]))


def test_dicom_affine(images: dict[str, Path]) -> None:
    affine = read_grid(images["dicom"]).affine
    # The centre of column 10, row 20 in DICOM's axes; NIfTI's x and y are the opposite.
    x, y, z = POSITION[0] + 10 * COLUMN_SPACING, POSITION[1], POSITION[2] - 20 * ROW_SPACING
    assert np.allclose(apply_affine(affine, [10, 20, 0]), [-x, -y, z])


def test_dicom_without_a_place_has_its_spacing(images: dict[str, Path], tmp_path: Path) -> None:
    dataset = dcmread(images["dicom"])
    del dataset.PixelSpacing, dataset.ImagePositionPatient, dataset.ImageOrientationPatient
    # Of a secondary capture ITK leaves the spacing at a detector aside.
    dataset.ImagerPixelSpacing = [0.2, 0.1]
    dataset.save_as(tmp_path / "plain.dcm")
    assert np.allclose(read_grid(tmp_path / "plain.dcm").affine, np.diag([-1, -1, 1, 1]))
    dataset.SOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.save_as(tmp_path / "plain.dcm")
    assert np.allclose(read_grid(tmp_path / "plain.dcm").affine, np.diag([-0.1, -0.2, 1, 1]))


def test_picture_lies_where_itk_puts_it(images: dict[str, Path]) -> None:
    grid = read_grid(images["png"])
    assert np.array_equal(grid.affine, np.diag([-1, -1, 1, 1]))
    assert grid.to_stored(np.zeros((61, 47))).shape == (47, 61, 1)
