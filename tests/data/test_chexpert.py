"""CheXpert as it is distributed."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from monai_diffclf.data import NoSplitError, find_classes, load_chexpert, load_datalist
from monai_diffclf.data import chexpert as module
from tests.data import chexpert_trees as trees
from tests.data.chexpert_trees import row

SPLITS = ("train", "validation", "test")


@pytest.fixture
def no_files(monkeypatch):
    """Tables alone: as if every image were there."""
    monkeypatch.setattr(module, "present_images", lambda items, **_: list(items))


@pytest.fixture(scope="module")
def official_form(tmp_path_factory) -> Path:
    """200,000 rows of the official form, of which the task of Favero et al. keeps 20,404 films."""
    kinds = [("1.0", "")] * 14_000 + [("", "1.0")] * 10_202 + [("-1.0", "")] * 4_000 + [("", "")] * 20_000
    kinds += [("0.0", "")] * 1_797 + [("1.0", "1.0")]
    rows = []
    for number, place in enumerate(np.random.default_rng(0).permutation(len(kinds)), start=1):
        patient = f"patient{number:05d}"
        rows += [row(patient, *kinds[place]), row(patient, *kinds[place], view="view2_lateral")]
        rows += [row(patient, "1.0", study=2), row(patient, "", "1.0", study=3)]
    assert len(rows) == 200_000
    root = tmp_path_factory.mktemp("chexpert") / "CheXpert-v1.0-small"
    trees.write_table(root / "train.csv", rows)
    return root


def test_counts_are_those_of_favero_et_al_and_200_000_rows_are_read_in_5_s(official_form, no_files):
    start = time.process_time()  # of this process alone, as others may use the machine
    splits = {"train": load_chexpert(official_form, "train")}
    seconds = time.process_time() - start
    splits |= {name: load_chexpert(official_form, name) for name in SPLITS[1:]}
    assert {name: len(items) for name, items in splits.items()} == {"train": 16324, "validation": 2040, "test": 2040}
    labels = [item["label"] for items in splits.values() for item in items]
    assert sum(labels) == len(labels) / 2 == 10_202
    found = [{item["patient"] for item in items} for items in splits.values()]
    assert len(set.union(*found)) == sum(map(len, found)) == 20_404
    assert all(item["key"].endswith("study1/view1_frontal.jpg") for items in splits.values() for item in items)
    assert seconds < 5


def test_sampling_is_that_of_pandas():
    pandas = pytest.importorskip("pandas", reason="pandas, the second library, is not installed")
    table = pandas.DataFrame({"number": range(500)})
    items = [{"number": n} for n in range(500)]
    for count in (77, 500):
        expected = table.sample(count, random_state=42)["number"].tolist()
        assert [item["number"] for item in module.chosen(items, count)] == expected


def test_rows_are_chosen_as_published(tmp_path, no_files):
    ids = trees.patients(None, 30)
    rows = [row(patient, "1.0") for patient in ids[:10]] + [row(patient, "", "1.0") for patient in ids[10:20]]
    rows += [
        row(ids[20], "-1.0"),
        row(ids[21], "1.0", "-1.0"),
        row(ids[22], "1.0", "1.0"),
        row(ids[23]),
        row(ids[24], "0.0"),
    ]
    rows += [row(ids[25], "1.0", study=2), row(ids[26], "1.0", view="view1_lateral")]
    trees.write_table(tmp_path / "train.csv", rows)
    balanced = {split: load_chexpert(tmp_path, split) for split in SPLITS}
    assert [len(balanced[split]) for split in SPLITS] == [16, 2, 2]
    assert {item["patient"] for items in balanced.values() for item in items} == set(ids[:20])
    assert balanced["train"][0]["sex"] == "female" and balanced["train"][0]["age"] == "61"
    natural = [item for split in SPLITS[:2] for item in load_chexpert(tmp_path, split, protocol="natural")]
    assert {item["patient"] for item in natural} == set(ids[:20]) | set(ids[21:25])
    assert sum(item["label"] for item in natural) == 12


@pytest.mark.parametrize("form", ["small", "v1.0 in batches", "the folder above"])
def test_folders_as_distributed(form, tmp_path):
    if form == "v1.0 in batches":
        root = trees.tree(tmp_path / "CheXpert-v1.0 batch 1 (validate & csv)", folder="CheXpert-v1.0")
        train = root / "train"
        for n, patient in enumerate(sorted(train.iterdir())):
            batch = tmp_path / f"CheXpert-v1.0 batch {2 + n % 3} (train {1 + n % 3})"
            batch.mkdir(exist_ok=True)
            patient.rename(batch / patient.name)
        train.rmdir()
    else:
        root = trees.tree(tmp_path / "CheXpert-v1.0-small")
    source = tmp_path if form == "the folder above" else root
    assert module.is_chexpert(source) and find_classes(source) == list(module.CLASSES)
    items = {split: load_datalist(source, split, classes=module.CLASSES) for split in SPLITS}
    assert [len(items[split]) for split in SPLITS] == [24, 2, 2]
    assert all(Path(item["image"]).is_file() for each in items.values() for item in each)
    natural = {split: load_chexpert(source, split, protocol="natural") for split in SPLITS}
    assert [len(natural[split]) for split in SPLITS] == [20, 8, 6]
    assert [item["label"] for item in natural["test"]] == [0, 1, 0, 1, 0, 1]


def test_test_labels_of_films_and_other_views(tmp_path):
    root = trees.tree(tmp_path)
    trees.write_film(root / "test" / "patient64740" / "study1" / "view2_frontal.jpg", effusion=False)
    assert len(load_chexpert(root, "test", protocol="natural")) == 7
    lines = ["test/patient64740/study1/view2_frontal.jpg,1", "test/patient64741/study1/view1_lateral.jpg,0"]
    trees.write_table(root / "test_labels.csv", lines, "Path,Pleural Effusion")
    assert [(i["key"], i["label"]) for i in load_chexpert(root, "test", protocol="natural")] == [
        ("patient64740/study1/view2_frontal.jpg", 1)
    ]


def test_images_that_are_not_there_are_counted_and_listed(tmp_path):
    root = trees.tree(tmp_path)
    gone = [Path(item["image"]) for item in load_chexpert(root, "train")[:7]]
    for path in gone:
        path.unlink()
    with pytest.raises(
        ValueError, match=r"train.csv: 7 of 24 images are not there: .* and 2 more; .*aimi.stanford"
    ) as said:
        load_chexpert(root, "train")
    assert str(gone[0]) in str(said.value) and "allow_missing" in str(said.value) and "Agreement" in str(said.value)
    with pytest.warns(UserWarning, match="7 of 24 images are not there"):
        assert len(load_chexpert(root, "train", allow_missing=True)) == 17


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        ([row("patient00001", "2")], None, "line 2: expected 'Pleural Effusion' to be one of .*, got '2'"),
        ([row("patient00001", "1.0")] * 2, None, "line 3: expected one row an image"),
        (["a.jpg,F,1,Frontal,AP" + "," * 14], None, "line 2: expected 'Path' to end in patientNUMBER"),
        ([row("patient00001", "1.0")], None, r"expected at least 5 films of each class, got \[0, 1\]"),
        ([], "Path,Sex,Age,No Finding", "Pleural Effusion.* is missing"),
    ],
)
def test_faults_are_named(rows, header, message, tmp_path):
    trees.write_table(tmp_path / "train.csv", rows, header or trees.HEADER)
    with pytest.raises(ValueError, match=message):
        load_chexpert(tmp_path, "train")


def test_absent_data_says_where_to_get_it_and_under_which_terms(tmp_path):
    with pytest.raises(ValueError, match="train.csv of CheXpert.*missing.*aimi.stanford.edu.*research only"):
        load_chexpert(tmp_path, "train")
    root = trees.tree(tmp_path)
    (root / "test_labels.csv").unlink()
    with pytest.raises(NoSplitError, match="official test set.*chexlocalize"):
        load_chexpert(root, "test", protocol="natural")
    with pytest.raises(ValueError, match="protocol: expected one of balanced, natural, got 'best'"):
        load_chexpert(root, "test", protocol="best")
    with pytest.raises(ValueError, match="classes: expected .*'no_effusion', 'pleural_effusion'"):
        load_datalist(root, "train", classes=["pleural_effusion", "no_effusion"])
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "train.csv").write_text("image,label\n")
    assert not module.is_chexpert(tmp_path / "other") and not module.is_chexpert(tmp_path / "none")
