"""TIFF files of every depth, photometric interpretation, sample format and layout show the same picture."""

from __future__ import annotations

import struct
import zlib
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from monai_diffclf.image_io import read_image_file

RNG = np.random.default_rng(0)
GREY = RNG.random((20, 27)).astype(np.float32)
COLOUR = RNG.random((20, 27, 3)).astype(np.float32)


def pack(values: np.ndarray, bits: int) -> bytes:
    """Rows of values, each of so many bits, the most significant first; a row begins with a byte."""
    cells = (values[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(cells.reshape(len(values), -1).astype(np.uint8), axis=1).tobytes()


def raw_tiff(path: Path, data: bytes, shape: tuple[int, int], bits: int, photometric: int, **tags: int) -> Path:
    """A TIFF file of one strip; `tags` are t339=2 and the like."""
    order = ">" if tags.pop("big", 0) else "<"
    entries = {256: shape[1], 257: shape[0], 258: bits, 259: 1, 262: photometric, 273: 0, 277: 1, 278: shape[0]}
    entries |= {279: len(data)} | {int(name[1:]): value for name, value in tags.items()}
    entries[273] = 8 + 2 + 12 * len(entries) + 4
    content = (b"MM\0*" if order == ">" else b"II*\0") + struct.pack(f"{order}IH", 8, len(entries))
    for tag, value in sorted(entries.items()):
        content += struct.pack(f"{order}HHII", tag, 4, 1, value)
    path.write_bytes(content + struct.pack(f"{order}I", 0) + data)
    return path


@pytest.mark.parametrize("bits", range(1, 17))
def test_any_depth_in_both_polarities(tmp_path: Path, bits: int) -> None:
    values = np.rint(GREY * (2**bits - 1)).astype(np.int64)
    for photometric, big, fill in product((0, 1), (0, 1), (1, 2)):
        stored = 2**bits - 1 - values if photometric == 0 else values
        data = stored.astype(">u2" if big else "<u2").tobytes() if bits == 16 else pack(stored, bits)
        contents = {1: data, 8: zlib.compress(data)}
        if fill == 2:
            if bits == 16:
                continue
            contents = {1: np.packbits(np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")).tobytes()}
        for compression, content in contents.items():
            tags = {"t259": compression, "t266": fill}
            file = raw_tiff(tmp_path / "a.tif", content, GREY.shape, bits, photometric, big=big, **tags)
            image = read_image_file(file)
            assert image.shape == (20, 27, 1)
            message = f"photometric {photometric} big {big} fill order {fill} compression {compression}"
            np.testing.assert_allclose(image[..., 0], values / (2**bits - 1), atol=1e-6, err_msg=message)


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_signed_samples_are_scaled_by_their_range(tmp_path: Path, bits: int) -> None:
    values = np.rint(GREY * (2**bits - 1)).astype(np.int64) - 2 ** (bits - 1)
    data = pack(values & (2**bits - 1), bits) if bits == 12 else values.astype(f"<i{bits // 8}").tobytes()
    for photometric in (0, 1):
        file = raw_tiff(tmp_path / "a.tif", data, GREY.shape, bits, photometric, t339=2)
        expected = (values + 2 ** (bits - 1)) / (2**bits - 1)
        np.testing.assert_allclose(
            read_image_file(file)[..., 0], 1 - expected if photometric == 0 else expected, atol=1e-6
        )


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_floats(tmp_path: Path, kind: type) -> None:
    for photometric, expected in (("minisblack", GREY), ("miniswhite", 1 - GREY)):
        tifffile.imwrite(tmp_path / "a.tif", GREY.astype(kind), photometric=photometric)
        np.testing.assert_allclose(read_image_file(tmp_path / "a.tif")[..., 0], expected, atol=1e-3)
    tifffile.imwrite(tmp_path / "a.tif", (GREY * 300).astype(kind), photometric="minisblack")
    with pytest.raises(ValueError, match=r"a\.tif: .*float pixels in \[0, 1\], got"):
        read_image_file(tmp_path / "a.tif")


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("layout", [{}, {"tile": (16, 16)}, {"rowsperstrip": 3}])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_layouts_of_grey_and_colour(tmp_path: Path, kind: type, layout: dict[str, object], compression: object) -> None:
    top = np.iinfo(kind).max
    grey, colour = (np.rint(image * top).astype(kind) for image in (GREY, COLOUR))
    options = {"compression": compression, **layout}
    for order in "<>":
        for photometric, stored in (("minisblack", grey), ("miniswhite", top - grey)):
            tifffile.imwrite(tmp_path / "a.tif", stored, photometric=photometric, byteorder=order, **options)
            np.testing.assert_allclose(read_image_file(tmp_path / "a.tif")[..., 0], grey / top, atol=1e-6)
        tifffile.imwrite(tmp_path / "a.tif", colour, photometric="rgb", byteorder=order, **options)
        np.testing.assert_allclose(read_image_file(tmp_path / "a.tif"), colour / top, atol=1e-6)
        planes = np.moveaxis(colour, -1, 0)
        tifffile.imwrite(
            tmp_path / "a.tif", planes, photometric="rgb", planarconfig="separate", byteorder=order, **options
        )
        np.testing.assert_allclose(read_image_file(tmp_path / "a.tif"), colour / top, atol=1e-6)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "group4", "jpeg"])
def test_compressions_that_pillow_decodes(tmp_path: Path, compression: str) -> None:
    values = {"L": np.rint(GREY * 255).astype(np.uint8), "RGB": np.rint(COLOUR * 255).astype(np.uint8)}
    values |= {"1": GREY > 0.5, "I;16": np.rint(GREY * 65535).astype(np.uint16), "F": GREY}
    if compression == "group4":
        values = {"1": values["1"]}
    elif compression == "jpeg":
        smooth = np.add.outer(np.arange(48), np.arange(64)).astype(np.uint8)
        values = {"L": smooth, "RGB": np.dstack([smooth, smooth // 2, 255 - smooth])}
    for mode, array in values.items():
        Image.fromarray(array).save(tmp_path / "a.tif", compression=compression)
        expected = array.astype(np.float64) / {"1": 1, "I;16": 65535, "F": 1}.get(mode, 255)
        image = read_image_file(tmp_path / "a.tif")
        tolerance = 0.1 if compression == "jpeg" else 1e-6
        np.testing.assert_allclose(image, expected.reshape(image.shape), atol=tolerance, err_msg=mode)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_predictors(tmp_path: Path, kind: type) -> None:
    top = np.iinfo(kind).max
    for values, photometric in ((GREY, "minisblack"), (COLOUR, "rgb")):
        array = np.rint(values * top).astype(kind)
        tifffile.imwrite(tmp_path / "a.tif", array, photometric=photometric, compression="zlib", predictor=True)
        image = read_image_file(tmp_path / "a.tif")
        np.testing.assert_allclose(image, (array / top).reshape(image.shape), atol=1e-6)


def lzw(path: Path, array: np.ndarray, **tags: int) -> Path:
    """The array compressed with LZW, with other tags; Pillow cannot write these itself."""
    image = Image.fromarray(array)
    image.save(path, compression="tiff_lzw")
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        for name, value in tags.items():
            tag = file.pages[0].tags[name]
            content[tag.offset + 8 : tag.offset + 10] = struct.pack("<H", value)
    path.write_bytes(content)
    return path


def test_lzw_of_white_is_zero(tmp_path: Path) -> None:
    for array, top in ((np.rint(GREY * 255).astype(np.uint8), 255), (np.rint(GREY * 65535).astype(np.uint16), 65535)):
        image = read_image_file(lzw(tmp_path / "a.tif", array, PhotometricInterpretation=0))
        np.testing.assert_allclose(image[..., 0], 1 - array / top, atol=1e-6)
    image = read_image_file(lzw(tmp_path / "a.tif", GREY, PhotometricInterpretation=0))
    np.testing.assert_allclose(image[..., 0], 1 - GREY, atol=1e-6)


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_orientation(tmp_path: Path, compression: str | None) -> None:
    shown = np.arange(6, dtype=np.uint8).reshape(2, 3) * 50
    # The stored row 0 and column 0 are what TIFF 6.0 says for each value.
    stored = {1: shown, 2: shown[:, ::-1], 3: shown[::-1, ::-1], 4: shown[::-1], 5: shown.T}
    stored |= {6: np.rot90(shown, 1), 7: shown[::-1, ::-1].T, 8: np.rot90(shown, -1)}
    for orientation, array in stored.items():
        file = tmp_path / "a.tif"
        Image.fromarray(np.ascontiguousarray(array)).save(file, compression=compression, tiffinfo={274: orientation})
        np.testing.assert_allclose(read_image_file(file)[..., 0], shown / 255, atol=1e-6, err_msg=str(orientation))


def test_palettes(tmp_path: Path) -> None:
    indices = RNG.integers(0, 256, (9, 11), dtype=np.uint8)
    colours = RNG.integers(0, 65536, (3, 256), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", indices, photometric="palette", colormap=colours)
    expected = colours.T[indices]
    np.testing.assert_allclose(read_image_file(tmp_path / "a.tif"), expected / 65535, atol=1e-6)
    # Old programs wrote 8 bits.
    tifffile.imwrite(tmp_path / "a.tif", indices, photometric="palette", colormap=colours >> 8)
    np.testing.assert_allclose(read_image_file(tmp_path / "a.tif"), (expected >> 8) / 255, atol=1e-6)


def test_alpha_must_be_opaque(tmp_path: Path) -> None:
    colour = np.rint(COLOUR * 255).astype(np.uint8)
    for alpha, kind in ((255, "unassalpha"), (255, "unspecified"), (254, "unassalpha"), (0, "unspecified")):
        array = np.dstack([colour, np.full(GREY.shape, alpha, np.uint8)])
        tifffile.imwrite(tmp_path / "a.tif", array, photometric="rgb", extrasamples=[kind])
        if alpha == 255:
            np.testing.assert_allclose(read_image_file(tmp_path / "a.tif"), colour / 255, atol=1e-6)
        else:
            with pytest.raises(ValueError, match=r"a\.tif: .*transparent ones; flatten the file"):
                read_image_file(tmp_path / "a.tif")


def test_what_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.tif"
    grey = np.zeros((8, 8), np.uint8)
    for array, message in (
        (np.zeros((3, 8, 8), np.uint8), "expected one picture, got a file with 3"),
        (grey.astype(np.uint32), "expected 8 or 16 bits for a pixel, got 32"),
        (grey.astype(np.int64), "expected 8 or 16 bits for a pixel, got 64"),
        (grey.astype(np.complex64), "SampleFormat of unsigned, signed or float, got 6"),
    ):
        tifffile.imwrite(file, array, photometric="minisblack")
        with pytest.raises(ValueError, match=rf"a\.tif: .*{message}"):
            read_image_file(file)
    tifffile.imwrite(file, np.zeros((5, 8, 8), np.uint8), imagej=True)
    with pytest.raises(ValueError, match="got a file with 5"):
        read_image_file(file)
    tifffile.imwrite(file, np.zeros((8, 8, 4), np.uint8), photometric="separated")
    with pytest.raises(ValueError, match=r"PhotometricInterpretation .* got 5 \(SEPARATED\); save the file as grey"):
        read_image_file(file)
    tifffile.imwrite(file, grey, compression="lzma")
    with pytest.raises(ValueError, match="the compression LZMA is not read; save the file uncompressed"):
        read_image_file(file)


def test_limits_and_files_that_are_cut_off(tmp_path: Path) -> None:
    file = tmp_path / "a.tif"
    tifffile.imwrite(file, np.zeros((100, 100), np.uint8))
    with pytest.raises(ValueError, match=r"at most 9,999 pixels, got 100 x 100 = 10,000; allow more with max_pixels"):
        read_image_file(file, max_pixels=9999)
    for options in ({}, {"compression": "zlib"}, {"tile": (16, 16)}):
        tifffile.imwrite(file, RNG.integers(0, 256, (64, 64), dtype=np.uint8), **options)
        file.write_bytes(file.read_bytes()[:-700])
        with pytest.raises(ValueError, match=r"a\.tif: cannot be read as an image"):
            read_image_file(file)
    # A small picture whose strip inflates to 50 MB.
    raw_tiff(file, zlib.compress(bytes(50_000_000)), (8, 8), 8, 1, t259=8)
    with pytest.raises(ValueError, match="expected at most 4,160 bytes of content, got more"):
        read_image_file(file)
    # A short strip: what is missing would be black.
    raw_tiff(file, zlib.compress(bytes(32)), (8, 8), 8, 1, t259=8)
    with pytest.raises(ValueError, match=r"a\.tif: cannot be read as an image"):
        read_image_file(file)


def test_a_thumbnail_is_no_second_picture(tmp_path: Path) -> None:
    file = tmp_path / "a.tif"
    grey = np.rint(GREY * 255).astype(np.uint8)
    with tifffile.TiffWriter(file) as writer:
        writer.write(grey[::4, ::4], subfiletype=1)
        writer.write(grey)
    np.testing.assert_allclose(read_image_file(file)[..., 0], grey / 255, atol=1e-6)
