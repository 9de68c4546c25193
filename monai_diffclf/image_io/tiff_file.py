# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""TIFF files of any depth, photometric interpretation and sample format."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import TiffImagePlugin

from .limits import MAX_PIXELS, check_pixel_count, inflate
from .picture_file import check_opaque, deep_colour
from .pixel_values import scale_by_type, turned, warn_if_faint

__all__ = ["read_tiff"]

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, YCBCR = 0, 1, 2, 3, 6
UNSIGNED, SIGNED, FLOAT = 1, 2, 3
SEPARATE = 2  # PlanarConfiguration
SPARE_BYTES = 4096
NONE, DEFLATE, PACK_BITS = 1, (8, 32946), 32773
BY_PILLOW = (2, 3, 4, 5, 7, *DEFLATE)  # CCITT, LZW, JPEG, deflate


@dataclass(frozen=True)
class Samples:
    """Values [H, W, S] as they are stored, and those that are the lowest and the highest possible."""

    values: npt.NDArray[Any]
    low: float
    high: float

    def scaled(self) -> npt.NDArray[np.float32]:
        """From 0 to 1."""
        if np.issubdtype(self.values.dtype, np.floating):
            return scale_by_type(self.values)
        return np.asarray((self.values - np.float64(self.low)) / (self.high - self.low), dtype=np.float32)


def read_tiff(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> npt.NDArray[np.float32]:
    """The pixels of a TIFF file with one picture, turned as its Orientation says.

    Integers are scaled by the range of their bits, floats must be in [0, 1]; WhiteIsZero is inverted. TIFF 6.0.

    Returns:
        float32 in [0, 1], ``[H, W, 1]`` or ``[H, W, 3]``.

    Raises:
        ValueError: when the file has several pages, is too large, cut off or transparent, or has a depth, colour space
            or compression that is not read.
    """
    with tifffile.TiffFile(path) as file:
        page = _only_page(file)
        check_pixel_count([page.imagelength, page.imagewidth], max_pixels)
        _check_segments(page, os.path.getsize(path))
        layout = _layout(page)
        samples = _decode(path, page, layout)
        if layout.photometric == PALETTE:
            return np.asarray(_colours(page)[samples.values[..., 0].astype(np.int64)], dtype=np.float32)
        colours = 3 if layout.photometric in (RGB, YCBCR) else 1
        # 1 and 2 are alpha, multiplied into the colours or not.
        alpha = any(int(extra) in (1, 2) for extra in page.extrasamples)
        image = _without_extra(samples, colours, alpha=alpha).scaled()
        if layout.kind != FLOAT:
            warn_if_faint(image, layout.bits, path)
        return 1 - image if layout.photometric == WHITE_IS_ZERO else image


def _only_page(file: Any) -> Any:
    """The page with the picture; thumbnails and masks are none."""
    pages = [page for page in file.pages if not (page.subfiletype & 5)]
    images = int((file.imagej_metadata or {}).get("images", 1)) if file.is_imagej else 1
    count = max(len(pages), images)
    if count == 1 and pages[0].shaped[1] != 1:
        raise ValueError(
            f"expected one picture, got a volume of {pages[0].shaped[1]} planes; save each as its own file"
        )
    if count != 1:
        raise ValueError(f"expected one picture, got a file with {count}; save each as its own file")
    return pages[0]


@dataclass(frozen=True)
class Layout:
    """What the tags say of the samples: colour space, bits, kind, compression."""

    photometric: int
    bits: int
    kind: int
    compression: int

    @property
    def ends(self) -> tuple[float, float]:
        """The lowest and the highest value; for floats 0 and 1."""
        if self.kind == FLOAT:
            return 0.0, 1.0
        return (
            (-(2.0 ** (self.bits - 1)), 2.0 ** (self.bits - 1) - 1)
            if self.kind == SIGNED
            else (0.0, 2.0**self.bits - 1)
        )


def _layout(page: Any) -> Layout:
    photometric = int(page.photometric)
    if photometric not in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, YCBCR):
        raise ValueError(
            f"expected PhotometricInterpretation WhiteIsZero, BlackIsZero, RGB, palette or YCbCr, got {photometric} "
            f"({getattr(page.photometric, 'name', '')}); save the file as grey or RGB"
        )
    bits, kind = page.bitspersample, int(page.sampleformat)
    if not isinstance(bits, int):
        raise ValueError(f"expected one BitsPerSample for all samples, got {bits}")
    if kind not in (UNSIGNED, SIGNED, FLOAT) or (kind == FLOAT and bits not in (16, 32, 64)):
        raise ValueError(f"expected a SampleFormat of unsigned, signed or float, got {kind} of {bits} bits")
    if kind != FLOAT and bits > 16:
        raise ValueError(f"expected 8 or 16 bits for a pixel, got {bits}; convert the file")
    if photometric == PALETTE and (kind != UNSIGNED or page.samplesperpixel != 1):
        raise ValueError("expected one unsigned sample for a pixel of a palette")
    return Layout(photometric, bits, kind, int(page.compression))


def _check_segments(page: Any, size: int) -> None:
    """Strips and tiles must be in the file: what is missing would be filled with zeros."""
    ends = [start + count for start, count in zip(page.dataoffsets, page.databytecounts, strict=True)]
    if not ends or min(page.databytecounts) < 1:
        raise ValueError("expected pixels in all strips or tiles, got an empty one")
    if max(ends) > size:
        raise ValueError(f"expected a file of {max(ends)} bytes or more, got {size}: it is cut off")


def _decode(path: str | os.PathLike[str], page: Any, layout: Layout) -> Samples:
    """The samples [H, W, S], the right way round."""
    compression = layout.compression
    if compression not in (NONE, PACK_BITS, *DEFLATE, *BY_PILLOW):
        name = getattr(page.compression, "name", compression)
        raise ValueError(f"the compression {name} is not read; save the file uncompressed or with LZW")
    planes = page.planarconfig == SEPARATE
    packed = layout.bits not in (1, 8, 16, 32, 64)
    # Bits in the reverse order are those of the compressed data, which libtiff turns back.
    simple = page.predictor == 1 and layout.photometric != YCBCR and (page.fillorder == 1 or compression == NONE)
    if compression not in (NONE, PACK_BITS, *DEFLATE) or not simple or (packed and (planes or page.is_tiled)):
        return _by_pillow(path, layout)
    _check_sizes(page, layout)
    if packed:
        array = _unpack(page, layout)
    else:
        array = page.asarray()
        array = np.moveaxis(array, 0, -1) if planes and array.ndim == 3 else array
        array = array if array.ndim == 3 else array[..., None]
    orientation = int(getattr(page.tags.get("Orientation"), "value", 1))
    return Samples(turned(array, orientation), *layout.ends)


def _check_sizes(page: Any, layout: Layout) -> None:
    """Refuse files that hold fewer pixels than they say, and strips or tiles that inflate to more than their share."""
    if layout.compression == NONE:
        row = page.imagewidth * page.samplesperpixel * layout.bits // 8
        if sum(page.databytecounts) < row * page.imagelength:
            raise ValueError(
                f"expected {row * page.imagelength} bytes of pixels, got {sum(page.databytecounts)}: it is cut off"
            )
    if layout.compression in DEFLATE:
        share = math.prod(page.chunks) * layout.bits // 8 + SPARE_BYTES
        for data, _ in page.parent.filehandle.read_segments(page.dataoffsets, page.databytecounts):
            inflate(data, share, header=True)


def _unpack(page: Any, layout: Layout) -> npt.NDArray[np.uint16]:
    """Strips whose samples lie bit by bit one after the other; each row begins with a byte."""
    width, samples = page.imagewidth, page.samplesperpixel
    row = (width * samples * layout.bits + 7) // 8
    content = bytearray()
    for data, _ in page.parent.filehandle.read_segments(page.dataoffsets, page.databytecounts):
        if layout.compression in DEFLATE:
            content += inflate(data, row * page.rowsperstrip + SPARE_BYTES, header=True)
        else:
            content += tifffile.TIFF.DECOMPRESSORS[PACK_BITS](data) if layout.compression == PACK_BITS else data
    if len(content) < row * page.imagelength:
        raise ValueError(f"expected {row * page.imagelength} bytes of pixels, got {len(content)}: the file is cut off")
    rows = np.frombuffer(content, dtype=np.uint8)[: row * page.imagelength].reshape(page.imagelength, row)
    flat = np.unpackbits(rows, axis=1, bitorder="little" if page.fillorder == 2 else "big")[
        :, : width * samples * layout.bits
    ]
    cells = flat.reshape(page.imagelength, width, samples, layout.bits)
    weights = 2 ** np.arange(layout.bits - 1, -1, -1, dtype=np.int32)
    values = cells @ weights
    if layout.kind == SIGNED:
        values = np.where(values >= 2 ** (layout.bits - 1), values - 2**layout.bits, values)
    return np.asarray(values)


def _by_pillow(path: str | os.PathLike[str], layout: Layout) -> Samples:
    """What libtiff decodes, where Pillow leaves no doubt of what it did to the values. Pillow turns the picture."""
    with TiffImagePlugin.TiffImageFile(os.fspath(path)) as file:
        mode = file.mode
        if layout.kind == UNSIGNED and layout.bits == 16 and mode in ("RGB", "RGBA"):
            deep = deep_colour(lambda: TiffImagePlugin.TiffImageFile(os.fspath(path)), mode, big_endian=False)
            return Samples(deep, 0, 65535)
        if layout.photometric == YCBCR and layout.bits == 8:
            return Samples(np.asarray(file.convert("RGB")), 0, 255)
        array: npt.NDArray[Any] = np.asarray(file)
    array = array if array.ndim == 3 else array[..., None]
    if layout.kind == UNSIGNED and mode in ("1", "L", "LA"):
        # Pillow inverts these, and scales them to 8 bits.
        array = array.astype(np.uint8) * (255 if mode == "1" else 1)
        return Samples(255 - array if layout.photometric == WHITE_IS_ZERO else array, 0, 255)
    modes = {"P": (UNSIGNED, 8), "RGB": (UNSIGNED, 8), "RGBA": (UNSIGNED, 8), "F": (FLOAT, 32), "I": (SIGNED, 16)}
    as_stored = modes.get(mode) == (layout.kind, layout.bits) or (
        mode.startswith("I;16") and layout.kind == UNSIGNED and layout.bits in (12, 16)
    )
    if not as_stored:
        raise ValueError(
            f"{layout.bits} bits with the compression {layout.compression} are not read; save the file uncompressed"
        )
    return Samples(array, *layout.ends)


def _colours(page: Any) -> npt.NDArray[np.float32]:
    """The palette [N, 3] in [0, 1]. Old programs wrote 8 bits where the format has 16."""
    colours = np.asarray(page.colormap, dtype=np.float32).T
    return np.asarray(colours / (255 if colours.max() < 256 else 65535), dtype=np.float32)


def _without_extra(samples: Samples, colours: int, *, alpha: bool) -> Samples:
    """Without samples that are no colour, which must be opaque, as alpha channels are."""
    values = samples.values
    if values.shape[-1] < colours:
        raise ValueError(f"expected {colours} samples for a pixel, got {values.shape[-1]}")
    if values.shape[-1] > colours:
        if values[..., colours:].min() < samples.high and not alpha:
            raise ValueError(f"expected {colours} samples for a pixel, got {values.shape[-1]}; save it as grey or RGB")
        check_opaque(values[..., colours:], samples.high)
    return Samples(values[..., :colours], samples.low, samples.high)
