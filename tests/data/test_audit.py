"""The audit finds what splits share."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from monai_diffclf.data import audit_splits


def item(value: int, label: int, patient: str = "", key: str = "") -> dict:
    return {"image": np.full((2, 2), value, dtype=np.uint8), "label": label, "key": key, "patient": patient}


def test_findings():
    audit = audit_splits(
        {
            "train": [item(0, 0, "A", "a"), item(0, 0, "A", "b"), item(1, 1, "B", "c"), item(2, 1, "C", "d")],
            "validation": [item(3, 1, "B", "e"), item(2, 0, "D", "f")],
            "test": [item(4, 0), item(5, 1)],
        }
    )
    assert audit.counts == {"train": {0: 2, 1: 2}, "validation": {0: 1, 1: 1}, "test": {0: 1, 1: 1}}
    assert audit.patients == {"train": 3, "validation": 2, "test": 0}
    assert audit.without_patient == {"train": 0, "validation": 0, "test": 2}
    assert audit.duplicates_within == {"train": 1, "validation": 0, "test": 0}
    assert {pair: len(keys) for pair, keys in audit.duplicates_across.items()} == {
        ("train", "validation"): 1,
        ("train", "test"): 0,
        ("validation", "test"): 0,
    }
    assert audit.shared_patients == {
        ("train", "validation"): ("B",),
        ("train", "test"): (),
        ("validation", "test"): (),
    }
    assert list(audit.contradictions.values()) == [(("train", "d", 1), ("validation", "f", 0))]


def test_table_to_read():
    text = str(audit_splits({"train": [item(0, 0, "A", "a")], "test": [item(0, 2, "A", "b"), item(1, 2)]}))
    assert text.splitlines() == [
        "split     images    class 0    class 2   patients no patient   repeated",
        "train          1          1          0          1          0          0",
        "test           2          0          2          1          1          0",
        "train and test share 1 patients and 1 identical images",
        "identical images with different labels: 1",
        "  train a: class 0; test b: class 2",
    ]


def test_files_are_compared_by_their_pixels(tmp_path, asymmetric, write_dicom):
    Image.fromarray(asymmetric).save(tmp_path / "a.png")
    Image.fromarray(np.dstack([asymmetric] * 3)).save(tmp_path / "colour.png")
    write_dicom(tmp_path / "a.dcm", asymmetric)
    files = [{"image": str(file), "label": 0} for file in sorted(tmp_path.iterdir())]
    audit = audit_splits({"train": files, "test": [{"image": asymmetric, "label": 0}]})
    assert audit.duplicates_within == {"train": 2, "test": 0}
    assert len(audit.duplicates_across["train", "test"]) == 1
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"a\.png: .* it is empty"):
        audit_splits({"train": files})


def test_no_splits():
    with pytest.raises(ValueError, match="splits: expected at least one split, got none"):
        audit_splits({})
