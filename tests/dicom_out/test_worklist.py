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


def test_findings(tmp_path):
    def film(key, nodule, effusion, **more):
        chances = {"nodule": nodule, "effusion": effusion}
        predicted = ";".join(name for name, chance in chances.items() if chance > 0.5) or "none"
        row = {"key": key, "predicted": predicted, "error": "", **more}
        row |= {f"probability_{name}": chance for name, chance in chances.items()}
        row |= {f"probability_entropy_{name}": chance / 2 for name, chance in chances.items()}
        return WorklistItem(row, several=True)

    sets = {"prediction_set_nodule": ["absent", "present"], "prediction_set_effusion": []}
    items = [film("neither", 0.1, 0.2), film("both", 0.7, 0.9, **sets), film("one", 0.2, 0.95)]
    assert [each.row["key"] for each in sort_by_urgency(items, ["nodule", "effusion"])] == ["one", "both", "neither"]
    assert [each.row["key"] for each in sort_by_urgency(items, ["nodule"])] == ["both", "one", "neither"]
    assert [read_first(each, ["nodule", "effusion"]) for each in items] == [False, True, True]
    assert [read_first(each, ["nodule"]) for each in items] == [False, True, False]
    write_worklist(tmp_path / "list.csv", items, ["nodule", "effusion"])
    with (tmp_path / "list.csv").open(newline="") as file:
        rows = {row["key"]: row for row in csv.DictReader(file)}
    assert rows["both"]["predicted"] == "nodule;effusion" and rows["both"]["probability_positive"] == "0.900000"
    assert rows["both"]["prediction_set"] == "nodule: absent or present;effusion: none"
    assert rows["both"]["uncertainty"] == "0.450000" and rows["neither"]["prediction_set"] == ""


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
