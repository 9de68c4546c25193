"""Columns with common names are found; where two could be meant, the user says which."""

from __future__ import annotations

from pathlib import Path

import pytest

from monai_diffclf.data.table_columns import Columns, find_columns

TABLE = Path("t.csv")


@pytest.mark.parametrize("name", ["image", "file", "File Name", "filename", "path", "image_path", "FILEPATH"])
def test_images(name):
    assert find_columns(TABLE, [name, "label", "split"]).image == name


def test_all_of_them():
    found = find_columns(TABLE, ["Subject ID", "Set", "Label-Index", "Image"])
    assert found == Columns("Image", "Label-Index", "Set", "Subject ID", by_index=True)
    named = find_columns(
        TABLE, ["a", "b", "c", "d"], image="D", label="c", split="hash", patient="a", label_type="index"
    )
    assert named == Columns("d", "c", None, "a", by_index=True)
    assert not find_columns(TABLE, ["file", "label_index", "split"], label_type="name").by_index


@pytest.mark.parametrize(
    ("header", "options", "message"),
    [
        (
            ["image", "file", "label", "split"],
            {},
            "one column for the image, got .*'image', 'file'.*: --image_column image",
        ),
        (["file", "label", "label_index", "split"], {}, "one column for the label, got .*--label_column label"),
        (["file", "label", "split", "patient", "patient_id"], {}, "one column for the patient"),
        (["a.png", "x", "train"], {}, r"\['label'\] is missing from .*is the line of names missing"),
        (["file", "label"], {}, r"\['split'\] is missing from .*, or split by a hash: --split_column hash"),
        (["file", "label", "split"], {"image": "none"}, r"image_column: .*\['none'\] is missing from \['file'"),
        (["file", "label", "split"], {"patient": "patient"}, r"patient_column: .*\['patient'\] is missing"),
        (["Label", "label_", "file", "split"], {"label": "LABEL"}, r"label_column: .*could be any of"),
        (["file", "label", "split"], {"label_type": "number"}, "label_type: expected 'name', 'index' or None"),
    ],
)
def test_what_is_not_there_or_not_clear(header, options, message):
    with pytest.raises(ValueError, match=message):
        find_columns(TABLE, header, **options)
