"""Images that cannot be told apart from a bad export, and good ones, of which nothing is said."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from monai_diffclf.image_io import ReadImage, image_warnings, read_image_file


def ramp(*shape: int) -> np.ndarray:
    return np.linspace(0, 1, int(np.prod(shape)), dtype=np.float32).reshape(*shape, 1)


def test_one_value() -> None:
    assert image_warnings(np.full((30, 20, 3), 0.25, np.float32)) == (
        "every pixel has the same value, 0.25, 0.25, 0.25",
    )
    assert image_warnings(np.ones((30, 20, 5, 1), np.float32)) == ("every pixel has the same value, 1",)


@pytest.mark.parametrize(("others", "warns"), [(10, True), (11, False), (1, True)])
def test_one_value_for_99_percent(others: int, warns: bool) -> None:
    image = np.full((25, 40, 1), 0.5, np.float32)
    image.reshape(-1)[:others] = np.linspace(0.6, 0.9, others)
    found = image_warnings(image)
    assert bool(found) is warns
    if others == 1:
        assert found == ("99.9 % of the pixels have the same value, 0.5",)


def test_colours_count_as_a_whole() -> None:
    # Each channel is nearly everywhere 0, the pixels are not.
    image = np.zeros((40, 40, 3), np.float32)
    image[:, :, 0], image[:20, :, 1] = 0.5, 0.1
    assert image_warnings(image) == ()
    image[:, :, 1] = 0.1
    assert image_warnings(image)


def test_too_small() -> None:
    assert image_warnings(ramp(1, 1))[-1] == "only 1 x 1 pixels"
    assert image_warnings(ramp(6, 40), [28, 28]) == ("only 6 x 40 pixels, where the network sees 28 x 28",)
    assert image_warnings(ramp(7, 7), [28, 28]) == ()
    assert image_warnings(ramp(20, 20, 1), [16, 16, 16]) == (
        "only 20 x 20 x 1 pixels, where the network sees 16 x 16 x 16",
    )
    with pytest.raises(ValueError, match="expected an image"):
        image_warnings(np.zeros((0, 4, 1), np.float32))


def test_reader_keeps_them(tmp_path) -> None:
    Image.fromarray(np.zeros((50, 60), np.uint8)).save(tmp_path / "black.png")
    read = ReadImage([28, 28], resize=True)
    assert read(tmp_path / "black.png").meta["warnings"] == "every pixel has the same value, 0"
    assert read(np.full((1, 1), 9, np.uint8)).meta["warnings"] == (
        "every pixel has the same value, 0.0353; only 1 x 1 pixels, where the network sees 28 x 28"
    )
    assert read(ramp(50, 60)[..., 0]).meta["warnings"] == ""


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm", "RG1_UNCR.dcm", "JPEG2000.dcm"])
def test_good_dicom_files(name: str) -> None:
    path = get_testdata_file(name, download=False)
    if path is None:
        pytest.skip(f"pydicom's {name} is not installed")
    image = read_image_file(path)
    assert image_warnings(image[:, :, :, 0] if image.ndim == 4 else image) == ()


@pytest.mark.parametrize(
    ("folder", "size"), [("kermany_cxr_224", 28), ("busi_256", 28), ("isic2017_256", 64), ("pneumoniamnist_28", 28)]
)
def test_good_images_of_the_data_sets(dataset, folder: str, size: int) -> None:
    root = dataset(folder)
    if folder == "pneumoniamnist_28":
        images = np.load(root / "pneumoniamnist.npz")["val_images"][..., None]
    else:
        images = [np.atleast_3d(np.asarray(Image.open(file))) for file in sorted(root.rglob("*.jp*g"))[::40]]
    assert len(images) > 10
    found = [image_warnings(np.asarray(image, np.float32) / 255, [size, size]) for image in images]
    assert found == [()] * len(found)
