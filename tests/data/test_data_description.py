"""What was read, by name and by number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from monai_diffclf.data import describe_data, make_phantoms

ITEMS = [{"key": f"{i}.png", "label": i % 2, "patient": f"P{i // 2}"} for i in range(8)]
CLASSES = ["normal", "pneumonia"]


def test_counts_and_name(tmp_path):
    source = tmp_path / "our films"
    found = describe_data({"train": ITEMS, "validation": ITEMS[:3]}, CLASSES, source=source, image_size=[28, 28])
    assert found["name"] == "own images in our films, 28 px"
    assert found["train"]["classes"] == {"normal": 4, "pneumonia": 4} and found["train"]["patients"] == 4
    assert found["validation"]["classes"] == {"normal": 2, "pneumonia": 1} and found["validation"]["images"] == 3


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("pneumoniamnist.npz", "PneumoniaMNIST"),
        ("ISIC-2017_Validation_Part3_GroundTruth.csv", "ISIC 2017"),
        ("breast-level_annotations.csv", "VinDr-Mammo"),
        ("labels.csv", "own images in x"),
        ("other.npz", "own images in x"),
    ],
)
def test_known_sets_have_their_name(tmp_path, file, name):
    folder = tmp_path / "x"
    folder.mkdir()
    (folder / file).write_text("")
    assert describe_data({"test": ITEMS}, CLASSES, source=folder, image_size=[28, 32])["name"] == f"{name}, 28 x 32 px"


def test_a_name_that_is_given_holds():
    assert describe_data({}, CLASSES, source="x", name="INbreast", image_size=384)["name"] == "INbreast, 384 px"


def test_the_hash_is_of_the_images_not_of_their_order(tmp_path):
    def hash_of(items):
        return describe_data({"s": items}, CLASSES)["s"]["hash"]

    assert hash_of(ITEMS) == hash_of(ITEMS[::-1])
    others = [{**ITEMS[0], "label": 1}, {**ITEMS[0], "key": "x"}, {**ITEMS[0], "patient": "x"}]
    assert len({hash_of(ITEMS), hash_of(ITEMS[1:] + ITEMS[:1] * 2), *(hash_of([o, *ITEMS[1:]]) for o in others)}) == 5
    paths = [{"image": tmp_path / f"{i}.png", "label": i % 2} for i in range(4)]
    moved = [{"image": str(Path("/elsewhere") / f"{i}.png"), "label": i % 2} for i in range(4)]
    assert hash_of(paths) == hash_of(moved)
    arrays = [{"image": np.full((2, 2), i), "label": i % 2} for i in range(4)]
    assert hash_of(arrays) != hash_of([{**item, "image": item["image"] + 1} for item in arrays])


def test_phantoms_have_no_patients():
    assert describe_data({"train": make_phantoms(8, size=16)}, CLASSES)["train"]["patients"] is None


@pytest.mark.parametrize("items", [[], ITEMS[::2], ITEMS[1::2]])
def test_a_split_without_some_class_is_refused(items):
    missing = {0: "normal, pneumonia", 4: "pneumonia" if items and items[0]["label"] == 0 else "normal"}[len(items)]
    with pytest.raises(
        ValueError, match=f"validation: expected images of every class, got none of {missing} "
    ) as caught:
        describe_data({"train": ITEMS, "validation": items}, CLASSES, source="folder")
    assert "in folder; add some" in str(caught.value) and "\n" not in str(caught.value)
