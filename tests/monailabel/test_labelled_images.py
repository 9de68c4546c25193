"""Labels read from a datastore: what counts, what is left out, and whose they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from monai_diffclf.monailabel.labelled_images import read_labels
from tests.monailabel.example_images import make_picture, write_dicom
from tests.monailabel.label_studies import CLASSES, write_series_studies, write_studies


def change(folder: Path, name: str, labels: dict[str, Any] | None = None, **info: Any) -> None:
    """Change an entry of the datastore."""
    store = folder / "datastore_v2.json"
    content = json.loads(store.read_text())
    entry = content["objects"][name]
    entry["image"]["info"] |= info
    if labels is not None:
        entry["labels"] = {tag: {"ext": ".json", "info": {"label": label}} for tag, label in labels.items()}
    store.write_text(json.dumps(content))


def test_what_counts_and_what_is_left_out(tmp_path: Path) -> None:
    studies = write_studies(tmp_path, 8)
    change(studies, "p000", {})
    change(studies, "p001", {"original": "left"})
    change(studies, "p002", {"final": "left", "anna": "right"})
    change(studies, "p003", {"final": "right", "anna": "right"})
    change(studies, "p004", {"final": "middle"})
    (studies / "p005.png").unlink()
    found = read_labels(studies, classes=CLASSES)
    assert [(item.id, item.label, item.tags) for item in found.items] == [
        ("p003", "right", ("anna", "final")),
        ("p006", "left", ("final",)),
        ("p007", "right", ("final",)),
    ]
    assert found.left_out == {
        "images that are not there": 1,
        "labels that are no class": 1,
        "only what a model found": 1,
        "readers disagree": 1,
        "without a label": 1,
    }
    assert found.counts() == {"left": 1, "right": 2}
    only = read_labels(studies, tags=["anna"])
    assert [item.label for item in only.items] == ["right", "right"] and only.left_out["without a label"] == 5
    assert [item.id for item in read_labels(studies, tags=["original"]).items] == ["p001"]


def test_what_readers_set_aside_is_left_out(tmp_path: Path) -> None:
    studies = write_studies(tmp_path, 4)
    change(studies, "p000", reading={"ann": {"verdict": "bad image"}})  # whatever another has said
    change(studies, "p001", {}, reading={"ann": {"verdict": "unsure"}})
    change(studies, "p002", reading={"ann": {"verdict": "unsure"}})  # another knew
    change(studies, "p003", {}, reading="nonsense")
    found = read_labels(studies)
    assert [item.id for item in found.items] == ["p002"]
    assert found.left_out == {"bad images": 1, "of which readers were unsure": 1, "without a label": 1}


def test_patients_by_info_name_and_header(tmp_path: Path) -> None:
    studies = write_studies(tmp_path, 2)
    change(studies, "p000", patient="P7")
    write_dicom(studies / "scan.dcm", make_picture())
    import pydicom

    header = pydicom.dcmread(studies / "scan.dcm")
    header.PatientID = "D9"
    header.save_as(studies / "scan.dcm")
    store = studies / "datastore_v2.json"
    content = json.loads(store.read_text())
    content["objects"]["scan"] = {
        "image": {"ext": ".dcm", "info": {}},
        "labels": {"final": {"info": {"label": "left"}}},
    }
    store.write_text(json.dumps(content))
    assert [item.patient for item in read_labels(studies).items] == ["P7", "", "D9"]
    assert [item.group for item in read_labels(studies).items] == ["P7", "image p001", "D9"]
    named = read_labels(studies, patient_pattern=r"([a-z]+)")
    assert [item.patient for item in named.items] == ["P7", "p", "scan"]


def test_series_count_for_a_model_of_volumes(tmp_path: Path) -> None:
    studies = write_series_studies(tmp_path, 6)
    found = read_labels(studies, classes=CLASSES, volumes=True)
    assert [item.path.name for item in found.items] == ["s000", "s001", "s002", "s003", "s004.zip", "s005"]
    assert [item.patient for item in found.items] == ["D0", "D0", "D1", "D1", "D2", "D2"]
    (studies / "s000" / "linked").symlink_to(studies / "s001" / "IM0000")
    (studies / "s001" / "below").mkdir()
    reason = "folders, of which a model of volumes takes those of slices alone"
    assert read_labels(studies, volumes=True).left_out == {reason: 2}
    assert read_labels(studies).left_out == {reason: 5}


@pytest.mark.parametrize("content", ["", "[]", '{"objects": []}', '{"objects": 3}', "[" * 100_000])
def test_a_store_that_is_none_is_refused_in_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "datastore_v2.json").write_text(content)
    with pytest.raises(
        ValueError, match="is no datastore of MONAI Label.*; put a copy of it back, or remove it"
    ) as error:
        read_labels(tmp_path)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="expected a folder with datastore_v2.json"):
        read_labels(tmp_path / "none")


def test_entries_that_lead_elsewhere_are_left_out(tmp_path: Path) -> None:
    studies = write_studies(tmp_path / "studies", 2)
    store = studies / "datastore_v2.json"
    content = json.loads(store.read_text())
    entry = content["objects"].pop("p000")
    content["objects"] |= {"../secret": entry, "x": {"image": {"ext": "/../../secret.png"}, "labels": {}}, "y": 3}
    store.write_text(json.dumps(content))
    (tmp_path / "secret.png").write_bytes((studies / "p001.png").read_bytes())
    (studies / "p001.png").unlink()
    (studies / "p001.png").symlink_to(tmp_path / "secret.png")
    found = read_labels(studies)
    assert not found.items and found.left_out == {"images that are not there": 1, "unreadable entries": 3}
