"""What the audit finds in real data sets, as far as it is known from elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from monai_diffclf.data import audit_splits, check_patients, load_datalist, load_pneumonia_mnist
from monai_diffclf.data.patients import patients_of
from monai_diffclf.data.table_rows import read_rows

PATIENTS = Path(__file__).resolve().parents[2] / "bundles" / "pneumonia_xray_diffusion" / "configs" / "patients.csv"


def test_pneumonia_mnist_shares_190_patients_in_its_official_split(dataset):
    root = dataset("pneumoniamnist_28")
    parts = {
        name: load_pneumonia_mnist(root, name, patients=PATIENTS)
        for name in ("train", "validation", "validation_official", "test")
    }
    official = {
        "train": parts["train"] + parts["validation"],
        "validation_official": parts["validation_official"],
        "test": parts["test"],
    }
    audit = audit_splits(official, classes=["normal", "pneumonia"])
    assert {pair: len(found) for pair, found in audit.shared_patients.items()} == {
        ("train", "validation_official"): 190,
        ("train", "test"): 0,
        ("validation_official", "test"): 0,
    }
    assert len(audit.duplicates_across["train", "validation_official"]) == 8
    assert audit.nuisance["mean grey"].auc == pytest.approx(0.69, abs=0.03)
    people = {name: patients_of(items) for name, items in official.items()}
    with pytest.raises(ValueError, match="got 190 in both 'train' and 'validation_official'"):
        check_patients(people)
    check_patients(people, ["train", "validation_official"])
    # The split that the bundles use.
    check_patients({name: patients_of(parts[name]) for name in ("train", "validation", "test")})


def test_busi_has_near_duplicates_with_contradictory_labels(dataset):
    root = dataset("busi_256")
    classes = ["malignant", "benign", "normal"]
    options = {"classes": classes, "label_column": "label", "label_type": "index", "split_column": "split_own"}
    splits = {name: load_datalist(root, name, **options) for name in ("train", "validation", "test")}
    audit = audit_splits(splits, classes=classes)
    (identical,) = audit.contradictions.values()
    assert {(key.split("/")[-1], classes[label]) for _, key, label in identical} == {
        ("malignant_145.jpg", "malignant"),
        ("benign_433.jpg", "benign"),
    }
    # The groups were found by another method, a perceptual hash and a look.
    rows = list(read_rows(root / "labels.csv", ("file", "near_dup_group")))
    group = {row["file"]: row["near_dup_group"] for row in rows}
    found = {frozenset((pair.first[1], pair.second[1])) for pair in audit.near_duplicates}
    found |= {frozenset(key for _, key, _ in identical)}
    names = sorted(group)
    known = {
        frozenset((a, b)) for n, a in enumerate(names) for b in names[n + 1 :] if group[a] and group[a] == group[b]
    }
    assert len(known) == 191
    assert len(found & known) >= 186
    assert len(found - known) <= 16
    label = {row["file"]: row["label"] for row in read_rows(root / "labels.csv", ("file", "label"))}
    contradictory = {
        group[a] for a in names if any(group[a] and group[b] == group[a] and label[b] != label[a] for b in names)
    }
    assert len(contradictory) == 8
    ours = {group[pair.first[1]] for pair in audit.near_duplicates if pair.first[2] != pair.second[2]}
    ours |= {group[key] for _, key, _ in identical}
    assert ours >= contradictory
    assert audit.nuisance["file name"].auc == 1  # malignant_001.jpg


@pytest.mark.slow
def test_isic_2017_has_four_test_images_that_are_training_images(dataset):
    root = dataset("isic2017_256")
    classes = ["nevus", "melanoma", "seborrheic_keratosis"]
    splits = {name: load_datalist(root, name, classes=classes, label_type="index") for name in ("train", "test")}
    audit = audit_splits(splits, classes=classes)
    same = {tuple(sorted(key[-11:-4] for _, key, _ in found)) for found in audit.identical.values()}
    assert same == {("0012175", "0015982"), ("0012271", "0016018")}
    nearly = {
        tuple(sorted((pair.first[1][-11:-4], pair.second[1][-11:-4])))
        for pair in audit.near_duplicates
        if pair.first[0] != pair.second[0] and pair.similarity > 0.998
    }
    assert nearly == {("0012887", "0012989"), ("0013109", "0013163")}
    # Others are the same lesion in another picture.
    assert audit.num_near_duplicates["train", "test"] >= 10
