# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""PNG, JPEG, BMP, GIF, WebP, JPEG 2000 and PNM files."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import (
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    WebPImagePlugin,
)

from .doubts import doubt
from .file_kind import kind_of
from .limits import MAX_PIXELS, check_pixel_count
from .pixel_values import scale_by_type, turned, warn_if_faint
from .png_rows import check_png_rows

__all__ = ["check_opaque", "deep_colour", "read_picture"]

# Only these are ever opened: Pillow knows formats that start other programs (EPS, WMF). Their own functions are called
# and not Image.open, whose limit on pixels is a global variable.
OPEN: dict[str, Any] = {
    "PNG": PngImagePlugin.PngImageFile,
    "JPEG": JpegImagePlugin.jpeg_factory,
    "BMP": BmpImagePlugin.BmpImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "JPEG2000": Jpeg2KImagePlugin.Jpeg2KImageFile,
    "PPM": PpmImagePlugin.PpmImageFile,
}

# What users take for pictures, by how it begins.
NO_PICTURE = {
    b"%!": "PostScript",
    b"\xc5\xd0\xd3\xc6": "PostScript (EPS)",
    b"%PDF": "PDF",
    b"<": "HTML or XML",
    b"version https://git-lfs": "a Git LFS pointer; run `git lfs pull`",
    b"PK\x03\x04": "a ZIP archive; unpack it",
}


def read_picture(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> npt.NDArray[np.float32]:
    """The pixels of a picture as a viewer shows them: turned as its EXIF data say, palettes resolved.

    Returns:
        float32 in [0, 1], ``[H, W, 1]`` or ``[H, W, 3]``. Grey keeps 16 bits, and so does PNG in colour; other
        formats in colour are rounded to 8.

    Raises:
        ValueError: when the format is none of the seven, the picture is too large, animated or transparent.
    """
    path = Path(path)
    kind = kind_of(path)
    if kind not in OPEN:
        with open(path, "rb") as content:
            head = content.read(32)
        known = next((name for mark, name in NO_PICTURE.items() if head.startswith(mark)), None)
        raise ValueError(
            "expected a PNG, JPEG, TIFF, BMP, GIF, WebP, JPEG 2000, PNM, DICOM or NIfTI file, got "
            + (known or f"a file that begins with {head[:16]!r}")
        )
    with OPEN[kind](str(path)) as file:
        check_pixel_count([file.height, file.width], max_pixels)
        frames = getattr(file, "n_frames", 1)
        # The further pictures of a phone's MPO file are previews or for the other eye.
        if frames > 1 and file.format != "MPO":
            raise ValueError(f"expected one picture, got a file with {frames}; save each as its own file")
        if kind == "PNG":
            check_png_rows(path)
        if kind == "PNG" and _bits_of_png(path) == 16 and file.mode in ("RGB", "RGBA"):
            image = _deep_png(path, file)
        else:
            deep = file.mode.startswith("I")
            image = turned(_as_floats(file), _orientation(file, path))
            if not deep:
                warn_if_faint(image, 8, path)
                return image
    warn_if_faint(image, 16, path)
    return image


def _orientation(file: Any, path: Path) -> int:
    """The orientation that the EXIF data say; 1, as stored, as viewers do, where these are damaged."""
    try:
        return int(file.getexif().get(ExifTags.Base.Orientation, 1))
    except (SyntaxError, ValueError, TypeError, KeyError, struct.error) as error:
        doubt(path, f"its EXIF data cannot be read ({error}), so it is not turned")
        return 1


def _as_floats(image: Image.Image) -> npt.NDArray[np.float32]:
    if image.mode == "I" or image.mode.startswith("I;16"):
        array = np.asarray(image)
        _check_key_colour(image, array)
        if array.min() < 0 or array.max() > 65535:
            raise ValueError("expected 8 or 16 bits for a pixel, got 32; convert the file")
        return scale_by_type(array.astype(np.uint16))[..., None]
    if image.mode == "F":
        return scale_by_type(np.asarray(image))[..., None]
    if image.has_transparency_data:
        check_opaque(np.asarray(image.convert("RGBA").getchannel("A")), 255)
    # Palettes and other colour spaces become RGB; one channel of 1 or 8 bits stays one.
    array = np.asarray(image.convert("L" if image.mode in ("1", "L", "LA") else "RGB"))
    return scale_by_type(array if array.ndim == 3 else array[..., None])


def check_opaque(alpha: npt.NDArray[Any], highest: float) -> None:
    """Refuse pixels that a background shines through: what it is, the file does not say.

    Raises:
        ValueError: when a value of the alpha channel is below the highest.
    """
    if alpha.size and alpha.min() < highest:
        raise ValueError("expected opaque pixels, got transparent ones; flatten the file on a background")


def _check_key_colour(image: Image.Image, array: npt.NDArray[Any]) -> None:
    """Refuse pixels of the colour that a PNG declares transparent (tRNS)."""
    key = image.info.get("transparency")
    if key is not None and (array == np.asarray(key)).reshape(*array.shape[:2], -1).all(axis=-1).any():
        check_opaque(np.zeros(1), 1)


def _bits_of_png(path: Path) -> int:
    with open(path, "rb") as content:
        return content.read(25)[24]


def _deep_png(path: Path, file: Image.Image) -> npt.NDArray[np.float32]:
    """A PNG of 16 bits in colour, or with alpha, of which Pillow by itself keeps the upper 8 bits."""
    array = deep_colour(lambda: PngImagePlugin.PngImageFile(str(path)), file.mode, big_endian=True)
    _check_key_colour(file, array)
    if array.shape[-1] in (2, 4):
        check_opaque(array[..., -1], 65535)
        array = array[..., :-1]
    return turned(scale_by_type(array), _orientation(file, path))


def deep_colour(open_image: Callable[[], Any], mode: str, *, big_endian: bool) -> npt.NDArray[np.uint16]:
    """All 16 bits of a colour image, whose upper and lower bytes Pillow can read one after the other.

    Args:
        open_image: opens the file anew.
        mode: RGB or RGBA.
        big_endian: byte order of the samples that the decoder gives.

    Returns:
        uint16 [H, W, 3 or 4]; [H, W, 2] for grey with alpha, which Pillow gives the mode RGBA.
    """
    with open_image() as file:
        if "LA;16B" in (file.tile[0].args, file.tile[0].args[0]):
            # Four bytes a pixel: two of grey, two of alpha.
            file.tile = [tile._replace(args="RGBA") for tile in file.tile]
            pairs = np.asarray(file).astype(np.uint16)
            return np.asarray(pairs[..., 0::2] << 8 | pairs[..., 1::2])
    halves = []
    # Of two bytes "16B" takes the first and "16L" the second.
    for order in ("16B", "16L") if big_endian else ("16L", "16B"):
        with open_image() as file:
            raw = f"{mode};{order}"
            file.tile = [t._replace(args=raw if isinstance(t.args, str) else (raw, *t.args[1:])) for t in file.tile]
            halves.append(np.asarray(file).astype(np.uint16))
    return np.asarray(halves[0] << 8 | halves[1])
