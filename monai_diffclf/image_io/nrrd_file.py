# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""NRRD files with one volume in them, by pynrrd's reading of the header."""

from __future__ import annotations

import os
import zlib
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from monai.utils import optional_import

from .._optional import require
from .limits import MAX_PIXELS, check_pixel_count

nrrd, _ = optional_import("nrrd")

__all__ = ["NrrdHeader", "read_nrrd", "read_nrrd_header"]

# To the right, front and head, by the name of the space; a lone "scanner" or time axis says nothing of the patient.
_TO_RAS = {
    "right-anterior-superior": (1.0, 1.0, 1.0),
    "left-anterior-superior": (-1.0, 1.0, 1.0),
    "left-posterior-superior": (-1.0, -1.0, 1.0),
    "ras": (1.0, 1.0, 1.0),
    "las": (-1.0, 1.0, 1.0),
    "lps": (-1.0, -1.0, 1.0),
}
# Names of types in the NRRD format, section 5.
_TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "f4": ("float",),
    "f8": ("double",),
}
CHUNK = 2**20


class NrrdHeader:
    """What the header of an NRRD file says of a volume.

    Args:
        shape: size of the array as it is stored [X, Y, Z].
        affine: voxel -> millimetres, RAS [4, 4].
        dtype: type of the stored values.
        encoding: ``"raw"`` or ``"gzip"``.
        start: where the values begin in the file.
    """

    def __init__(
        self, shape: tuple[int, ...], affine: npt.NDArray[np.float64], dtype: np.dtype[Any], encoding: str, start: int
    ) -> None:
        self.shape, self.affine, self.dtype, self.encoding, self.start = shape, affine, dtype, encoding, start


def read_nrrd(
    path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS
) -> tuple[npt.NDArray[np.float32], NrrdHeader]:
    """The volume [X, Y, Z] of an NRRD file in its own units, and its header.

    Raises:
        ValueError: when it is no volume, is larger than `max_pixels`, its values are elsewhere, encoded in another way
            than raw or gzip, or cut off, or it does not say where its voxels lie.
    """
    header = read_nrrd_header(path, max_pixels=max_pixels)
    size = int(np.prod(header.shape)) * header.dtype.itemsize
    with open(path, "rb") as file:
        file.seek(header.start)
        content = file.read(size) if header.encoding == "raw" else _gunzip(file, size)
    if len(content) < size:
        raise ValueError(f"expected {size:,} bytes of values, got {len(content):,}: the file is cut off")
    # The first axis is the fastest.
    values = np.frombuffer(content, dtype=header.dtype).reshape(header.shape, order="F")
    return values.astype(np.float32), header


def read_nrrd_header(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> NrrdHeader:
    """Size, type and place of the volume in an NRRD file; see `read_nrrd`."""
    require("nrrd", argument="image", purpose="an NRRD file", command="pip install pynrrd")
    with open(path, "rb") as file:
        found = dict(nrrd.read_header(file))
        start = file.tell()
    if "data file" in found or "datafile" in found:
        raise ValueError("expected an NRRD file that holds its values, got a header of another file; write .nrrd")
    encoding = {"gz": "gzip"}.get(str(found.get("encoding")), str(found.get("encoding")))
    skips = [name for name in ("line skip", "lineskip", "byte skip", "byteskip") if int(found.get(name, 0))]
    if encoding not in ("raw", "gzip") or skips:
        got = skips[0] if skips else encoding
        raise ValueError(f"expected an NRRD file with the encoding raw or gzip and nothing skipped, got {got}")
    sizes = [int(size) for size in found.get("sizes", ())]
    directions = found.get("space directions")
    spatial = _spatial_axes(sizes, directions)
    shape = tuple(sizes[axis] for axis in spatial)
    check_pixel_count(shape, max_pixels)
    return NrrdHeader(shape, _affine(found, directions, spatial), _dtype(found), encoding, start)


def _spatial_axes(sizes: list[int], directions: Any) -> list[int]:
    """The three axes of space; any other must have size 1, such as one time point."""
    known = range(len(sizes)) if directions is None else np.flatnonzero(np.isfinite(directions).all(axis=1))
    axes = [int(axis) for axis in known][:3]
    others = [size for axis, size in enumerate(sizes) if axis not in axes]
    if len(axes) != 3 or any(size != 1 for size in others):
        raise ValueError(
            f"expected an NRRD array [X, Y, Z] of one time point and grey values, got {sizes}; save one as a file"
        )
    return axes


def _affine(found: dict[str, Any], directions: Any, spatial: list[int]) -> npt.NDArray[np.float64]:
    space = str(found.get("space", "none")).lower()
    if directions is None or space not in _TO_RAS:
        raise ValueError(
            f"expected the fields 'space directions' and 'space' ({', '.join(list(_TO_RAS)[:3])}), without which "
            f"nothing says where the voxels lie, got space {space!r}; write them, or convert the file to NIfTI"
        )
    units = {str(unit).strip().lower() for unit in np.atleast_1d(found.get("space units", []))}
    if other := units - {"", "none", "???", "mm", "millimeter", "millimeters", "millimetre", "millimetres"}:
        raise ValueError(
            f"expected an NRRD file with lengths in millimetres, got 'space units' {', '.join(sorted(other))}; write "
            "directions and origin in mm"
        )
    origin = found.get("space origin")
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(directions, dtype=np.float64)[spatial].T
    affine[:3, 3] = 0 if origin is None else np.asarray(origin, dtype=np.float64)
    return np.asarray(np.diag([*_TO_RAS[space], 1.0]) @ affine)


def _dtype(found: dict[str, Any]) -> np.dtype[Any]:
    kind = str(found.get("type", "")).lower()
    code = next((code for code, names in _TYPES.items() if kind in names), None)
    if code is None:
        raise ValueError(f"expected integers of up to 32 bits or floats as the type of an NRRD file, got {kind!r}")
    return np.dtype(("<" if str(found.get("endian", "little")).lower() == "little" else ">") + code)


def _gunzip(file: BinaryIO, size: int) -> bytes:
    """Up to so many bytes of a gzipped stream, and no more."""
    stream, content = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS), bytearray()
    while len(content) < size and not stream.eof:
        piece = stream.unconsumed_tail or file.read(CHUNK)
        if not piece:
            break
        content += stream.decompress(piece, min(CHUNK, size - len(content)))
    return bytes(content)
