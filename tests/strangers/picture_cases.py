"""Pictures of every kind: TIFF by its tags, PNG, JPEG, WebP, PGM, GIF; what lies about itself; bombs."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image

from monai_diffclf.image_io import read_image_file

from .cases import GREY_LEVEL, Case, ramp

Array = npt.NDArray[Any]
LOSSY = 0.06  # JPEG of a sharp mark, at quality 95


def _save_tiff(array: Array, options: dict[str, Any], name: str, folder: Path) -> Path:
    tifffile.imwrite(folder / name, array, **options)
    return folder / name


def tiff_cases() -> Iterator[Case]:
    """Photometric interpretation, bits, sample format, byte order, storage."""
    image = ramp()
    levels = {np.uint8: 255, np.uint16: 65535}

    def case(name: str, array: Array, shown: Array | None, **options: Any) -> Case:
        refusal = {"named": "t.tif"} if shown is None else {}
        write = partial(_save_tiff, array, options, "t.tif")
        return Case(f"TIFF {name}", write, read_image_file, shown, **refusal)

    for type_, top in levels.items():
        stored = np.rint(image * top).astype(type_)
        for photometric in ("minisblack", "miniswhite"):
            shown = image if photometric == "minisblack" else 1 - image
            for order in ("<", ">"):
                yield case(
                    f"{type_.__name__} {photometric} {order}", stored, shown, photometric=photometric, byteorder=order
                )
            yield case(
                f"{type_.__name__} {photometric} zlib", stored, shown, photometric=photometric, compression="zlib"
            )
        yield case(f"{type_.__name__} in tiles", stored, image, photometric="minisblack", tile=(16, 16))
        yield case(
            f"{type_.__name__} predictor", stored, image, photometric="minisblack", compression="zlib", predictor=True
        )
        colour = np.stack([stored, stored[::-1], stored[:, ::-1]], axis=-1)
        seen = np.stack([image, image[::-1], image[:, ::-1]], axis=-1)
        yield case(f"{type_.__name__} RGB", colour, seen, photometric="rgb")
        planes = np.moveaxis(colour, -1, 0)
        yield case(f"{type_.__name__} RGB in planes", planes, seen, photometric="rgb", planarconfig="separate")
    for photometric in ("minisblack", "miniswhite"):
        shown = image if photometric == "minisblack" else 1 - image
        yield case(f"float32 {photometric}", image.astype(np.float32), shown, photometric=photometric)
        yield case(f"float64 {photometric}", image, shown, photometric=photometric)
        yield case(f"float16 {photometric}", image.astype(np.float16), shown, photometric=photometric)
        black = image > 0.5
        yield case(
            f"1 bit {photometric}", black, black if photometric == "minisblack" else ~black, photometric=photometric
        )
    yield case("float32 beyond 1", (image * 300).astype(np.float32), None, photometric="minisblack")
    yield case(
        "float32 with NaN", np.where(image > 0.7, np.nan, image).astype(np.float32), None, photometric="minisblack"
    )
    yield case("uint32", np.rint(image * (2**32 - 1)).astype(np.uint32), None, photometric="minisblack")
    yield case("complex", image.astype(np.complex64), None, photometric="minisblack")
    yield case("three pages", np.stack([np.rint(image * 255).astype(np.uint8)] * 3), None, photometric="minisblack")
    for name, type_, low, high in (("int8", np.int8, -128, 127), ("int16", np.int16, -32768, 32767)):
        stored = np.rint(low + image * (high - low)).astype(type_)
        write = partial(_save_tiff, stored, {"photometric": "minisblack"}, "t.tif")
        yield Case(f"TIFF {name}", write, read_image_file, image, or_refused=True, named="t.tif")
    for orientation in range(1, 9):
        stored, shown = np.rint(image * 255).astype(np.uint8), _turned(image, orientation)
        extra = [(274, "H", 1, orientation, True)]
        yield case(f"orientation {orientation}", stored, shown, photometric="minisblack", extratags=extra)
    stored = np.rint(image * 255).astype(np.uint8)
    for orientation in (9, 255, 65535):
        extra = [(274, "H", 1, orientation, True)]
        yield case(f"orientation {orientation}, unknown", stored, image, photometric="minisblack", extratags=extra)
    extra = [(274, "H", 1, 6, True)]
    deep, shown = np.rint(image * 65535).astype(np.uint16), (1 - image).T[:, ::-1]
    yield case("white is zero, turned", deep, shown, photometric="miniswhite", extratags=extra)
    yield case("BigTIFF white is zero", deep, 1 - image, photometric="miniswhite", bigtiff=True, byteorder=">")
    yield case("of OME", deep, image, photometric="minisblack", ome=True)
    yield case("of ImageJ", deep, image, imagej=True)
    yield case("a stack of ImageJ", np.stack([deep] * 3), None, imagej=True)
    yield case("a volume", np.stack([stored] * 4), None, photometric="minisblack", volumetric=True, tile=(1, 16, 16))
    yield case("transparent", np.stack([stored] * 2, -1), None, photometric="minisblack", extrasamples=["unassalpha"])
    yield case("CMYK", np.stack([stored] * 4, -1), None, photometric="separated")
    yield case("CIELAB", np.stack([stored] * 3, -1), None, photometric="cielab")
    yield Case("TIFF of two sizes", _pyramid, read_image_file, image)
    yield from _packed_cases(image)


def _pyramid(folder: Path) -> Path:
    deep = np.rint(ramp() * 65535).astype(np.uint16)
    with tifffile.TiffWriter(folder / "p.tif") as file:
        file.write(deep[::4, ::4], photometric="minisblack", subfiletype=1)
        file.write(deep, photometric="minisblack")
    return folder / "p.tif"


def _turned(image: Array, orientation: int) -> Array:
    """What EXIF orientation 1 to 8 shows (TIFF 6.0, page 36)."""
    flips: dict[int, Callable[[Array], Array]] = {
        1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
        5: lambda a: a.T, 6: lambda a: a.T[:, ::-1], 7: lambda a: a[::-1, ::-1].T, 8: lambda a: a.T[::-1],
    }  # fmt: skip
    return flips[orientation](image)


def _packed_cases(image: Array) -> Iterator[Case]:
    """2, 4 and 12 bits packed; 12 bits in words of 16 do not exist in TIFF, but a MaxSampleValue does."""
    for bits in (2, 4, 12):
        for photometric in (0, 1):
            stored = np.rint(image * (2**bits - 1)).astype(np.int64)
            shown = stored / (2**bits - 1)
            write = partial(_packed_tiff, stored, bits, photometric)
            yield Case(
                f"TIFF of {bits} bits, photometric {photometric}",
                write,
                read_image_file,
                shown if photometric else 1 - shown,
            )


def _packed_tiff(stored: Array, bits: int, photometric: int, folder: Path) -> Path:
    rows, columns = stored.shape
    each = ((stored[..., None] >> np.arange(bits)[::-1]) & 1).reshape(rows, -1)
    data = np.packbits(each, axis=1).tobytes()
    tags = [(256, 4, columns), (257, 4, rows), (258, 3, bits), (259, 3, 1), (262, 3, photometric)]
    tags += [(273, 4, 8 + 2 + 12 * 9 + 4), (277, 3, 1), (278, 4, rows), (279, 4, len(data))]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    path = folder / "p.tif"
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0) + data)
    return path


def _save(picture: Image.Image, name: str, format_: str, options: dict[str, Any], folder: Path) -> Path:
    picture.save(folder / name, format_, **options)
    return folder / name


def other_cases() -> Iterator[Case]:
    """What Pillow reads."""
    image = ramp()
    grey8, grey16 = np.rint(image * 255).astype(np.uint8), np.rint(image * 65535).astype(np.uint16)
    grey, colour = Image.fromarray(grey8), Image.fromarray(np.stack([grey8, grey8[::-1], grey8[:, ::-1]], axis=-1))
    seen = np.stack([image, image[::-1], image[:, ::-1]], axis=-1)

    def case(name: str, picture: Image.Image, file: str, format_: str, shown: Array | None, **options: Any) -> Case:
        tolerance = options.pop("tolerance", GREY_LEVEL + 1e-6)
        more = {"tolerance": tolerance} if shown is not None else {"named": file}
        return Case(name, partial(_save, picture, file, format_, options), read_image_file, shown, **more)

    yield case("PNG 8 bits", grey, "a.png", "PNG", image)
    yield case("PNG 16 bits", Image.fromarray(grey16), "a.png", "PNG", image, tolerance=1e-4)
    yield case("PNG RGB", colour, "a.png", "PNG", seen)
    yield case("PNG palette", grey.convert("P"), "a.png", "PNG", np.stack([image] * 3, -1), tolerance=0.02)
    yield case("PNG 1 bit", Image.fromarray(image > 0.5), "a.png", "PNG", (image > 0.5).astype(float))
    half = colour.copy()
    half.putalpha(Image.fromarray(np.full_like(grey8, 128)))
    yield case("PNG half transparent", half, "a.png", "PNG", None)
    opaque = colour.copy()
    opaque.putalpha(255)
    for compression in ("tiff_lzw", "packbits", "tiff_adobe_deflate"):
        yield case(f"TIFF {compression}", grey, "a.tif", "TIFF", image, compression=compression)
        deep = Image.fromarray(grey16)
        yield case(f"TIFF of 16 bits {compression}", deep, "a.tif", "TIFF", image, compression=compression)
    yield case("PNG opaque alpha", opaque, "a.png", "PNG", seen)
    yield Case(
        "PNG RGB of 16 bits",
        partial(_png16, grey16),
        read_image_file,
        seen,
        or_refused=True,
        named="16.png",
        tolerance=1e-4,
    )
    yield case("JPEG", grey, "a.jpg", "JPEG", image, quality=95, tolerance=LOSSY)
    for name in ("a.jpeg", "a.jfif", "a.JPG", "a"):
        yield case(f"JPEG called {name}", grey, name, "JPEG", image, quality=95, tolerance=LOSSY)
    for orientation in (*range(2, 9), 0, 9, 65535):
        exif = Image.Exif()
        exif[0x0112] = orientation
        shown = _turned(image, orientation if orientation in range(2, 9) else 1)
        yield case(f"JPEG, EXIF {orientation}", grey, "a.jpg", "JPEG", shown, quality=95, exif=exif, tolerance=LOSSY)
    yield case(
        "MPO: the first picture",
        grey,
        "a.jpg",
        "MPO",
        image,
        save_all=True,
        append_images=[grey.resize((8, 8))],
        quality=95,
        tolerance=LOSSY,
    )
    yield case("WebP", grey.convert("RGB"), "a.webp", "WEBP", np.stack([image] * 3, -1), lossless=True)
    yield case("GIF", grey, "a.gif", "GIF", np.stack([image] * 3, -1), tolerance=0.02)
    yield case("GIF of two frames", grey, "a.gif", "GIF", None, save_all=True, append_images=[grey.rotate(180)])
    yield case("WebP of two frames", grey.convert("RGB"), "a.webp", "WEBP", None, save_all=True, append_images=[colour])
    yield case("PNG of two frames", grey, "a.png", "PNG", None, save_all=True, append_images=[grey.rotate(180)])
    yield case("BMP", colour, "a.bmp", "BMP", seen)
    yield case("PGM", grey, "a.pgm", "PPM", image)
    yield case("JPEG 2000", grey, "a.jp2", "JPEG2000", image)
    for top in (15, 100, 255, 1000, 4095, 65535):
        yield Case(f"PGM up to {top}", partial(_pgm, image, top), read_image_file, np.rint(image * top) / top)
    for name, format_ in (("a.png", "JPEG"), ("a.jpg", "PNG"), ("a.dcm", "PNG"), ("a.tif", "PNG"), ("a.nii", "PNG")):
        yield case(f"{format_} called {name}", grey, name, format_, image, quality=95, tolerance=LOSSY)
    cmyk = Image.merge("CMYK", [Image.fromarray(np.zeros_like(grey8))] * 3 + [Image.fromarray(255 - grey8)])
    yield case("CMYK JPEG", cmyk, "a.jpg", "JPEG", np.stack([image] * 3, -1), quality=100, tolerance=LOSSY)
    yield from _refused_cases(grey)
    yield from _short_cases(grey8)


def _short_cases(grey8: Array) -> Iterator[Case]:
    """PNG files whose compressed pixels are in order, but fewer than the header says."""
    height, width = grey8.shape
    rows = [b"\0" + row.tobytes() for row in grey8]
    for missing in (0, 1, 5, height):
        write = partial(_png_of_rows, width, height, b"".join(rows[: height - missing]))
        shown = {"expected": ramp()} if missing == 0 else {"named": "short.png"}
        yield Case(f"PNG short of {missing} rows", write, read_image_file, **shown)
    part = partial(_png_of_rows, width, height, b"".join(rows)[:-7])
    yield Case("PNG short of a part of a row", part, read_image_file, named="short.png")


def _png_of_rows(width: int, height: int, raw: bytes, folder: Path) -> Path:
    return _png(folder / "short.png", width, height, 8, 0, raw)


def _pgm(image: Array, top: int, folder: Path) -> Path:
    stored = np.rint(image * top).astype(">u2" if top > 255 else np.uint8)
    path = folder / "a.pgm"
    path.write_bytes(f"P5\n{image.shape[1]} {image.shape[0]}\n{top}\n".encode() + stored.tobytes())
    return path


def _png16(grey16: Array, folder: Path) -> Path:
    rows = np.stack([grey16, grey16[::-1], grey16[:, ::-1]], axis=-1).astype(">u2")
    return _png(folder / "16.png", rows.shape[1], rows.shape[0], 16, 2, b"".join(b"\0" + row.tobytes() for row in rows))


def _png(path: Path, width: int, height: int, bits: int, colour: int, raw: bytes) -> Path:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b"")
    )
    return path


def _bytes(name: str, content: bytes, folder: Path) -> Path:
    (folder / name).write_bytes(content)
    return folder / name


def _refused_cases(grey: Image.Image) -> Iterator[Case]:
    buffer = io.BytesIO()
    grey.save(buffer, "PNG")
    png = buffer.getvalue()
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
    contents = {
        "empty.png": b"", "cut.png": png[: len(png) // 2], "text.png": b"no picture\n",
        "page.jpg": b"<!DOCTYPE html><html></html>",
        "eps.png": eps, "eps.eps": eps, "pdf.png": b"%PDF-1.4\n", "svg.png": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "pointer.png": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n", "zeros.tif": bytes(500),
        "tiff_cut.tif": b"II*\0\x08\0\0\0", "jpeg_cut.jpg": b"\xff\xd8\xff\xe0\0\x10JFIF\0", "xpm.png": b"/* XPM */\n",
    }  # fmt: skip
    for name, content in contents.items():
        yield Case(f"refused: {name}", partial(_bytes, name, content), read_image_file, named=name)
    rows = b"\0" + bytes(13_000)
    write = partial(_bomb, rows)
    yield Case("PNG of 169 megapixels in 164 kB", write, read_image_file, named="bomb.png")
    yield Case("a folder", lambda folder: folder, read_image_file, named="folder")
    yield Case("nothing there", lambda folder: folder / "none.png", read_image_file, named="none.png")


def _bomb(row: bytes, folder: Path) -> Path:
    return _png(folder / "bomb.png", 13_000, 13_000, 8, 0, row * 13_000)


def picture_cases() -> list[Case]:
    """All of them."""
    return [*tiff_cases(), *other_cases()]
