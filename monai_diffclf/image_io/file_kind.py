# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What kind of image a file is, by its first bytes."""

from __future__ import annotations

import os
import re
import zlib

__all__ = [
    "DICOM_SUFFIXES",
    "NIFTI_SUFFIXES",
    "NRRD_SUFFIXES",
    "PICTURE_SUFFIXES",
    "has_dicom_mark",
    "is_hidden",
    "kind_of",
]

PICTURE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp", ".gif", ".webp"),
    *(".pbm", ".pgm", ".ppm", ".pnm", ".jp2", ".j2k", ".jpx"),
)
DICOM_SUFFIXES = (".dcm", ".dicom")
NIFTI_SUFFIXES = (".nii", ".nii.gz")
NRRD_SUFFIXES = (".nrrd",)

_BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)
# PBM, PGM and PPM, or PFM with one channel: width and height, after white space and comments.
_PNM = re.compile(rb"P[1-6f](\s+|#[^\n]*\n)+\d+(\s+|#[^\n]*\n)+\d+\s")

# Value representations of the elements that a data set may begin with.
_FIRST_VR = (b"UL", b"OB", b"CS", b"UI", b"SH", b"DA", b"DT", b"TM", b"LO", b"SQ", b"ST", b"PN")


def kind_of(path: str | os.PathLike[str]) -> str | None:
    """Kind of an image file by its content: "DICOM", "NIfTI", "NRRD", "TIFF", a format as Pillow calls it, or None."""
    with open(path, "rb") as file:
        head = file.read(512)
    if head[128:132] == b"DICM":
        return "DICOM"
    if _is_nifti(_gunzipped(head)):
        return "NIfTI"
    if head.startswith(b"NRRD000"):
        return "NRRD"
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "TIFF"
    return _picture_format(head) or ("DICOM" if _begins_like_dicom(head) else None)


def has_dicom_mark(path: str | os.PathLike[str]) -> bool:
    """Whether a file is DICOM by its content, with or without preamble, whatever its name."""
    return kind_of(path) == "DICOM"


def is_hidden(name: str) -> bool:
    """Whether a file or folder is the system's or a program's own: ``.git``, ``__MACOSX``, ``Thumbs.db``."""
    return name.startswith((".", "__")) or name.lower() in ("thumbs.db", "desktop.ini")


def _picture_format(head: bytes) -> str | None:
    marks = {
        "PNG": (b"\x89PNG\r\n\x1a\n",),
        "JPEG": (b"\xff\xd8\xff",),
        "GIF": (b"GIF87a", b"GIF89a"),
        "JPEG2000": (b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  \r\n\x87\n"),
    }
    for name, beginnings in marks.items():
        if head.startswith(beginnings):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    # Two letters alone may begin a text: BMP's are followed by a header of a known size, PNM's by numbers.
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    return "PPM" if _PNM.match(head) else None


def _gunzipped(head: bytes) -> bytes:
    """The first bytes, inflated as far as they go if they are gzipped."""
    if head[:2] != b"\x1f\x8b":
        return head
    try:
        return zlib.decompressobj(wbits=16 + zlib.MAX_WBITS).decompress(head, 512)
    except zlib.error:
        return b""


def _is_nifti(head: bytes) -> bool:
    return head[344:348] in (b"n+1\0", b"ni1\0") or head[4:8] in (b"n+2\0", b"ni2\0")


def _begins_like_dicom(head: bytes) -> bool:
    """Whether the first bytes are an element of the groups 2 or 8, as in a DICOM file without a preamble."""
    if len(head) < 12:
        return False
    big_endian = head[:2] == b"\0\x08"
    group, element = (int.from_bytes(head[n : n + 2], "big" if big_endian else "little") for n in (0, 2))
    if group not in (2, 8) or element > 0x70:
        return False
    # Explicit: the value representation; implicit: a length.
    return head[4:6] in _FIRST_VR or (not big_endian and 0 < int.from_bytes(head[4:8], "little") <= 256)
