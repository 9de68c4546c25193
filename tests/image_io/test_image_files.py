"""Each file format gives the pixels that a viewer shows."""

from __future__ import annotations

import warnings
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset

from monai_diffclf.image_io import read_image_file
from monai_diffclf.image_io.image_files import is_image_file, merge_equal_channels, scale_by_type


def save_nifti(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4) if affine is None else affine), path)
    return path


def test_every_format_shows_the_same_picture(tmp_path, asymmetric, write_dicom):
    expected = (asymmetric / np.float32(255))[..., None]
    files = [tmp_path / "a.png", tmp_path / "a.tiff", tmp_path / "a.bmp"]
    for file in files:
        Image.fromarray(asymmetric).save(file)
    files.append(write_dicom(tmp_path / "a.dcm", asymmetric))
    files.append(write_dicom(tmp_path / "no_suffix", asymmetric))
    files.append(save_nifti(tmp_path / "a.nii.gz", asymmetric.T))
    files.append(save_nifti(tmp_path / "b.nii", asymmetric.T[..., None]))
    files.append(save_nifti(tmp_path / "float.nii", asymmetric.T.astype(np.float32) * 7 - 300))
    for file in files:
        np.testing.assert_allclose(read_image_file(file), expected, atol=1e-6, err_msg=file.name)
        assert is_image_file(file), file.name


def test_jpeg_is_upright_and_its_exif_orientation_is_applied(tmp_path, asymmetric):
    large = np.kron(asymmetric, np.ones((16, 16), dtype=np.uint8))
    Image.fromarray(large).save(tmp_path / "a.jpg", quality=95)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise when shown
    Image.fromarray(np.rot90(large)).save(tmp_path / "turned.jpg", quality=95, exif=exif)
    for name in ("a.jpg", "turned.jpg"):
        np.testing.assert_allclose(read_image_file(tmp_path / name)[..., 0], large / 255, atol=0.15)


def test_pictures_of_other_modes(tmp_path, asymmetric):
    expected = asymmetric / np.float32(255)
    Image.fromarray(asymmetric.astype(np.uint16) * 257).save(tmp_path / "16.png")
    np.testing.assert_allclose(read_image_file(tmp_path / "16.png")[..., 0], expected, atol=1e-6)
    Image.fromarray(expected).save(tmp_path / "float.tiff")
    np.testing.assert_allclose(read_image_file(tmp_path / "float.tiff")[..., 0], expected, atol=1e-6)
    Image.fromarray(asymmetric > 50).save(tmp_path / "1.png")
    np.testing.assert_array_equal(read_image_file(tmp_path / "1.png")[..., 0], asymmetric > 50)
    Image.fromarray(asymmetric).convert("P").save(tmp_path / "palette.png")
    palette = read_image_file(tmp_path / "palette.png")
    assert palette.shape == (6, 8, 3)
    np.testing.assert_allclose(merge_equal_channels(palette)[..., 0], expected, atol=1e-6)
    opaque = np.dstack([asymmetric, asymmetric.T.reshape(6, 8), asymmetric, np.full_like(asymmetric, 255)])
    Image.fromarray(opaque).save(tmp_path / "rgba.png")
    np.testing.assert_allclose(read_image_file(tmp_path / "rgba.png"), opaque[..., :3] / 255, atol=1e-6)


def test_pictures_that_are_refused(tmp_path, asymmetric):
    see_through = np.dstack([asymmetric] * 4)
    Image.fromarray(see_through).save(tmp_path / "rgba.png")
    with pytest.raises(ValueError, match=r"rgba\.png: .*transparent ones; flatten the file"):
        read_image_file(tmp_path / "rgba.png")
    Image.fromarray(np.full((4, 4), 7, dtype=np.int32)).save(tmp_path / "32.tiff")
    with pytest.raises(ValueError, match=r"32\.tiff: .*8 or 16 bits for a pixel, got 32"):
        read_image_file(tmp_path / "32.tiff")
    pages = [Image.fromarray(asymmetric), Image.fromarray(asymmetric)]
    pages[0].save(tmp_path / "pages.tiff", save_all=True, append_images=pages[1:])
    with pytest.raises(ValueError, match=r"pages\.tiff: .*expected one picture, got a file with 2"):
        read_image_file(tmp_path / "pages.tiff")
    for value, text in ((np.nan, "finite pixels, got 48 NaN"), (2.0, r"float pixels in \[0, 1\], got \[2, 2\]")):
        Image.fromarray(np.full((6, 8), value, dtype=np.float32)).save(tmp_path / "f.tiff")
        with pytest.raises(ValueError, match=rf"f\.tiff: .*{text}"):
            read_image_file(tmp_path / "f.tiff")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".dcm", ".nii", ".nii.gz", ".xyz"])
def test_absent_empty_and_damaged_files_are_named(tmp_path, suffix):
    file = tmp_path / f"image{suffix}"
    with pytest.raises(ValueError, match=rf"image{suffix}: expected an image file, but there is none"):
        read_image_file(file)
    file.write_bytes(b"")
    with pytest.raises(ValueError, match=rf"image{suffix}: .* it is empty \(0 bytes\)"):
        read_image_file(file)
    file.write_bytes(b"not an image at all" * 50)
    with pytest.raises(ValueError, match=rf"image{suffix}: cannot be read as an image: (?!ValueError).+"):
        read_image_file(file)
    with pytest.raises(ValueError, match="expected an image file, got a folder"):
        read_image_file(tmp_path)


def test_truncated_files_are_refused(tmp_path, write_dicom):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    Image.fromarray(noise).save(tmp_path / "a.jpg")
    write_dicom(tmp_path / "a.dcm", noise)
    save_nifti(tmp_path / "a.nii", noise)
    save_nifti(tmp_path / "a.nii.gz", noise)
    for file in tmp_path.iterdir():
        file.write_bytes(file.read_bytes()[:-1500])
        with pytest.raises(ValueError, match=f"{file.name}: cannot be read as an image"):
            read_image_file(file)


def test_dicom_monochrome1_is_inverted(tmp_path, asymmetric, write_dicom):
    file = write_dicom(tmp_path / "a.dcm", 255 - asymmetric, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_allclose(read_image_file(file)[..., 0], asymmetric / 255, atol=1e-6)


def test_dicom_bits_stored_scale_the_image(tmp_path, write_dicom):
    stored = np.array([[0, 1000], [2048, 4095]], dtype=np.uint16)
    file = write_dicom(tmp_path / "a.dcm", stored, BitsStored=12)
    np.testing.assert_allclose(read_image_file(file)[..., 0], stored / 4095, atol=1e-6)
    signed = np.array([[-2048, 0], [1000, 2047]], dtype=np.int16)
    file = write_dicom(tmp_path / "b.dcm", signed, BitsStored=12, RescaleSlope=2, RescaleIntercept=-100)
    np.testing.assert_allclose(read_image_file(file)[..., 0], (signed + 2048) / 4095, atol=1e-6)


def test_dicom_window_is_applied_after_the_rescale_slope(tmp_path, write_dicom):
    stored = np.arange(0, 256, dtype=np.uint16).reshape(16, 16)
    elements = {"RescaleSlope": 4, "RescaleIntercept": -24, "WindowCenter": 400, "WindowWidth": 201}
    values = stored * 4.0 - 24
    # PS3.3 C.11.2.1.2.1, function LINEAR
    expected = np.clip((values - 399.5) / 200 + 0.5, 0, 1)
    file = write_dicom(tmp_path / "a.dcm", stored, BitsStored=12, **elements)
    np.testing.assert_allclose(read_image_file(file)[..., 0], expected, atol=1e-5)
    elements["PhotometricInterpretation"] = "MONOCHROME1"
    file = write_dicom(tmp_path / "b.dcm", stored, BitsStored=12, **elements)
    np.testing.assert_allclose(read_image_file(file)[..., 0], 1 - expected, atol=1e-5)


def test_dicom_voi_lut_is_applied(tmp_path, write_dicom):
    lut = Dataset()
    lut.LUTDescriptor = [4, 0, 16]
    lut.LUTData = np.array([65535, 0, 30000, 10], dtype=np.uint16).tobytes()
    lut.add_new(0x00283006, "OW", lut.LUTData)
    stored = np.array([[0, 1], [2, 3]], dtype=np.uint16)
    file = write_dicom(tmp_path / "a.dcm", stored, VOILUTSequence=[lut])
    expected = np.array([[1, 0], [30000 / 65535, 10 / 65535]])
    np.testing.assert_allclose(read_image_file(file)[..., 0], expected, atol=1e-6)


def test_dicom_without_window_or_contrast_warns(tmp_path, write_dicom):
    stored = np.arange(0, 256, dtype=np.uint16).reshape(16, 16)
    with pytest.warns(UserWarning, match=r"a\.dcm: has no window and uses 0\.4% of the range"):
        read_image_file(write_dicom(tmp_path / "a.dcm", stored))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_image_file(write_dicom(tmp_path / "b.dcm", stored, BitsStored=8))


def test_dicom_frames_become_slices(tmp_path, write_dicom):
    frames = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4) * 10
    image = read_image_file(write_dicom(tmp_path / "a.dcm", frames))
    assert image.shape == (3, 4, 2, 1)
    np.testing.assert_allclose(image[:, :, 1, 0], frames[1] / 255, atol=1e-6)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("CT_small.dcm", (128, 128, 1)),
        ("MR_small.dcm", (64, 64, 1)),
        ("MR_small_RLE.dcm", (64, 64, 1)),
        ("examples_overlay.dcm", (300, 484, 1)),
        ("examples_rgb_color.dcm", (240, 320, 3)),
        ("examples_palette.dcm", (350, 800, 3)),
        ("SC_rgb_rle_2frame.dcm", (100, 100, 2, 3)),
    ],
)
def test_real_dicom_files(name, shape):
    image = read_image_file(get_testdata_file(name, download=False))
    assert image.shape == shape
    assert image.dtype == np.float32
    assert 0 <= image.min() < image.max() <= 1


def test_real_dicom_without_an_image_is_refused():
    with pytest.raises(ValueError, match=r"rtplan\.dcm: .*has no image, its class is 1\.2\.840"):
        read_image_file(get_testdata_file("rtplan.dcm", download=False))


def test_nifti_orientation_follows_the_affine(tmp_path, asymmetric):
    expected = asymmetric / np.float32(255)
    stored = asymmetric.T[..., None]
    # Axes towards left and back: as a screen has them. Medical image toolkits write a converted picture so.
    file = save_nifti(tmp_path / "lps.nii", stored, np.diag([-0.5, -0.5, 1, 1]))
    np.testing.assert_allclose(read_image_file(file)[..., 0], expected, atol=1e-6)
    # DICOM converters store the bottom row first.
    file = save_nifti(tmp_path / "las.nii", stored[:, ::-1], np.diag([-0.5, 0.5, 1, 1]))
    np.testing.assert_allclose(read_image_file(file)[..., 0], expected, atol=1e-6)
    file = save_nifti(tmp_path / "ras.nii", stored[::-1, ::-1], np.diag([0.5, 0.5, 1, 1]))
    np.testing.assert_allclose(read_image_file(file)[..., 0], expected, atol=1e-6)
    unknown = nibabel.Nifti1Image(stored, None)
    nibabel.save(unknown, tmp_path / "unknown.nii")
    np.testing.assert_allclose(read_image_file(tmp_path / "unknown.nii")[..., 0], expected, atol=1e-6)


def test_nifti_volume_and_colour(tmp_path, asymmetric):
    volume = np.stack([asymmetric.T, 255 - asymmetric.T], axis=-1)
    image = read_image_file(save_nifti(tmp_path / "volume.nii", volume))
    assert image.shape == (6, 8, 2, 1)
    np.testing.assert_allclose(image[:, :, 0, 0], asymmetric / 255, atol=1e-6)
    colour = np.zeros((8, 6), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    colour["G"] = asymmetric.T
    image = read_image_file(save_nifti(tmp_path / "colour.nii", colour))
    assert image.shape == (6, 8, 3)
    np.testing.assert_allclose(image[..., 1], asymmetric / 255, atol=1e-6)
    with pytest.raises(ValueError, match=r"time\.nii: .*\[X, Y\], \[X, Y, 1\] or \[X, Y, Z\], got \[4, 4, 1, 5\]"):
        read_image_file(save_nifti(tmp_path / "time.nii", np.zeros((4, 4, 1, 5), dtype=np.float32)))


def test_nifti_nan_is_refused_and_a_constant_is_black(tmp_path):
    bad = np.zeros((4, 4), dtype=np.float32)
    bad[1, 2] = np.nan
    with pytest.raises(ValueError, match=r"bad\.nii: expected finite pixels, got 16 NaN or infinite ones"):
        read_image_file(save_nifti(tmp_path / "bad.nii", bad))
    constant = read_image_file(save_nifti(tmp_path / "constant.nii", np.full((4, 4), 7, dtype=np.int16)))
    np.testing.assert_array_equal(constant, 0)


def test_scale_by_type_refuses_other_types():
    with pytest.raises(ValueError, match="uint8, uint16, bool or float, got int64"):
        scale_by_type(np.zeros((2, 2), dtype=np.int64))


def test_is_image_file(tmp_path, write_dicom):
    write_dicom(tmp_path / "1.2.840.113", np.zeros((2, 2), dtype=np.uint8))
    write_dicom(tmp_path / "DICOMDIR", np.zeros((2, 2), dtype=np.uint8))
    for name in ("labels.csv", ".hidden.png", "notes"):
        (tmp_path / name).write_text("text")
    assert [file.name for file in sorted(tmp_path.iterdir()) if is_image_file(file)] == ["1.2.840.113"]
