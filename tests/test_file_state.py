"""What is remembered of a file, and when it is asked anew."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pydicom
import pytest

from monai_diffclf._file_state import once_a_file
from monai_diffclf.data import load_image_folder
from tests.volume_fixtures import write_series


def test_a_file_is_asked_once_and_again_when_it_has_changed(tmp_path):
    asked = []

    @once_a_file
    def first_letter(path):
        """The letter."""
        asked.append(os.fspath(path))
        return Path(path).read_text()[0]

    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("a")
    two.write_text("a")
    assert [first_letter(path) for path in (one, str(one), two)] == ["a", "a", "a"]
    assert asked == [str(one), str(two)] and first_letter.__doc__ == "The letter."
    one.write_text("bb")
    assert first_letter(one) == "b"
    one.write_text("cc")
    os.utime(one, ns=(1, 1))
    assert first_letter(one) == "c" and len(asked) == 4
    one.unlink()
    with pytest.raises(FileNotFoundError):
        first_letter(one)


def test_headers_of_series_are_read_once_for_all_splits(tmp_path, monkeypatch):
    for name in ("train/a/1", "train/b/2", "val/a/3", "val/b/4", "test/a/5", "test/b/6"):
        write_series(tmp_path / name, np.zeros((4, 6, 6), int), StudyDescription=name)
    read, own = [], pydicom.dcmread
    monkeypatch.setattr(pydicom, "dcmread", lambda path, **more: read.append(path) or own(path, **more))
    first = load_image_folder(tmp_path, "train", volumes=True)
    once = len(read)
    again = [load_image_folder(tmp_path, split, volumes=True) for split in ("validation", "test")]
    assert [len(items) for items in (first, *again)] == [2, 2, 2]
    assert len(read) - once == 4, "all but the identifiers of each series"
