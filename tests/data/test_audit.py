"""The audit finds what splits share."""

from __future__ import annotations

import json

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
    splits = {"train": [item(0, 0, "A", "a")], "test": [item(0, 2, "A", "b\x1b[2J"), item(1, 2)]}
    audit = audit_splits(splits, classes=["x", "y", "z"], absent={"validation": "has no folder"})
    assert str(audit).splitlines() == [
        "split     images          x          y          z   patients no patient   repeated",
        "train          1          1          0          0          1          0          0",
        "test           2          0          0          2          1          1          0",
        "no split 'validation': has no folder",
        "train and test share 1 patients and 1 identical images",
        r"  train a: x; test b\x1b[2J: z",
        "identical images with different labels: 1",
        r"  train a: x; test b\x1b[2J: z",
        "pairs of near-duplicates: none; 0 with different labels",
        "what gives the label away in train: too few images, or all alike in size, format and brightness",
    ]
    assert "class 2" in str(audit_splits(splits))
    record = audit.to_dict()
    assert json.loads(json.dumps(record)) == record
    assert record["splits"]["test"]["images_of_class"] == {"z": 2}
    assert record["shared_patients"] == {"train and test": ["A"]}
    assert record["contradictions"] == [
        [{"split": "train", "key": "a", "class": "x"}, {"split": "test", "key": "b\x1b[2J", "class": "z"}]
    ]


def test_unknown_patients_are_shared_with_nobody():
    audit = audit_splits(
        {"train": [item(0, 0, "nan"), item(1, 1, " A ")], "test": [item(2, 0, "NaN"), item(3, 1, "A")]}
    )
    assert audit.patients == {"train": 1, "test": 1}
    assert audit.without_patient == {"train": 1, "test": 1}
    assert audit.shared_patients == {("train", "test"): ("A",)}


def test_near_duplicates_and_their_labels(tmp_path):
    rng = np.random.default_rng(0)
    images = [(rng.random((64, 64)) * 60 + 60 * (n % 4)).astype(np.uint8) for n in range(40)]
    blobs = np.kron(rng.random((40, 8, 8)), np.ones((1, 8, 8)))
    images = [(40 + image / 4 + 120 * blob).astype(np.uint8) for image, blob in zip(images, blobs, strict=True)]
    splits = {
        "train": [{"image": image, "label": n % 2, "key": f"t{n}"} for n, image in enumerate(images[:20])],
        "test": [{"image": image, "label": n % 2, "key": f"e{n}"} for n, image in enumerate(images[20:])],
    }
    assert audit_splits(splits).num_near_duplicates == {}
    Image.fromarray(images[3]).save(tmp_path / "copy.jpg", quality=60)
    splits["test"].append({"image": str(tmp_path / "copy.jpg"), "label": 0, "key": "copy"})
    audit = audit_splits(splits)
    assert audit.num_near_duplicates == {("train", "test"): 1}
    (pair,) = audit.near_duplicates
    assert (pair.first, pair.second) == (("train", "t3", 1), ("test", "copy", 0))
    assert "1 in train and test; 1 with different labels\n  train t3: class 1; test copy: class 0 (0.9" in str(audit)


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
