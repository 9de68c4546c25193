# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Whether a PNG holds all the rows that its header promises."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

__all__ = ["check_png_rows"]

CHUNK = 2**20
SIGNATURE = 8
SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
# Adam7: first column and row of each pass, and the steps between them (PNG, 8.2).
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def check_png_rows(path: str | os.PathLike[str]) -> None:
    """Refuse a PNG whose compressed pixels end, in good order, before its last row: Pillow would make the rest black.

    Args:
        path: a PNG file whose header Pillow has read.

    Raises:
        ValueError: when rows are missing. Damaged data are left to the decoder, which refuses them.
    """
    with open(path, "rb") as file:
        content = _chunks(file)
        header = next(content)[1]
        wanted = _bytes_of_rows(header)
        stream, found = zlib.decompressobj(), 0
        try:
            for data in (data for kind, data in content if kind == b"IDAT"):
                rest = data
                while rest and not stream.eof and found < wanted:
                    found += len(stream.decompress(rest, CHUNK))
                    rest = stream.unconsumed_tail
        except zlib.error:
            return
    if found < wanted and stream.eof:
        raise ValueError(f"expected {wanted} bytes of pixels, got {found}: rows are missing; copy or export it again")


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of each chunk up to the end of the file; of others than header and pixels without content."""
    file.seek(SIGNATURE)
    while len(start := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", start)
        if kind in (b"IHDR", b"IDAT"):
            yield kind, file.read(length)
            file.seek(4, os.SEEK_CUR)
        else:
            file.seek(length + 4, os.SEEK_CUR)


def _bytes_of_rows(header: bytes) -> int:
    """Size of all rows, each with its filter's byte."""
    width, height, bits, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header[:13])
    total = 0
    for column, row, across, down in PASSES if interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(width - column) // across), -(-(height - row) // down)
        if columns > 0 and rows > 0:
            total += rows * (1 + (columns * bits * SAMPLES.get(colour, 1) + 7) // 8)
    return total
