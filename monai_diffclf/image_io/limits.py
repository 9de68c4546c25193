# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Limits on what an image file may become in memory, checked before it is decoded."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from collections.abc import Callable, Sequence

__all__ = ["MAX_PIXELS", "byte_limit", "check_pixel_count", "inflate", "read_bytes"]

MAX_PIXELS = 100_000_000
"""Pixels of an image (rows x columns x slices or frames) that are decoded unless more are allowed."""

BYTES_PER_PIXEL = 8  # doubles, or 16-bit colour with an alpha channel
HEADER_BYTES = 2**26
CHUNK = 2**20


def byte_limit(max_pixels: int) -> int:
    """The most bytes that a file of `max_pixels` pixels needs: 8 a pixel, and 64 MiB for its header.

    Example:
        >>> byte_limit(100_000_000)
        867108864
    """
    return BYTES_PER_PIXEL * max_pixels + HEADER_BYTES


def check_pixel_count(shape: Sequence[int], max_pixels: int = MAX_PIXELS) -> None:
    """Refuse an image of more pixels than allowed, by what its header says.

    Args:
        shape: rows, columns and, if there are several, slices or frames.
        max_pixels: the limit.

    Raises:
        ValueError: when there are more, or a side is not positive.

    Example:
        >>> check_pixel_count([20000, 20000])
        Traceback (most recent call last):
            ...
        ValueError: expected at most 100,000,000 pixels, got 20000 x 20000 = 400,000,000; allow more with max_pixels
    """
    sides = [int(side) for side in shape]
    written = " x ".join(map(str, sides))
    if any(side < 1 for side in sides):
        raise ValueError(f"expected an image with pixels, got the size {written}")
    if math.prod(sides) > max_pixels:
        raise ValueError(
            f"expected at most {max_pixels:,} pixels, got {written} = {math.prod(sides):,}; allow more with max_pixels"
        )


def read_bytes(path: str | os.PathLike[str], max_bytes: int) -> bytes:
    """The content of a file, inflated if it is gzipped, without ever holding more than the limit.

    Args:
        path: the file.
        max_bytes: most bytes of the (inflated) content; see `byte_limit`.

    Raises:
        ValueError: when there are more.
        EOFError: when a gzipped file is cut off.
    """
    with open(path, "rb") as file:
        gzipped = file.read(2) == b"\x1f\x8b"
    with gzip.open(path, "rb") if gzipped else open(path, "rb") as content:
        return _gather(content.read, max_bytes)


def inflate(data: bytes, max_bytes: int, *, header: bool = False) -> bytes:
    """What a deflate stream (RFC 1951) holds, never more than the limit.

    Args:
        data: the stream.
        max_bytes: the limit.
        header: whether it is one with zlib's header (RFC 1950).

    Raises:
        ValueError: when it holds more, or is cut off.

    Example:
        >>> packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        >>> bomb = packer.compress(bytes(1000)) + packer.flush()
        >>> len(bomb), len(inflate(bomb, 1000))
        (11, 1000)
    """
    stream = zlib.decompressobj(wbits=zlib.MAX_WBITS if header else -zlib.MAX_WBITS)
    rest = data

    def read(size: int) -> bytes:
        nonlocal rest
        piece = stream.decompress(rest, size)
        rest = stream.unconsumed_tail
        if not piece and not stream.eof:
            raise ValueError("expected a whole deflate stream, but it is cut off")
        return piece

    return _gather(read, max_bytes)


def _gather(read: Callable[[int], bytes], max_bytes: int) -> bytes:
    """All pieces as one, up to the limit. One large read would take its memory before the first byte has come."""
    content = bytearray()
    while piece := read(CHUNK):
        content += piece
        if len(content) > max_bytes:
            raise ValueError(f"expected at most {max_bytes:,} bytes of content, got more; allow more with max_pixels")
    return bytes(content)
