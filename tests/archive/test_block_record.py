"""A block's record is read as it was written, or not at all."""

from __future__ import annotations

import numpy as np
import pytest

from monai_diffclf.archive.block_record import BlockRecord, RankedCase, block_path, write_block
from monai_diffclf.report.case_record import CaseRecord


@pytest.fixture
def record():
    case = RankedCase(0.1 + 0.2, 17, CaseRecord("ü", {"probability": 1 / 3}, "{}", None))
    rows = [{"key": "ü", "error": "", "number": 1 / 3}]
    return BlockRecord("plan", 3, rows, [case], {"a b.png": b"\x89PNG"}, np.ones((1, 2, 3), np.float32))


def test_comes_back_as_it_was(record, tmp_path):
    write_block(tmp_path, 3, record.pack())
    found = BlockRecord.read(block_path(tmp_path, 3), "plan", 3)
    assert (found.rows, found.cases, found.maps) == (record.rows, record.cases, record.maps)
    np.testing.assert_array_equal(found.errors, record.errors)
    assert found.pack() == record.pack()


def test_of_another_plan_or_block_is_none(record, tmp_path):
    write_block(tmp_path, 3, record.pack())
    assert BlockRecord.read(block_path(tmp_path, 3), "other", 3) is None
    assert BlockRecord.read(block_path(tmp_path, 3), "plan", 4) is None
    assert BlockRecord.read(tmp_path / "nothing.zip", "plan", 3) is None


def test_damaged_is_none(record, tmp_path):
    content = record.pack()
    whole = BlockRecord.read
    for size in (0, 10, len(content) // 2, len(content) - 1):
        (tmp_path / "cut.zip").write_bytes(content[:size])
        assert whole(tmp_path / "cut.zip", "plan", 3) is None
    place = content.index(b"\x89PNG")
    (tmp_path / "flipped.zip").write_bytes(content[:place] + b"\x88" + content[place + 1 :])
    assert whole(tmp_path / "flipped.zip", "plan", 3) is None


def test_is_not_written_where_nobody_waits(record, tmp_path):
    with pytest.raises(FileNotFoundError):
        write_block(tmp_path / "gone", 3, record.pack())
