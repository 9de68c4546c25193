# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Where the pixels of a picture are, as ITK and 3D Slicer place them, and what shape they have."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

from monai.utils import optional_import
from PIL import Image

tifffile, _ = optional_import("tifffile")

__all__ = ["ITK_FLIPS", "TURNS", "PictureHeader", "read_picture_header"]

_FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF", "PPM", "JPEG2000")  # JPEG finds MPO; never those that start a program
_ORIENTATION = 274  # EXIF and TIFF
_MILLIMETRES = {2: 25.4, 3: 10.0}  # TIFF ResolutionUnit: inch, centimetre
_JFIF_MILLIMETRES = {1: 25.4, 2: 10.0}

# EXIF orientation: where the stored column and row go in the upright picture (0: its row, 1: its column), and whether
# turned round. 6, say: the stored row becomes the column, counted from the right.
TURNS = {
    1: ((1, 1), (0, 1)),
    2: ((1, -1), (0, 1)),
    3: ((1, -1), (0, -1)),
    4: ((1, 1), (0, -1)),
    5: ((0, 1), (1, 1)),
    6: ((0, 1), (1, -1)),
    7: ((0, -1), (1, -1)),
    8: ((0, -1), (1, 1)),
}
# Direction in which ITK counts the stored columns and rows of a TIFF file.
ITK_FLIPS = {1: (1, 1), 2: (-1, 1), 3: (-1, -1), 4: (1, -1), 5: (1, 1), 6: (-1, 1), 7: (-1, -1), 8: (1, -1)}


@dataclass(frozen=True)
class PictureHeader:
    """What a picture says of its pixels.

    Args:
        spacing: width and height of a stored pixel in millimetres, as ITK understands them; 1 where it does not.
        aspect: width and height of a stored pixel in relation to each other.
        orientation: how the stored picture is to be turned, a key of `TURNS`.
        is_tiff: of TIFF alone ITK follows the orientation, but never swaps rows and columns.
    """

    spacing: tuple[float, float] = (1.0, 1.0)
    aspect: tuple[float, float] = (1.0, 1.0)
    orientation: int = 1
    is_tiff: bool = False


def read_picture_header(path: Path) -> PictureHeader:
    """What a picture says of its pixels; of a file without such words, or in another format, the default."""
    with open(path, "rb") as file:
        start = file.read(4)
    try:
        if start[:2] in (b"II", b"MM"):
            return _tiff(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=_FORMATS) as picture:
                return _picture(picture)
    # Pixels have been read before: a resolution that Pillow cannot read, or will not in a large picture, is none.
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, tifffile.TiffFileError):
        return PictureHeader()


def _tiff(path: Path) -> PictureHeader:
    with tifffile.TiffFile(path) as file:
        tags = file.pages[0].tags
        densities = [_fraction(tags.valueof(code)) for code in (282, 283)]
        unit, orientation = tags.valueof(296), tags.valueof(_ORIENTATION)
    width, height = _sizes(*densities)
    scale = _MILLIMETRES.get(int(unit or 0))
    spacing = (width * scale, height * scale) if scale and min(densities) > 0 else (1.0, 1.0)
    return PictureHeader(spacing, (width, height), _known_turn(orientation), is_tiff=True)


def _picture(picture: Image.Image) -> PictureHeader:
    orientation = _known_turn(picture.getexif().get(_ORIENTATION))
    density, unit = picture.info.get("jfif_density"), picture.info.get("jfif_unit")
    if density is None or picture.format not in ("JPEG", "MPO"):
        # ITK leaves the resolution of PNG, BMP and others aside.
        aspect = picture.info.get("aspect")  # PNG: pixels per unknown unit
        return PictureHeader(aspect=_sizes(*(aspect or picture.info.get("dpi") or (1, 1))), orientation=orientation)
    width, height = _sizes(*density)
    scale = _JFIF_MILLIMETRES.get(int(unit or 0))
    spacing = (width * scale, height * scale) if scale and min(density) > 0 else (1.0, 1.0)
    return PictureHeader(spacing, (width, height), orientation)


def _sizes(across: float, down: float) -> tuple[float, float]:
    """Width and height of a pixel from how many there are in a unit."""
    across, down = float(across), float(down)
    return (1 / across, 1 / down) if across > 0 and down > 0 else (1.0, 1.0)


def _fraction(value: object) -> float:
    if isinstance(value, tuple) and len(value) == 2 and value[1]:
        return float(value[0]) / float(value[1])
    return 0.0


def _known_turn(value: object) -> int:
    return value if isinstance(value, int) and value in TURNS else 1
