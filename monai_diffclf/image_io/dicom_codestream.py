# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The size that a compressed frame will have, read from its header before it is decoded."""

from __future__ import annotations

from typing import Any

from pydicom.encaps import generate_frames

from .dicom_header import field

__all__ = ["check_codestreams", "codestream_size"]

# Start of frame of JPEG (ITU T.81) and of JPEG-LS (T.87); C4, C8 and CC are no frames.
START_OF_FRAME = {0xF7, *range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
SIZE_OF_JPEG_2000 = b"\xff\x4f\xff\x51"


def check_codestreams(dataset: Any, frames: int) -> None:
    """Refuse frames whose own header has another size than the DICOM header.

    Raises:
        ValueError: naming the tags and both sizes.
    """
    said = (int(dataset.Rows), int(dataset.Columns))
    for number, frame in enumerate(generate_frames(dataset.PixelData, number_of_frames=frames)):
        size = codestream_size(frame)
        if size is not None and size != said:
            raise ValueError(
                f"expected a frame of {said[0]} x {said[1]} pixels as {field('Rows')} and {field('Columns')} say, got "
                f"{size[0]} x {size[1]} in the compressed frame {number + 1}"
            )
        if number + 1 == frames:
            return


def codestream_size(data: bytes) -> tuple[int, int] | None:
    """Rows and columns of a JPEG, JPEG-LS or JPEG 2000 image; None where no such header is found.

    Example:
        >>> codestream_size(bytes.fromhex("FFD8 FFC0 000B 08 0010 0020 01 01 11 00"))
        (16, 32)
    """
    start = data[:4096].find(SIZE_OF_JPEG_2000)
    if start >= 0:
        numbers = [int.from_bytes(data[start + n : start + n + 4], "big") for n in range(8, 24, 4)]
        return numbers[1] - numbers[3], numbers[0] - numbers[2]
    if data[:2] != b"\xff\xd8":
        return None
    place = 2
    while place + 9 <= len(data):
        if data[place] != 0xFF:
            return None
        marker = data[place + 1]
        if marker in START_OF_FRAME:
            return int.from_bytes(data[place + 5 : place + 7], "big"), int.from_bytes(
                data[place + 7 : place + 9], "big"
            )
        # A fill byte stands alone; a segment says its length.
        place += 1 if marker == 0xFF else 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return None
