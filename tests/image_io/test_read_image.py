"""ReadImage: size, channels, names, and the same tensor whatever the image is stored in."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.data import (
    DataLoader,
    Dataset,
    MetaTensor,
    PersistentDataset,
    decollate_batch,
    list_data_collate,
    set_track_meta,
)
from monai.transforms import CenterSpatialCrop, Compose, DivisiblePadd, Invertd
from PIL import Image
from pydicom.dataset import Dataset as PydicomDataset

from monai_diffclf.image_io import ReadImage, ReadImaged, crop_and_resize, read_grid, read_image_file
from monai_diffclf.image_io.doubts import collect_doubts


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
    repeated = ReadImage(4, channels=3, repeat_grey=True)(grey[..., 0])
    assert torch.equal(repeated, ReadImage(4)(grey[..., 0]).expand(3, -1, -1))
    assert torch.equal(
        ReadImage(4, channels=3, repeat_grey=True)(tmp_path / "colour.png"),
        ReadImage(4, channels=3)(tmp_path / "colour.png"),
    )


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


def test_invertd_brings_a_map_back_through_a_data_loader(tmp_path):
    """The way of an evaluator: a batch, decollated items, and MONAI's own post-transform."""
    Image.fromarray(np.zeros((60, 90), np.uint8)).save(tmp_path / "a.png")
    preprocessing = Compose([ReadImaged("image", 28, resize=True), DivisiblePadd("image", k=8, mode="edge")])
    items = [{"image": str(tmp_path / "a.png")}, {"image": np.zeros((80, 50), np.uint8)}]
    for workers in (0, 1):
        loader = DataLoader(Dataset(items, preprocessing), batch_size=2, num_workers=workers)
        batch = next(iter(loader))
        assert batch["image"].meta["warnings"] == ["every pixel has the same value, 0"] * 2
        batch["map"] = MetaTensor(torch.zeros(2, 1, 32, 32))
        batch["map"][:, :, 2:30, 2:30] = torch.linspace(-1, 1, 28)
        for nearest in (False, True):
            invert = Invertd("map", preprocessing, orig_keys="image", nearest_interp=nearest)
            first, second = (invert(item)["map"] for item in decollate_batch(batch))
            assert first.shape == (1, 60, 90) and second.shape == (1, 80, 50)
            assert not first[:, :, :15].any() and not first[:, :, 75:].any() and first[0, 30, 16] < -0.9
            assert not second[:, :15].any() and not second[:, 65:].any() and second[0, 40, 49] > 0.9
            values = set(np.round(second[0, 40].tolist(), 4))
            assert (len(values) == 28) is nearest
        torch.testing.assert_close(first.affine, torch.tensor(read_grid(tmp_path / "a.png").upright_affine((60, 90))))


def test_items_survive_a_cache_on_disk(tmp_path):
    read = Compose([ReadImaged("image", 8, resize=True)])
    items = [{"image": np.random.default_rng(0).random((10, 14))}]
    for _ in range(2):  # written, then read
        image = PersistentDataset(items, read, tmp_path / "cache", track_meta=True, weights_only=False)[0]["image"]
        assert image.meta["spatial_shape"].tolist() == [10, 14] and image.meta["warnings"] == ""
        torch.testing.assert_close(image.as_tensor(), read(items[0])["image"].as_tensor())


def test_without_metadata_the_pixels_are_the_same():
    array = np.random.default_rng(0).random((20, 30)).astype(np.float32)
    expected = ReadImage(8, resize=True)(array)
    set_track_meta(False)
    try:
        torch.testing.assert_close(ReadImage(8, resize=True)(array).as_tensor(), expected.as_tensor())
    finally:
        set_track_meta(True)


def test_pixels_that_are_not_square_become_so(tmp_path, write_dicom):
    y, x = np.mgrid[0:64, 0:64]
    disc = (((x - 31.5) ** 2 + (y - 31.5) ** 2 < 400)[:, ::2] * 255).astype(np.uint8)
    elements = {
        "spacing": {"PixelSpacing": ["1", "2"]},
        "detector": {"ImagerPixelSpacing": ["0.1", "0.2"]},
        "scanner": {"NominalScannedPixelSpacing": ["0.5", "1"]},
        "ratio": {"PixelAspectRatio": ["1", "2"]},
        "empty": {"PixelSpacing": None, "PixelAspectRatio": ["1", "2"]},
        "zero": {"PixelSpacing": ["0", "0"], "ImagerPixelSpacing": ["1", "2"]},
    }
    measures, group = PydicomDataset(), PydicomDataset()
    measures.PixelSpacing = ["1", "2"]
    group.PixelMeasuresSequence = [measures]
    elements["groups"] = {"SharedFunctionalGroupsSequence": [group]}
    files = [write_dicom(tmp_path / f"{name}.dcm", disc, **values) for name, values in elements.items()]
    nibabel.save(nibabel.Nifti1Image(disc.T[:, :, None], np.diag([-2.0, -1, 1, 1])), tmp_path / "a.nii")
    for name, options in (("a.tif", {"dpi": (50, 100)}), ("a.jpg", {"dpi": (50, 100), "quality": 100})):
        Image.fromarray(disc).save(tmp_path / name, **options)
    for file in [*files, tmp_path / "a.nii", tmp_path / "a.tif", tmp_path / "a.jpg"]:
        seen = ReadImage(28, resize=True)(file)[0].numpy() > 0.5
        assert seen.any(1).sum() == seen.any(0).sum() == 18, file
        wide = ReadImage([28, 56], resize=True)(file)[0].numpy() > 0.5  # rows are cut instead
        assert wide.any(1).sum() == 28 and wide.any(0).sum() == 35, file
        with pytest.raises(
            ValueError, match=r"expected square pixels, got some of .* \(height, width\); set resize=True"
        ):
            ReadImage([64, 32])(file)


def test_inverse_of_an_image_that_fits_and_of_a_map_without_a_trace():
    read = ReadImage(8, resize=True)
    image = read(np.random.default_rng(0).random((8, 8)))
    map_ = MetaTensor(torch.rand(1, 8, 8), affine=image.affine, applied_operations=list(image.applied_operations))
    values = map_.as_tensor().clone()
    returned = read.inverse(map_)
    assert torch.equal(returned.as_tensor(), values) and not returned.applied_operations
    with pytest.raises(ValueError, match="has empty 'applied_operations'"):
        read.inverse(MetaTensor(torch.rand(1, 8, 8)))
    with pytest.raises(RuntimeError, match="getting the most recently applied invertible transform"):
        ReadImage(8).inverse(MetaTensor(torch.rand(1, 8, 8), applied_operations=list(image.applied_operations)))


@pytest.mark.parametrize("size", [(28, 28), (24, 40)])
@pytest.mark.parametrize("shape", [(60, 90), (90, 60), (28, 28), (9, 13)])
def test_tracing_changes_no_value(shape, size):
    """To the bit: the shipped models and their results were made by these two steps."""
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    plain = torch.from_numpy(array)[None] / 255
    factor = min(have / want for have, want in zip(shape, size, strict=True))
    crop = [min(have, max(1, round(want * factor))) for have, want in zip(shape, size, strict=True)]
    expected = CenterSpatialCrop(crop)(plain)
    if expected.shape[1:] != size:
        low, high = expected.amin(), expected.amax()
        expected = torch.nn.functional.interpolate(expected[None], size, mode="bilinear", antialias=True)[0]
        expected = expected.clamp(min=low, max=high)
    assert torch.equal(ReadImage(size, resize=True)(array).as_tensor(), torch.as_tensor(expected).float())
    assert torch.equal(crop_and_resize(plain, size), ReadImage(size, resize=True)(array).as_tensor())


def test_pixels_nearly_square_are_left_alone(tmp_path, write_dicom):
    array = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    file = write_dicom(tmp_path / "a.dcm", array, PixelSpacing=["0.143", "0.1435"])
    torch.testing.assert_close(ReadImage(64)(file).as_tensor(), ReadImage(64)(array).as_tensor(), rtol=0, atol=0)


def test_spacings_that_contradict_each_other_are_named(tmp_path, write_dicom):
    array = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    spacings = {"PixelSpacing": ["1", "2"], "ImagerPixelSpacing": ["1", "1"]}
    read = ReadImage(32, resize=True)
    warnings = read(write_dicom(tmp_path / "a.dcm", array, **spacings)).meta["warnings"]
    assert warnings == "PixelSpacing makes pixels 1 x 2, ImagerPixelSpacing 1 x 1, taken as the first"
    spacings["SOPClassUID"] = "1.2.840.10008.5.1.4.1.1.1.1"
    warnings = read(write_dicom(tmp_path / "a.dcm", array, **spacings)).meta["warnings"]
    assert warnings == "ImagerPixelSpacing makes pixels 1 x 1, PixelSpacing 1 x 2, taken as the first"
    with pytest.raises(ValueError, match=r"b\.dcm: expected pixels that are nearly square, got some of 1 x 50"):
        read(write_dicom(tmp_path / "b.dcm", array, PixelSpacing=["1", "50"]))


def test_spacings_that_are_none_are_named(tmp_path, write_dicom):
    array = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    read = ReadImage(32, resize=True)
    for value in (["0", "0"], ["-1", "1"], ["1"], ["1", "2", "3"]):
        image = read(write_dicom(tmp_path / "a.dcm", array, PixelSpacing=value))
        assert "PixelSpacing is " in image.meta["warnings"] and "left aside" in image.meta["warnings"], value
        torch.testing.assert_close(image.as_tensor(), read(array).as_tensor(), rtol=0, atol=0)
    file = write_dicom(tmp_path / "b.dcm", array, PixelSpacing=["1.25", "1.25"])
    file.write_bytes(file.read_bytes().replace(b"1.25\\1.25", b"1.xx\\1.25"))
    assert read(file).meta["warnings"].startswith("PixelSpacing is ['1.xx', '1.25'], no height and width")


def test_limit_is_passed_on(tmp_path):
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png: "):
        ReadImaged("image", 8, resize=True, max_pixels=500)({"image": tmp_path / "a.png"})
    with pytest.raises(ValueError, match="max_pixels"):
        ReadImage(8, max_pixels=0)


def test_doubts_about_a_file_stay_with_the_image(tmp_path: Path, write_dicom):
    pixels = np.arange(28 * 28, dtype=np.uint16).reshape(28, 28)
    path = write_dicom(tmp_path / "a.dcm", pixels, WindowCenter="400", WindowWidth="-5")
    with pytest.warns(UserWarning, match=r"a\.dcm: WindowWidth"):
        image = ReadImage([28, 28])(path)
    said = image.meta["warnings"].split("; ")
    assert said[0] == "WindowWidth (0028,1051): expected 1 or more for the function LINEAR, got -5, no window is used"
    assert all("a.dcm" not in text for text in said)


def test_doubts_of_another_thread_are_not_collected(tmp_path: Path, write_dicom):
    doubtful = write_dicom(tmp_path / "a.dcm", np.zeros((8, 8), np.uint16), WindowCenter="4", WindowWidth="-5")
    with collect_doubts() as found, pytest.warns(UserWarning), ThreadPoolExecutor(1) as pool:
        pool.submit(read_image_file, doubtful).result()
    assert found == []
