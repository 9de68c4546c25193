"""PNG files that hold fewer rows than they say, of every depth, colour type and interlacing."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from monai_diffclf.image_io import read_image_file
from monai_diffclf.image_io.png_rows import PASSES, check_png_rows

SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def rows_of(width: int, height: int, bits: int, colour: int, interlaced: bool) -> list[bytes]:
    """White rows, each after its filter's byte, in the order of the file: rows of all passes, if interlaced."""
    rows = []
    for left, top, across, down in PASSES if interlaced else [(0, 0, 1, 1)]:
        columns = len(range(left, width, across))
        if columns:
            row = b"\0" + b"\xff" * ((columns * bits * SAMPLES[colour] + 7) // 8)
            rows += [row] * len(range(top, height, down))
    return rows


def write(path: Path, width: int, height: int, bits: int, colour: int, interlaced: bool, raw: bytes, pieces: int = 1):
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packed = zlib.compress(raw)
    step = -(-len(packed) // pieces)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced))
        + (chunk(b"PLTE", b"\xff" * 3 * min(256, 2**bits)) if colour == 3 else b"")
        + b"".join(chunk(b"IDAT", packed[n : n + step]) for n in range(0, len(packed), step))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(
    ("bits", "colour"), [(1, 0), (2, 0), (4, 0), (8, 0), (16, 0), (8, 2), (16, 2), (8, 3), (4, 3), (8, 4), (16, 6)]
)
@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 5), (9, 7)])
def test_all_rows_or_none(width, height, bits, colour, interlaced, tmp_path):
    rows = rows_of(width, height, bits, colour, interlaced)
    write(tmp_path / "a.png", width, height, bits, colour, interlaced, b"".join(rows), pieces=3)
    assert np.all(read_image_file(tmp_path / "a.png") == 1)
    write(tmp_path / "b.png", width, height, bits, colour, interlaced, b"".join(rows[:-1]))
    with pytest.raises(ValueError, match=r"b\.png.*rows are missing"):
        read_image_file(tmp_path / "b.png")


def test_damaged_data_are_left_to_the_decoder(tmp_path):
    write(tmp_path / "a.png", 3, 3, 8, 0, False, b"".join(rows_of(3, 3, 8, 0, False)))
    content = bytearray((tmp_path / "a.png").read_bytes())
    content[content.index(b"IDAT") + 6] ^= 0xFF
    (tmp_path / "a.png").write_bytes(content)
    check_png_rows(tmp_path / "a.png")
    with pytest.raises(ValueError, match="cannot be read as an image"):
        read_image_file(tmp_path / "a.png")
