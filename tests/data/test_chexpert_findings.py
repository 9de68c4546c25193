"""CheXpert's 14 labels, from files as distributed to datalists."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from monai.data import DataLoader, Dataset

from monai_diffclf.data import NoSplitError, load_chexpert_findings
from tests.data import finding_trees as trees
from tests.data.chexpert_trees import FINDINGS, patients, write_table

SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trees.chexpert(tmp_path_factory.mktemp("data") / "CheXpert-v1.0-small")


def states(items: list[dict]) -> dict[str, np.ndarray]:
    """Patient -> label of the one film."""
    return {item["patient"]: item["label"] for item in items}


def rows_of(folder: Path, labels: list[dict[str, str]]) -> Path:
    """A table of one film a patient; what a row of it says."""
    names = patients(None, len(labels))
    write_table(
        folder / "train.csv",
        [
            trees.chexpert_row(f"CheXpert-v1.0/train/{name}/study1/view1_frontal.jpg", values)
            for name, values in zip(names, labels, strict=True)
        ],
    )
    for name in names:
        path = folder / "train" / name / "study1" / "view1_frontal.jpg"
        path.parent.mkdir(parents=True)
        path.touch()
    return folder


@pytest.mark.filterwarnings("ignore:.*Fracture")
def test_from_files_to_batches(root):
    items = {split: load_chexpert_findings(root, split) for split in SPLITS}
    assert [len(items[split]) for split in SPLITS] == [48, 14, 14]
    for split in SPLITS:
        assert [item["key"] for item in items[split]] == sorted(item["key"] for item in items[split])
        assert all(Path(item["image"]).is_file() for item in items[split])
        assert len({item["patient"] for item in items[split]}) == len(items[split])
    first = next(item for item in items["train"] if item["patient"] == patients("train", 1)[0])
    assert first["label"].tolist() == [1, 1, 0, 2] + [0] * 10
    assert (first["sex"], first["age"]) == ("male", "54")
    # Of the radiologists' sets film n shows finding n, in whatever order its patient comes.
    for split, prefix in (("validation", "patient6454"), ("test", "patient6474")):
        for item in items[split]:
            shown = int(item["patient"].removeprefix(prefix))
            expected = [] if (split, FINDINGS[shown]) == ("validation", "Fracture") else [shown]
            assert np.flatnonzero(item["label"]).tolist() == expected
    batch = next(iter(DataLoader(Dataset(items["train"]), batch_size=5)))
    assert batch["label"].shape == (5, 14)
    assert str(batch["label"].dtype) == "torch.int64"


def test_policies_by_name(tmp_path):
    """Two films that show one finding each, one with an uncertain label, one with a blank."""
    rows_of(
        tmp_path,
        [
            {"Edema": "1.0", "Fracture": "0.0"},
            {"Edema": "0.0", "Fracture": "1.0"},
            {"Edema": "-1.0", "Fracture": "1.0"},
            {"Edema": "1.0"},
        ],
    )
    names = patients(None, 4)
    for uncertain, blank, expected in (
        ("unknown", "zeros", {2: [2, 1], 3: [1, 0]}),
        ("zeros", "unknown", {2: [0, 1], 3: [1, 2]}),
        ("ones", "ones", {2: [1, 1], 3: [1, 1]}),
        ("leave_out", "zeros", {3: [1, 0]}),
        ("unknown", "leave_out", {2: [2, 1]}),
    ):
        found = states(
            load_chexpert_findings(tmp_path, "train", findings=["Edema", "Fracture"], uncertain=uncertain, blank=blank)
        )
        assert found[names[0]].tolist() == [1, 0] and found[names[1]].tolist() == [0, 1]
        assert {n: found[names[n]].tolist() for n in (2, 3) if names[n] in found} == expected
    swapped = states(load_chexpert_findings(tmp_path, "train", findings=["Fracture", "Edema"]))
    assert swapped[names[2]].tolist() == [1, 2]


def test_views_and_patients_held_out(root):
    some = {"findings": ["Edema", "Pneumonia"], "validation": "hash"}
    by_view = {
        views: {split: load_chexpert_findings(root, split, views=views, **some) for split in SPLITS[:2]}
        for views in ("frontal", "lateral", "all")
        if views != "lateral"
    }
    assert [len(by_view["frontal"][split]) for split in SPLITS[:2]] == [32, 16]
    assert [len(by_view["all"][split]) for split in SPLITS[:2]] == [39, 19]
    found = [{item["patient"] for item in items} for items in by_view["all"].values()]
    assert not found[0] & found[1]
    lateral = load_chexpert_findings(root, "train", views="lateral", findings=["Edema"])
    assert len(lateral) == 10 and all("lateral" in item["key"] for item in lateral)


def test_v1_in_parts(tmp_path):
    root = trees.chexpert(tmp_path / "CheXpert-v1.0 batch 1 (validate & csv)", name="CheXpert-v1.0")
    for n, patient in enumerate(sorted((root / "train").iterdir())):
        part = tmp_path / f"CheXpert-v1.0 batch {2 + n % 3} (train {1 + n % 3})"
        part.mkdir(exist_ok=True)
        patient.rename(part / patient.name)
    (root / "train").rmdir()
    assert len(load_chexpert_findings(tmp_path, "train")) == 48


def test_finding_that_is_never_there_is_refused_in_training_and_a_warning_elsewhere(root, tmp_path):
    with pytest.warns(UserWarning, match="got no image with Fracture; there is no AUC") as said:
        load_chexpert_findings(root, "validation")
    assert len(said) == 1 and "\n" not in str(said[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_chexpert_findings(root, "validation", findings=["Edema"])
    rows_of(tmp_path, [{"Edema": "1.0"}, {"Pneumonia": "0.0"}])
    with pytest.raises(ValueError, match=r"train.csv: expected every finding .* got no image with Pneumonia; choose"):
        load_chexpert_findings(tmp_path, "train", findings=["Edema", "Pneumonia"])
    with pytest.raises(ValueError, match="no image with Pneumonia and no image known to be without Edema"):
        load_chexpert_findings(tmp_path, "train", findings=["Edema", "Pneumonia"], blank="unknown")


def test_images_that_are_not_there_are_counted_and_listed(tmp_path):
    root = trees.chexpert(tmp_path)
    gone = [Path(item["image"]) for item in load_chexpert_findings(root, "train")[:7]]
    for path in gone:
        path.unlink()
    with pytest.raises(ValueError, match=r"train.csv: 7 of 48 images are not there: .* and 2 more; .*aimi") as said:
        load_chexpert_findings(root, "train")
    assert str(gone[0]) in str(said.value)
    with pytest.warns(UserWarning, match="7 of 48 images are not there"):
        assert len(load_chexpert_findings(root, "train", findings=["Edema"], allow_missing=True)) == 41


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"findings": ["Oedema"]}, r"findings: expected some of No Finding, .* got \['Oedema'\]"),
        ({"findings": "Edema"}, "findings: expected some of .* got 'Edema'"),
        ({"findings": ["Edema", "Edema"]}, "findings: expected some of .* each once"),
        ({"findings": []}, r"findings: expected some of .* got \[\]"),
        ({"views": "PA"}, "views: expected one of frontal, lateral, all, got 'PA'"),
        ({"uncertain": "maybe"}, "uncertain: expected one of unknown, zeros, ones, leave_out, got 'maybe'"),
        ({"blank": "0"}, "blank: expected one of unknown, zeros, ones, leave_out, got '0'"),
        ({"validation": "none"}, "validation: expected one of official, hash, got 'none'"),
        ({"blank": "leave_out"}, "split: expected frontal films for 'train' in .*, got none"),
        ({"split": "all"}, "split: expected one of train, validation, test, got 'all'"),
    ],
)
def test_bad_settings_are_refused(root, settings, message):
    with pytest.raises(ValueError, match=message) as said:
        load_chexpert_findings(root, **{"split": "train", **settings})
    assert "\n" not in str(said.value)


def test_faults_of_tables_are_named(tmp_path):
    with pytest.raises(ValueError, match="train.csv of CheXpert.*missing.*aimi.stanford.edu.*research only"):
        load_chexpert_findings(tmp_path, "train")
    rows_of(tmp_path, [{"Edema": "2.0"}])
    with pytest.raises(ValueError, match="line 2: expected 'Edema' to be one of .*, got '2.0'"):
        load_chexpert_findings(tmp_path, "train")
    with pytest.raises(NoSplitError, match="valid.csv, .*validation='hash'"):
        load_chexpert_findings(tmp_path, "validation")
    with pytest.raises(NoSplitError, match="official test set.*chexlocalize"):
        load_chexpert_findings(tmp_path, "test")
    write_table(tmp_path / "train.csv", [], "Path,Sex,Age,No Finding,Edema")
    with pytest.raises(ValueError, match=r"\['Enlarged Cardiomediastinum', .*is missing"):
        load_chexpert_findings(tmp_path, "train")
    write_table(tmp_path / "test_labels.csv", ["test/patient64741/study1,"], "Study,Edema")
    with pytest.raises(ValueError, match="test_labels.csv, line 2: expected 'Edema' to be one of 0, 0.0, 1, 1.0"):
        load_chexpert_findings(tmp_path, "test", findings=["Edema"])


def test_code_of_the_guide_runs(tmp_path, monkeypatch, capsys):
    guide = Path(__file__).resolve().parents[2] / "docs" / "data.md"
    (code,) = re.findall(r"```python\n(.*?)```", guide.read_text(encoding="utf-8"), re.DOTALL)
    trees.chexpert(tmp_path / "DATA")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(code, names)  # noqa: S102
    assert "(2, 32, 32)" in capsys.readouterr().out
    assert len(names["train"]) == 48 and all(len(item["label"]) == 2 for item in names["train"])
