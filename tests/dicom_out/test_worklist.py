"""The order of the worklist, and what its cells may hold."""

from __future__ import annotations

import csv

from monai_diffclf.dicom_out import WorklistItem, read_first, read_source, sort_by_urgency, write_worklist
from monai_diffclf.dicom_out.worklist import COLUMNS
from tools.dicom_sources import write_sources


def item(key, positive, entropy=0.1, unusual=None, other=0.0, **more):
    row = {"key": key, "predicted": "bad" if positive >= 0.5 else "good", "error": ""}
    row |= {"probability_good": 1 - positive - other, "probability_bad": positive, "probability_worse": other}
    row |= {"probability_entropy": entropy} | ({} if unusual is None else {"ood_p_value": unusual})
    return WorklistItem(row, **more)


def test_order():
    items = [
        item("likely", 0.9),
        item("b", 0.3, 0.5),
        item("a", 0.3, 0.5),
        item("unsure", 0.3, 0.6),
        item("unusual", 0.3, 0.5, unusual=0.01),
        item("usual", 0.3, 0.5, unusual=0.9),
        item("of two classes", 0.5, other=0.45),
        WorklistItem({"key": "unread", "error": "no pixels"}),
    ]
    found = [each.row["key"] for each in sort_by_urgency(reversed(items), ["bad", "worse"])]
    assert found == ["unread", "of two classes", "likely", "unsure", "unusual", "usual", "a", "b"]
    alone = [each.row["key"] for each in sort_by_urgency(items, ["bad"])]
    assert alone[:3] == ["unread", "likely", "of two classes"]
    assert [read_first(each, ["bad"]) for each in items] == [True, *[False] * 5, True, True]


def test_text_is_neutralised(tmp_path):
    source = read_source(write_sources(tmp_path, "mg_left"))
    source.first.PatientID = "=HYPERLINK(1)"
    source.first.AccessionNumber = "@A1"
    items = [item("-x.dcm", 0.7, source=source, report="r.dcm", error="+bad\x1b[2J")]
    write_worklist(tmp_path / "list.csv", items, ["bad"])
    with (tmp_path / "list.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert tuple(row) == COLUMNS
    assert (row["key"], row["patient_id"], row["accession_number"]) == ("'-x.dcm", "'=HYPERLINK(1)", "'@A1")
    assert row["error"] == "'+bad\\x1b[2J" and row["probability_positive"] == "0.700000"
    assert (row["modality"], row["laterality"], row["study_date"]) == ("MG", "L", "20200102")
    assert row["sop_instance_uid"] == source.instances[0] and row["read_first"] == "true"
