"""PNG, JPEG, GIF, WebP, PNM and other pictures are read as a viewer shows them, and nothing else is opened."""

from __future__ import annotations

import struct
import subprocess
import warnings
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from monai_diffclf.image_io import is_image_file, read_image_file

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (12, 17), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (12, 17, 3), dtype=np.uint8)
SMOOTH = np.add.outer(3 * np.arange(48), 2 * np.arange(64)).astype(np.uint8)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def write_png(path: Path, array: np.ndarray, colour: int, bits: int, *, extra: bytes = b"") -> Path:
    """PNG by hand: Pillow writes no 16 bits in colour. Rows take the filters None, Sub and Up in turn."""
    height, width = array.shape[:2]
    if bits == 16:
        lines = np.frombuffer(array.astype(">u2").tobytes(), np.uint8).reshape(height, -1)
    elif bits == 8:
        lines = array.reshape(height, -1).astype(np.uint8)
    else:
        cells = (array[..., None] >> np.arange(bits - 1, -1, -1)) & 1
        lines = np.packbits(cells.reshape(height, -1).astype(np.uint8), axis=1)
    step = max(1, lines.shape[1] // width)
    rows = []
    for number, line in enumerate(lines.astype(np.int64)):
        kind = number % 3 if bits >= 8 else 0
        before = np.zeros_like(line)
        if kind == 1:
            before[step:] = line[:-step]
        elif kind == 2:
            before = lines[number - 1].astype(np.int64)
        rows.append(bytes([kind]) + ((line - before) % 256).astype(np.uint8).tobytes())
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(b"".join(rows)))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + data + chunk(b"IEND", b""))
    return path


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_grey_png_of_every_depth(tmp_path: Path, bits: int) -> None:
    values = RNG.integers(0, 2**bits, (12, 17))
    image = read_image_file(write_png(tmp_path / "a.png", values, 0, bits))
    np.testing.assert_allclose(image[..., 0], values / (2**bits - 1), atol=1e-6)


@pytest.mark.parametrize("channels", [3, 4])
def test_png_of_16_bits_in_colour_keeps_them(tmp_path: Path, channels: int) -> None:
    values = RNG.integers(0, 65536, (12, 17, channels))
    values[..., 3:] = 65535
    image = read_image_file(write_png(tmp_path / "a.png", values, 2 if channels == 3 else 6, 16))
    np.testing.assert_allclose(image, values[..., :3] / 65535, atol=1e-6)
    if channels == 4:
        values[3, 4, 3] = 65534
        with pytest.raises(ValueError, match=r"a\.png: .*transparent ones"):
            read_image_file(write_png(tmp_path / "a.png", values, 6, 16))


def test_png_of_16_bits_with_grey_and_alpha(tmp_path: Path) -> None:
    values = RNG.integers(0, 65536, (12, 17, 2))
    values[..., 1] = 65535
    image = read_image_file(write_png(tmp_path / "a.png", values, 4, 16))
    np.testing.assert_allclose(image, values[..., :1] / 65535, atol=1e-6)
    values[3, 4, 1] = 65534
    with pytest.raises(ValueError, match=r"a\.png: .*transparent ones"):
        read_image_file(write_png(tmp_path / "a.png", values, 4, 16))


@pytest.mark.parametrize(("colour", "bits"), [(0, 8), (0, 16), (2, 8), (2, 16)])
def test_a_transparent_colour_must_not_be_used(tmp_path: Path, colour: int, bits: int) -> None:
    values = RNG.integers(1, 2**bits, (12, 17) if colour == 0 else (12, 17, 3))
    unused = chunk(b"tRNS", struct.pack(">H", 0) * (1 if colour == 0 else 3))
    image = read_image_file(write_png(tmp_path / "a.png", values, colour, bits, extra=unused))
    np.testing.assert_allclose(image, values.reshape(image.shape) / (2**bits - 1), atol=1e-6)
    values[2, 3] = 0
    with pytest.raises(ValueError, match=r"a\.png: .*transparent ones"):
        read_image_file(write_png(tmp_path / "a.png", values, colour, bits, extra=unused))


def test_gamma_and_resolution_change_nothing(tmp_path: Path) -> None:
    extra = chunk(b"gAMA", struct.pack(">I", 100000)) + chunk(b"pHYs", struct.pack(">IIB", 100, 200, 1))
    image = read_image_file(write_png(tmp_path / "a.png", GREY, 0, 8, extra=extra))
    np.testing.assert_allclose(image[..., 0], GREY / 255, atol=1e-6)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path: Path, orientation: int) -> None:
    turn = {1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 5: lambda a: a.T}
    turn |= {6: lambda a: np.rot90(a, 1), 7: lambda a: np.rot90(a, 2).T, 8: lambda a: np.rot90(a, -1)}
    stored = np.ascontiguousarray(turn[orientation](SMOOTH))
    exif = Image.Exif()
    exif[0x0112] = orientation
    for name, options in (("a.jpg", {"quality": 95}), ("a.png", {}), ("a.webp", {"lossless": True})):
        Image.fromarray(stored).save(tmp_path / name, exif=exif, **options)
        image = read_image_file(tmp_path / name)
        np.testing.assert_allclose(image[..., 0], SMOOTH / 255, atol=0.1 if name == "a.jpg" else 1e-6, err_msg=name)
    # 16 bits in colour, which are read in another way.
    deep = np.dstack([stored.astype(np.int64) * 256 + channel for channel in range(3)])
    extra = chunk(b"eXIf", exif.tobytes()[6:])
    image = read_image_file(write_png(tmp_path / "deep.png", deep, 2, 16, extra=extra))
    np.testing.assert_allclose(image[..., 2], (SMOOTH.astype(np.int64) * 256 + 2) / 65535, atol=1e-6)


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\0\x05"]
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damaged_exif_data_do_not_hide_a_picture(tmp_path: Path, exif: bytes) -> None:
    for name in ("a.png", "a.jpg"):
        Image.fromarray(SMOOTH).save(tmp_path / name, exif=exif)
        np.testing.assert_allclose(read_image_file(tmp_path / name)[..., 0], SMOOTH / 255, atol=0.2)


def test_the_first_picture_of_an_mpo_file(tmp_path: Path) -> None:
    preview = Image.fromarray(255 - SMOOTH[::2, ::2])
    Image.fromarray(SMOOTH).save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[preview], quality=95)
    np.testing.assert_allclose(read_image_file(tmp_path / "a.jpg")[..., 0], SMOOTH / 255, atol=0.05)


@pytest.mark.parametrize(("name", "kind"), [("a.gif", "GIF"), ("a.webp", "WEBP"), ("a.png", "PNG")])
def test_animations_are_refused(tmp_path: Path, name: str, kind: str) -> None:
    frames = [Image.fromarray(RNG.integers(0, 256, (12, 17, 3), dtype=np.uint8)) for _ in range(3)]
    frames[0].save(tmp_path / name, kind, save_all=True, append_images=frames[1:])
    with pytest.raises(ValueError, match="expected one picture, got a file with 3; save each as its own file"):
        read_image_file(tmp_path / name)
    frames[0].save(tmp_path / name, kind)
    assert read_image_file(tmp_path / name).shape == (12, 17, 3)


@pytest.mark.parametrize(
    ("name", "kind", "tolerance"),
    [
        ("a.jfif", "JPEG", 0.2),
        ("a.jpe", "JPEG", 0.2),
        ("a.webp", "WEBP", 1e-6),
        ("a.bmp", "BMP", 1e-6),
        ("a.gif", "GIF", 1e-6),
        ("a.jp2", "JPEG2000", 1e-6),
        ("a.j2k", "JPEG2000", 1e-6),
        ("a.pgm", "PPM", 1e-6),
        ("a.pnm", "PPM", 1e-6),
        ("no_suffix", "PNG", 1e-6),
        ("wrong.dcm", "PNG", 1e-6),
        ("wrong.nii", "PNG", 1e-6),
        ("wrong.tiff", "PNG", 1e-6),
        ("wrong.png", "TIFF", 1e-6),
        ("wrong.jpg", "BMP", 1e-6),
    ],
)
def test_formats_are_known_by_their_content(tmp_path: Path, name: str, kind: str, tolerance: float) -> None:
    picture = Image.fromarray(SMOOTH if kind == "JPEG" else GREY)
    picture.save(tmp_path / name, kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {"quality": 95}))
    assert is_image_file(tmp_path / name)
    image = read_image_file(tmp_path / name)[..., 0]
    np.testing.assert_allclose(image, np.asarray(picture) / 255, atol=tolerance)


def test_dicom_and_nifti_under_other_names(tmp_path: Path, asymmetric: np.ndarray, write_dicom: object) -> None:
    write_dicom(tmp_path / "a.png", asymmetric)
    np.testing.assert_allclose(read_image_file(tmp_path / "a.png")[..., 0], asymmetric / 255, atol=1e-6)
    (tmp_path / "b.jpg").write_bytes((tmp_path / "a.png").read_bytes()[132:])
    np.testing.assert_allclose(read_image_file(tmp_path / "b.jpg")[..., 0], asymmetric / 255, atol=1e-6)


@pytest.mark.parametrize("maxval", [1, 3, 100, 254, 255, 256, 1023, 4095, 65534, 65535])
def test_pnm_of_any_greatest_value(tmp_path: Path, maxval: int) -> None:
    values = RNG.integers(0, maxval + 1, (12, 17))
    header = f"P5\n# a comment\n17 12\n{maxval}\n".encode()
    (tmp_path / "a.pgm").write_bytes(header + values.astype(">u2" if maxval > 255 else "u1").tobytes())
    np.testing.assert_allclose(read_image_file(tmp_path / "a.pgm")[..., 0], values / maxval, atol=0.5 / 255)
    (tmp_path / "b.pgm").write_text(f"P2\n17 12\n{maxval}\n" + "\n".join(" ".join(map(str, row)) for row in values))
    np.testing.assert_allclose(read_image_file(tmp_path / "b.pgm")[..., 0], values / maxval, atol=0.5 / 255)
    colour = RNG.integers(0, maxval + 1, (12, 17, 3))
    header = f"P6 17 12 {maxval}\n".encode()
    (tmp_path / "c.ppm").write_bytes(header + colour.astype(">u2" if maxval > 255 else "u1").tobytes())
    np.testing.assert_allclose(read_image_file(tmp_path / "c.ppm"), colour / maxval, atol=0.51 / 255)


def test_12_bits_saved_as_16_are_warned_of(tmp_path: Path) -> None:
    values = RNG.integers(0, 4096, (12, 17)).astype(np.uint16)
    for name in ("a.png", "a.tif"):
        Image.fromarray(values).save(tmp_path / name)
        with pytest.warns(UserWarning, match=rf"{name}: uses 6\.\d% of the range of its 16 bits"):
            read_image_file(tmp_path / name)


def test_a_mask_of_0_and_1_saved_as_8_bits_is_warned_of(tmp_path: Path) -> None:
    mask = (RNG.random((12, 17)) < 0.5).astype(np.uint8)
    Image.fromarray(mask).save(tmp_path / "mask.png")
    nibabel.save(nibabel.Nifti1Image(mask[..., None], np.eye(4)), tmp_path / "mask.nii.gz")
    for name in ("mask.png", "mask.nii.gz"):
        with pytest.warns(UserWarning, match=rf"{name}: uses 0\.4% of the range of its 8 bits"):
            read_image_file(tmp_path / name)
    # A dark picture, one of two values at the ends, and an empty one are what they are.
    for number, values in enumerate((8 * mask, 255 * mask, 0 * mask)):
        Image.fromarray(values).save(tmp_path / f"{number}.png")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            read_image_file(tmp_path / f"{number}.png")


@pytest.mark.parametrize(
    "text",
    ["BMI,age,label\n23,50,1\n", "P1 patient, male\n", "P2\n", "PNG\n", "GIF87\n", "\x08\x00 notes", "II, III\n"],
)
def test_texts_are_no_images(tmp_path: Path, text: str) -> None:
    (tmp_path / "labels.csv").write_text(text * 20)
    assert not is_image_file(tmp_path / "labels.csv")


def test_pbm_and_pfm(tmp_path: Path) -> None:
    black = RNG.random((12, 17)) > 0.5
    (tmp_path / "a.pbm").write_bytes(b"P4\n17 12\n" + np.packbits(black, axis=1).tobytes())
    np.testing.assert_array_equal(read_image_file(tmp_path / "a.pbm")[..., 0], ~black)
    values = RNG.random((12, 17)).astype("<f4")
    (tmp_path / "a.pfm").write_bytes(b"Pf\n17 12\n-1.0\n" + values[::-1].tobytes())
    np.testing.assert_allclose(read_image_file(tmp_path / "a.pfm")[..., 0], values, atol=1e-6)


def test_cmyk_jpeg(tmp_path: Path) -> None:
    """Pillow writes CMYK as Adobe does, inverted."""
    colour = np.dstack([SMOOTH, 255 - SMOOTH, SMOOTH // 2])
    Image.fromarray(colour).convert("CMYK").save(tmp_path / "a.jpg", quality=98)
    np.testing.assert_allclose(read_image_file(tmp_path / "a.jpg"), colour / 255, atol=0.1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n", "PostScript"),
        (b"\xc5\xd0\xd3\xc6" + bytes(60), r"PostScript \(EPS\)"),
        (b"%PDF-1.4\n", "PDF"),
        (b"<!DOCTYPE html><html>", "HTML or XML"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "HTML or XML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a Git LFS pointer; run `git lfs pull`"),
        (b"PK\x03\x04" + bytes(60), "a ZIP archive"),
        (b"\xd7\xcd\xc6\x9a\0\0" + bytes(80), "a file that begins with"),  # WMF
        (b"SIMPLE  =                    T" + b" " * 50, "a file that begins with"),  # FITS
        (b"\0\0\x01\0" + bytes(60), "a file that begins with"),  # ICO
    ],
)
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ""])
def test_no_other_format_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, message: str, suffix: str
) -> None:
    def started(*arguments: object, **options: object) -> None:
        raise AssertionError(f"a program was started: {arguments}")

    monkeypatch.setattr(subprocess, "Popen", started)
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", started)
    path = tmp_path / f"x{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"x{suffix}: .*expected a PNG, JPEG, .* got {message}"):
        read_image_file(path)
    # By its name it is one, so that it is named and not left out; without a name it is none.
    assert is_image_file(path) == bool(suffix)


def test_pictures_that_are_too_large_are_refused_by_their_header(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 0, 0, 0, 0)
    bomb = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(10))) + chunk(b"IEND", b"")
    )
    (tmp_path / "a.png").write_bytes(bomb)
    with pytest.raises(ValueError, match=r"a\.png: .*at most 100,000,000 pixels, got 30000 x 30000 = 900,000,000"):
        read_image_file(tmp_path / "a.png")
    for name in ("a.jpg", "a.gif", "a.webp", "a.bmp", "a.pgm", "a.jp2"):
        Image.fromarray(GREY).save(tmp_path / name)
        with pytest.raises(
            ValueError, match=rf"{name}: .*at most 100 pixels, got 12 x 17 = 204; allow more with max_p"
        ):
            read_image_file(tmp_path / name, max_pixels=100)
        assert read_image_file(tmp_path / name, max_pixels=204).shape[:2] == (12, 17)
    with pytest.raises(ValueError, match="max_pixels: expected a positive integer, got 0"):
        read_image_file(tmp_path / "a.png", max_pixels=0)


def test_the_limit_is_ours_and_not_pillow_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    for name in ("a.png", "a.jpg", "a.bmp", "a.pgm"):
        Image.fromarray(GREY).save(tmp_path / name)
        assert read_image_file(tmp_path / name).shape[:2] == (12, 17)


def test_damaged_files_end_in_one_line(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sources = []
    for kind in ("PNG", "JPEG", "GIF", "WEBP", "PPM", "JPEG2000", "BMP", "TIFF"):
        Image.fromarray(SMOOTH).save(tmp_path / "a", kind)
        sources.append((tmp_path / "a").read_bytes())
    path = tmp_path / "damaged.png"
    refused = 0
    for number in range(200):
        content = bytearray(sources[number % len(sources)])
        for place in rng.integers(0, min(len(content), (40, 400, 4000)[number % 3]), 3):
            content[place] = rng.integers(0, 256)
        if number % 4 == 0:
            del content[rng.integers(8, len(content)) :]
        path.write_bytes(content)
        try:
            shown = read_image_file(path, max_pixels=1_000_000)
        except ValueError as error:
            refused += 1
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
        else:
            assert 0 <= shown.min() <= shown.max() <= 1
    assert refused > 100
