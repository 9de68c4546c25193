"""ReadImage: size, channels, names, and the same tensor whatever the image is stored in."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor, list_data_collate
from PIL import Image

from monai_diffclf.image_io import ReadImage, ReadImaged, crop_and_resize


def test_array_png_dicom_and_nifti_give_the_same_tensor(tmp_path, asymmetric, write_dicom):
    Image.fromarray(asymmetric).save(tmp_path / "a.png")
    write_dicom(tmp_path / "a.dcm", asymmetric)
    nibabel.save(nibabel.Nifti1Image(asymmetric.T[..., None], np.eye(4)), tmp_path / "a.nii.gz")
    read = ReadImage([6, 8])
    expected = torch.from_numpy(asymmetric)[None] / 255
    sources = [asymmetric, asymmetric[..., None], np.asfortranarray(asymmetric), torch.from_numpy(asymmetric)]
    for source in [*sources, *(tmp_path / name for name in ("a.png", "a.dcm", "a.nii.gz")), str(tmp_path / "a.png")]:
        image = read(source)
        assert isinstance(image, MetaTensor)
        assert image.dtype == torch.float32
        torch.testing.assert_close(image.as_tensor(), expected)


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.full((4, 4), 65535, dtype=np.uint16), 1.0),
        (np.full((4, 4), True), 1.0),
        (np.full((4, 4), 0.25), 0.25),
    ],
)
def test_array_types(array, expected):
    assert float(ReadImage(4)(array).max()) == expected


def test_wrong_arrays_are_named():
    read = ReadImage([4, 4])
    with pytest.raises(ValueError, match=r"case 7: expected an array \[H, W\].*got \[3, 4, 4\]; channels come last"):
        read(np.zeros((3, 4, 4), dtype=np.uint8), name="case 7")
    with pytest.raises(ValueError, match=r"image \(array\): expected float pixels in \[0, 1\], got \[3, 3\]"):
        read(np.full((4, 4), 3.0))
    with pytest.raises(ValueError, match="expected finite pixels, got 16 NaN or infinite"):
        read(np.full((4, 4), np.inf))
    with pytest.raises(TypeError, match="expected a path, an array or a tensor, got list"):
        read([[1, 2], [3, 4]])


def test_wrong_arguments():
    for size in ([4], [0, 4], [4.0, 4], 0):
        with pytest.raises(ValueError, match="spatial_size: expected two or three positive integers"):
            ReadImage(size)
    with pytest.raises(ValueError, match=r"channels: expected 1 .* or 3 .*, got 2"):
        ReadImage(4, channels=2)


def test_channels(tmp_path):
    colour = np.zeros((4, 4, 3), dtype=np.uint8)
    colour[..., 0] = 200
    Image.fromarray(colour).save(tmp_path / "colour.png")
    assert ReadImage(4, channels=3)(tmp_path / "colour.png").shape == (3, 4, 4)
    with pytest.raises(
        ValueError, match=r"colour\.png: expected 1 channel\(s\), got 3; set channels=3 .* to grey first"
    ):
        ReadImage(4)(tmp_path / "colour.png")
    grey = np.dstack([np.arange(16, dtype=np.uint8).reshape(4, 4)] * 3)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    torch.testing.assert_close(ReadImage(4)(tmp_path / "grey.png").as_tensor(), torch.arange(16.0).view(1, 4, 4) / 255)
    assert ReadImage(4, channels=3)(tmp_path / "grey.png").shape == (3, 4, 4)
    with pytest.raises(ValueError, match=r"expected 3 channel\(s\), got 1; set channels=1 .* to colour first"):
        ReadImage(4, channels=3)(grey[..., 0])


def test_size_is_an_error_unless_resize(tmp_path):
    Image.fromarray(np.zeros((10, 20), dtype=np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(
        ValueError, match=r"a\.png: expected an image of size \[5, 5\].*got \[10, 20\]; set resize=True"
    ):
        ReadImage(5)(tmp_path / "a.png")
    image = ReadImage(5, resize=True)(tmp_path / "a.png")
    assert image.shape == (1, 5, 5)
    assert image.meta["spatial_shape"].tolist() == [10, 20]


def test_resize_crops_the_centre_and_keeps_the_shape_of_things():
    image = np.zeros((40, 80), dtype=np.float32)
    image[:, 20:60] = np.linspace(0, 1, 40, dtype=np.float32)[:, None]
    image[:, :20] = image[:, 60:] = 1
    resized = ReadImage(10, resize=True)(image).as_tensor()[0]
    # The bright sides are cut off, and what is left depends on the row alone.
    torch.testing.assert_close(resized, resized[:, :1].expand(10, 10))
    torch.testing.assert_close(resized[:, 0], torch.linspace(0, 1, 40).view(10, 4).mean(1), atol=0.03, rtol=0)


def test_resize_is_antialiased_and_reaches_any_size(device):
    board = torch.from_numpy(np.indices((64, 64)).sum(0) % 2).float()[None].to(device)
    inner = crop_and_resize(board, [8, 8])[:, 1:-1, 1:-1]
    torch.testing.assert_close(inner, torch.full_like(inner, 0.5), atol=0.02, rtol=0)
    for shape in ((1, 1), (3, 100), (100, 3), (7, 7)):
        for size in ((8, 8), (5, 9), (1, 1)):
            resized = crop_and_resize(torch.rand(1, *shape, device=device), size)
            assert resized.shape == (1, *size)
            assert 0 <= resized.min() <= resized.max() <= 1


def test_volumes(tmp_path, write_dicom):
    frames = np.random.default_rng(0).integers(0, 256, (5, 6, 8), dtype=np.uint8)
    file = write_dicom(tmp_path / "a.dcm", frames)
    volume = ReadImage([6, 8, 5])(file)
    torch.testing.assert_close(volume.as_tensor()[0], torch.from_numpy(np.moveaxis(frames, 0, -1)) / 255)
    torch.testing.assert_close(ReadImage([6, 8, 5])(np.moveaxis(frames, 0, -1)).as_tensor(), volume.as_tensor())
    assert ReadImage([3, 4, 4], resize=True)(file).shape == (1, 3, 4, 4)
    with pytest.raises(ValueError, match=r"a\.dcm: expected 2 spatial dim.*got \[6, 8, 5\]; split it into its slices"):
        ReadImage([6, 8])(file)
    with pytest.raises(ValueError, match=r"expected 3 spatial dim.*got \[6, 8\]; give a file with several slices"):
        ReadImage([6, 8, 5])(write_dicom(tmp_path / "b.dcm", frames[0]))


def test_dictionary_form_names_the_image_and_collates(tmp_path):
    array = np.zeros((4, 4), dtype=np.uint8)
    Image.fromarray(array).save(tmp_path / "a.png")
    read = ReadImaged("image", 4)
    item = {"image": array, "label": 1, "key": "abc"}
    items = [read(item), read({"image": str(tmp_path / "a.png"), "label": 0, "key": "a.png"})]
    assert item["image"] is array
    batch = list_data_collate(items)
    assert batch["image"].shape == (2, 1, 4, 4)
    assert batch["image"].meta["filename_or_obj"] == ["abc", str(tmp_path / "a.png")]
    with pytest.raises(KeyError, match="mask"):
        ReadImaged(["image", "mask"], 4)(item)
    assert "mask" not in ReadImaged(["image", "mask"], 4, allow_missing_keys=True)(item)


def test_real_xrays_saved_as_colour_are_grey(dataset):
    folder = dataset("kermany_cxr_224") / "images" / "NORMAL"
    for file in sorted(folder.iterdir())[:10]:
        assert ReadImage(224)(file).shape == (1, 224, 224)
