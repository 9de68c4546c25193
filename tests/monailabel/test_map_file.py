"""Error maps as files and pictures."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from monai_diffclf.monailabel.image_grid import read_grid
from monai_diffclf.monailabel.map_file import overlay_png, write_map
from tests.monailabel.example_images import make_picture, write_png


@pytest.fixture
def values() -> torch.Tensor:
    """A signed map of the picture's size."""
    return torch.randn(61, 47, generator=torch.Generator().manual_seed(0))


def test_nifti_has_the_grid_of_its_image(images: dict[str, Path], values: torch.Tensor) -> None:
    file = write_map(values, read_grid(images["nifti"]), ".nii.gz")
    written, image = nibabel.load(file), nibabel.load(images["nifti"])
    assert written.shape == image.shape and written.get_data_dtype() == np.float32
    assert np.array_equal(written.affine, image.affine)
    for code in ("sform_code", "qform_code", "xyzt_units"):
        assert written.header[code] == image.header[code]
    # The image is the picture turned upside down and left to right, with the column first.
    assert np.array_equal(written.get_fdata()[:, :, 0], values.numpy()[::-1, ::-1].T)
    file.unlink()


@pytest.mark.parametrize("kind", ["png", "dicom"])
def test_nifti_of_other_formats(images: dict[str, Path], values: torch.Tensor, kind: str) -> None:
    grid = read_grid(images[kind])
    file = write_map(values, grid, ".nii")
    written = nibabel.load(file)
    assert np.array_equal(written.get_fdata()[:, :, 0], values.numpy().T)
    assert np.allclose(written.affine, grid.affine)
    file.unlink()


def test_png_holds_the_signed_values(images: dict[str, Path], values: torch.Tensor) -> None:
    file = write_map(values, read_grid(images["nifti"]), ".png")
    grey = np.asarray(Image.open(file)).astype(np.float64)
    file.unlink()
    largest = float(values.abs().max())
    assert np.allclose((grey - 32768) / 32767 * largest, values.numpy(), atol=largest / 32767)


def test_png_of_nothing_is_zero(images: dict[str, Path]) -> None:
    file = write_map(torch.zeros(4, 5), read_grid(images["png"]), ".png")
    assert (np.asarray(Image.open(file)) == 32768).all()
    file.unlink()


def test_no_png_of_a_volume(images: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="result_extension: expected .nii.gz or .nii for a volume, got .png"):
        write_map(torch.zeros(4, 5, 6), read_grid(images["png"]), ".png")


def test_overlay_has_the_images_size_and_paints_where_the_map_is(images: dict[str, Path]) -> None:
    values = torch.zeros(61, 47)
    values[10:20, 30:40] = 1.0
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(overlay_png(images["png"], values)))))
    assert picture.shape[2] == 3 and picture.shape[0] / picture.shape[1] == pytest.approx(61 / 47)
    factor = picture.shape[0] // 61
    red = picture[..., 0].astype(int) - picture[..., 2]
    assert red[15 * factor, 35 * factor] > 50 and red[45 * factor, 10 * factor] == 0


def test_overlay_of_a_large_image_is_made_smaller(tmp_path: Path) -> None:
    path = write_png(tmp_path / "large.png", make_picture(size=(2100, 900)))
    picture = Image.open(io.BytesIO(base64.b64decode(overlay_png(path, torch.ones(2100, 900)))))
    assert picture.size == (439, 1024)
