"""What a run does with its data before it starts."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from PIL import Image

from monai_diffclf.data import NoSplitError, audit_run, run_checks
from monai_diffclf.data.audit import audit_splits

CLASSES = ["a", "b"]


def item(value: int, label: int, patient: str = "") -> dict:
    return {"image": np.full((2, 2), value, np.uint8), "label": label, "key": f"k{value}", "patient": patient}


@pytest.fixture
def splits():
    return {"train": [item(1, 0, "P1"), item(2, 1, "P2")], "validation": [item(3, 0), item(4, 1)]}


@pytest.fixture
def made(monkeypatch):
    """A list that grows with every audit that is made."""
    calls = []

    def counted(*args, **kwargs):
        calls.append(1)
        return audit_splits(*args, **kwargs)

    monkeypatch.setattr(run_checks, "audit_splits", counted)
    return calls


def test_the_audit_is_printed_and_saved(splits, tmp_path, capsys):
    text = audit_run(splits, tmp_path / "new" / "audit.json", classes=CLASSES)
    assert capsys.readouterr().out == text + "\n" == (tmp_path / "new" / "audit.txt").read_text()
    record = json.loads((tmp_path / "new" / "audit.json").read_text())
    assert record["splits"]["train"]["images_of_class"] == {"a": 1, "b": 1}
    assert record["text"] == text.splitlines()
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == ["audit.json", "audit.txt"]


def test_it_is_made_anew_only_for_other_data(splits, tmp_path, made):
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / "a.png")
    splits["test"] = [{"image": str(tmp_path / "a.png"), "label": 0, "key": "a"}]
    text = audit_run(splits, tmp_path / "audit.json", classes=CLASSES)
    before = (tmp_path / "audit.json").read_bytes()
    (tmp_path / "audit.txt").unlink()
    assert (
        audit_run(splits, tmp_path / "audit.json", classes=CLASSES) == text == (tmp_path / "audit.txt").read_text()[:-1]
    )
    # The evaluation of the run just trained.
    assert audit_run(splits, tmp_path / "audit_evaluation.json", classes=CLASSES) == text
    assert (tmp_path / "audit_evaluation.json").read_bytes() == before
    assert len(made) == 1
    audit_run(splits, tmp_path / "audit.json", classes=["b", "a"])
    splits["train"][0]["patient"] = "P3"
    audit_run(splits, tmp_path / "audit.json", classes=CLASSES)
    os.utime(tmp_path / "a.png", (1, 1))
    audit_run(splits, tmp_path / "audit.json", classes=CLASSES)
    splits["train"][0]["image"] = splits["train"][0]["image"] + 1
    audit_run(splits, tmp_path / "audit.json", classes=CLASSES)
    (tmp_path / "audit.json").write_text("{")
    (tmp_path / "audit_evaluation.json").unlink()
    audit_run(splits, tmp_path / "audit.json", classes=CLASSES)
    assert len(made) == 6


def test_it_is_made_anew_for_other_findings_and_other_slices(splits, tmp_path, made):
    findings = {name: [{**each, "label": np.array([1, 0])} for each in items] for name, items in splits.items()}
    for items in findings.values():
        items[1]["label"] = np.array([0, 1])
        items.append(
            {**items[0], "image": items[0]["image"] + 50, "key": f"{items[0]['key']} too", "label": np.zeros(2)}
        )
    audit_run(findings, tmp_path / "audit.json", classes=CLASSES)
    before = json.loads((tmp_path / "audit.json").read_text())["data_hash"]
    findings["train"].append({**item(9, 0, "P9"), "label": np.array([1, 0])})
    audit_run(findings, tmp_path / "audit.json", classes=CLASSES)
    findings["train"][-1]["label"] = np.array([0, 1])
    audit_run(findings, tmp_path / "audit.json", classes=CLASSES)
    found = json.loads((tmp_path / "audit.json").read_text())["data_hash"]
    assert len(made) == 3 and found["train"] != before["train"] and found["validation"] == before["validation"]
    findings["train"][-1]["label"] = np.array([1, 1])
    audit_run(findings, tmp_path / "audit.json", classes=CLASSES)
    assert json.loads((tmp_path / "audit.json").read_text())["data_hash"]["train"] != found["train"]


def test_a_slice_that_was_written_anew_is_another_image(tmp_path):
    (tmp_path / "series").mkdir()
    (tmp_path / "series" / "1.dcm").write_bytes(b"one")
    for image in (str(tmp_path / "series"), [str(tmp_path / "series" / "1.dcm")]):
        split = {"train": [{"image": image, "label": 0, "key": "a"}]}
        os.utime(tmp_path / "series" / "1.dcm", ns=(1, 1))
        before = run_checks._fingerprint(split, CLASSES, {})
        assert run_checks._fingerprint(split, CLASSES, {}) == before
        os.utime(tmp_path / "series" / "1.dcm", ns=(1, 2))
        assert run_checks._fingerprint(split, CLASSES, {}) != before


def test_a_split_that_is_absent_is_said_to_be(splits, tmp_path):
    def absent():
        raise NoSplitError("has no folder 'test'")

    assert "no split 'test': has no folder 'test'" in audit_run(
        {**splits, "test": absent}, tmp_path / "audit.json", classes=CLASSES
    )

    def wrong():
        raise ValueError("t.csv, line 2: unknown label")

    with pytest.raises(ValueError, match="unknown label"):
        audit_run({**splits, "test": wrong}, tmp_path / "audit.json", classes=CLASSES)


@pytest.mark.parametrize("enabled", [True, False])
def test_shared_patients_and_missing_classes_stop_the_run(splits, tmp_path, enabled):
    shared = {**splits, "test": [item(5, 0, "P1")]}
    with pytest.raises(ValueError, match=r"patient: .*1 in both 'train' and 'test': 'P1' \(k1; k5\)"):
        audit_run(shared, tmp_path / "audit.json", classes=CLASSES, enabled=enabled)
    for split in ("train", "validation"):
        few = {**splits, split: splits[split][:1]}
        with pytest.raises(
            ValueError, match=rf"of every class in '{split}', got one class only: 1 of 'a', none of 'b'"
        ):
            audit_run(few, tmp_path / "audit.json", classes=CLASSES, enabled=enabled)
    with pytest.raises(ValueError, match="in 'train', got not all classes: 2 of 'a', 'b', none of 'c'"):
        audit_run(splits, tmp_path / "audit.json", classes=[*CLASSES, "c"], enabled=enabled)
    assert list(tmp_path.iterdir()) == []
    text = audit_run(
        shared, tmp_path / "audit.json", classes=CLASSES, enabled=enabled, allow_shared_patients=["train", "test"]
    )
    assert ("train and test share 1 patients" in text) is enabled
    assert (tmp_path / "audit.json").exists() is enabled


def test_images_that_cannot_be_read_are_named_together(splits, tmp_path):
    for n in range(7):
        (tmp_path / f"{n}.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    splits["test"] = [{"image": str(tmp_path / f"{n}.png"), "label": 0, "key": str(n)} for n in range(7)]
    with pytest.raises(ValueError, match=r"0\.png: .*4\.png: .*; and 2 more images$"):
        audit_run(splits, tmp_path / "audit.json", classes=CLASSES)
    assert not (tmp_path / "audit.json").exists()


def test_the_switch_is_true_or_false(splits, tmp_path):
    with pytest.raises(TypeError, match="audit: expected True or False, got 'no'"):
        audit_run(splits, tmp_path / "audit.json", classes=CLASSES, enabled="no")


def test_an_audit_of_other_data_does_not_stay_where_none_is_made(splits, tmp_path):
    path = tmp_path / "audit.json"
    audit_run(splits, path, classes=CLASSES)
    audit_run(splits, path, classes=CLASSES, enabled=False)
    assert path.is_file(), "it is of these data"
    splits["train"].append(item(5, 0, "P5"))
    audit_run(splits, path, classes=CLASSES, enabled=False)
    assert list(tmp_path.iterdir()) == []
    path.write_text("notes of mine")
    audit_run(splits, path, classes=CLASSES, enabled=False)
    assert path.read_text() == "notes of mine"


def test_content_is_known_by_pixels_names_and_labels(splits, tmp_path):
    def content() -> dict[str, str]:
        audit_run(splits, tmp_path / "audit.json", classes=CLASSES)
        return json.loads((tmp_path / "audit.json").read_text())["content"]

    first = content()
    splits["train"].reverse()
    assert content() == first
    splits["train"][0]["image"] = np.full((2, 2), 77, np.uint8)
    changed = content()
    assert changed["train"] != first["train"]
    assert changed["validation"] == first["validation"]


@pytest.fixture
def trained(splits, tmp_path):
    """The folder of a run that was trained on these splits, P9's image in two of them as its data set has it."""
    splits["train"] += [item(7, 0, "P7"), item(9, 0, "P9")]
    splits["test"] = [item(5, 0, "P5"), item(6, 1, "P6"), {**item(9, 0), "key": "copy"}]
    audit_run(splits, tmp_path / "audit.json", classes=CLASSES)
    return tmp_path / "audit_evaluation.json"


def test_images_that_were_trained_on_do_not_judge_the_training(splits, trained):
    exchanged = {"train": splits["test"], "validation": splits["validation"], "test": splits["train"]}
    with pytest.raises(ValueError, match=r"test: expected images that the training has not seen, got 3 of 4 that"):
        audit_run(exchanged, trained, classes=CLASSES)
    renamed = {**item(7, 1), "key": "another name"}
    moved = {**splits, "train": splits["train"][:2] + splits["train"][3:]}
    with pytest.raises(ValueError, match=r"validation: expected images .* got 1 of 3 .* or train again"):
        audit_run({**moved, "validation": [*splits["validation"], renamed]}, trained, classes=CLASSES)
    assert not trained.exists(), "nothing is left of what was refused"
    with pytest.raises(ValueError, match=r"test: expected images .* got 1 of 2"):
        audit_run({"test": [item(1, 0), item(8, 1)]}, trained, classes=CLASSES)
    audit_run({"test": [item(8, 1), {**item(9, 0), "key": "copy"}, item(10, 0)]}, trained, classes=CLASSES)
    audit_run(splits, trained, classes=CLASSES)


def test_patients_that_were_trained_on_do_not_judge_the_training(splits, trained):
    other = {"test": [item(11, 0, "P7"), item(12, 1, "P12")]}
    with pytest.raises(ValueError, match=r"test: expected patients .* got 1 of 2 that it was trained on"):
        audit_run(other, trained, classes=CLASSES)
    audit_run(other, trained, classes=CLASSES, allow_shared_patients=["train", "test"])
    assert "P7" not in json.loads(trained.with_name("audit.json").read_text())["members"]["patients"]["train"]


def test_an_audit_that_is_at_hand_is_held_to_the_latest_training(splits, trained):
    other = {"test": [item(11, 0, "P11"), item(12, 1, "P12")]}
    audit_run(other, trained, classes=CLASSES)
    audit_run({**splits, "train": [*splits["train"], item(11, 0)]}, trained.with_name("audit.json"), classes=CLASSES)
    with pytest.raises(ValueError, match="got 1 of 2"):
        audit_run(other, trained, classes=CLASSES)


def test_a_training_that_does_not_say_what_it_saw_refuses_nothing(splits, trained):
    trained.with_name("audit.json").write_text('{"members": [1]}')
    audit_run({"test": splits["train"]}, trained, classes=CLASSES)
