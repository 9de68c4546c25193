"""``monai-diffclf export-labels``: from a datastore to a datalist that MONAI and our bundles read."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from monai.data import load_decathlon_datalist

from monai_diffclf.commands import main
from monai_diffclf.commands.export_labels import table
from monai_diffclf.data import find_classes, load_datalist
from monai_diffclf.monailabel.labelled_images import LabelledImage, LabelledImages
from tests.monailabel.label_studies import CLASSES, write_studies
from tests.monailabel.test_labelled_images import change


def test_monai_reads_the_datalist(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    studies, output = write_studies(tmp_path / "studies", 6), tmp_path / "out" / "labels.json"
    change(studies, "p000", {}, reading={"ann": {"verdict": "unsure"}})
    change(studies, "p001", reading={"ann": {"verdict": "bad image"}})
    change(studies, "p002", patient="P2")
    assert main(["export-labels", str(studies), "--output", str(output), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["images"] == 4 and said["left_out"] == {"bad images": 1, "of which readers were unsure": 1}
    assert said["classes"] == {"left": 2, "right": 2} and said["patients_known"] == 1
    items = load_decathlon_datalist(str(output), data_list_key="training")
    assert [item["label"] for item in items] == [0, 1, 0, 1] and items[0]["patient"] == "P2"
    assert all(Path(item["image"]).is_file() for item in items) and items[1]["tags"] == ["final"]


def test_our_bundles_read_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    studies, output = write_studies(tmp_path / "studies", 60), tmp_path / "labels.csv"
    assert main(["export-labels", str(studies), "--output", str(output), "--patient-pattern", r"(p\d+)"]) == 0
    assert capsys.readouterr().out.splitlines() == ["60 labelled images: 30 left, 30 right", str(output)]
    items = load_datalist(output, "train", classes=CLASSES)
    assert 40 <= len(items) < 60 and all(Path(item["image"]).is_file() for item in items)
    assert {item["patient"] for item in items} == {Path(item["image"]).stem for item in items}


def test_labels_and_patients_that_begin_like_formulas_are_trained_on(tmp_path: Path) -> None:
    """A spreadsheet must not run them, and `train --data` must read them as they were."""
    write = [("a.png", "+ve", "-P0"), ("-b.png", "-ve", "=P1"), ("'c.png", "@", "'P2"), ("d.png", "'quoted", "P3")]
    found = LabelledImages(
        [LabelledImage(name, tmp_path / name, label, (), patient) for name, label, patient in write], {}
    )
    for name, *_ in write:
        (tmp_path / name).write_bytes(b"")
    text = table(found)
    assert "'+ve" in text and "'-P0" in text and "''quoted" in text
    (tmp_path / "labels.csv").write_text(re.sub(",(validation|test),", ",train,", text))
    classes = find_classes(tmp_path / "labels.csv")
    assert set(classes) == {"+ve", "-ve", "@", "'quoted"}
    items = load_datalist(tmp_path / "labels.csv", "train", classes=classes)
    assert {(Path(item["image"]).name, classes[item["label"]], item["patient"]) for item in items} == set(write)
    relative = "image,label,split\n" + "\n".join(f"'{name},'{label},train" for name, label, _ in write[1:2])
    (tmp_path / "relative.csv").write_text(relative)
    (item,) = load_datalist(tmp_path / "relative.csv", "train", classes=["-ve", "+ve"])
    assert Path(item["image"]).name == "-b.png" and item["label"] == 0


def test_what_cannot_be_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    studies = write_studies(tmp_path / "studies", 3, labels=False)
    (tmp_path / "empty").mkdir()
    for words, reason in (
        ([str(studies), "--output", str(tmp_path / "a.json")], "there are none (3 without a label)"),
        ([str(studies), "--output", str(tmp_path / "a.txt")], "expected a file .json or .csv, got a.txt"),
        ([str(tmp_path / "empty"), "--output", str(tmp_path / "a.json")], "datastore_v2.json"),
    ):
        assert main(["export-labels", *words]) != 0
        line = capsys.readouterr().err.strip()
        assert reason in line and "\n" not in line
    assert not list(tmp_path.glob("a.*"))
