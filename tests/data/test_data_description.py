"""What was read, by name and by number."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from monai_diffclf.data import describe_data, make_phantoms
from monai_diffclf.data.data_description import contents_hash, files_hash, items_hash

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


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path):
    def items(root, classes):
        return [{"image": f"{root}/{name}/{i}.png", "label": k} for k, name in enumerate(classes) for i in range(2)]

    one = items_hash(items("data", ("ill", "well")))
    assert one == items_hash(items(tmp_path / "elsewhere", ("ill", "well")))
    assert one != items_hash(items("data", ("well", "ill")))
    flat = [{"image": f"data/{i}.png", "label": i % 2} for i in range(4)]
    keyed = [{**item, "key": f"{i}.png"} for i, item in enumerate(flat)]
    assert items_hash(flat) == items_hash(keyed) == "ca6bbdd811ff3ea9", (
        "as ever, where all are in one folder or have keys"
    )
    several = [{"image": [f"{root}/a/0.png", f"{root}/a/1.png"], "label": 0} for root in ("here", "there")]
    assert items_hash(several[:1]) == items_hash(several[1:])


def test_contents_are_of_the_bytes_and_files_of_sizes_and_times(tmp_path):
    files = [tmp_path / "series" / f"{i}.dcm" for i in range(2)]
    files[0].parent.mkdir()
    for i, file in enumerate(files):
        file.write_bytes(b"%d" % i)
    for items in ([{"image": str(files[1]), "key": "a"}], [{"image": files[0].parent, "key": "a"}]):
        files[1].write_bytes(b"1")
        os.utime(files[1], ns=(1, 1))
        before = contents_hash(items), files_hash(items)
        assert (contents_hash(items), files_hash(items)) == before
        os.utime(files[1], ns=(1, 2))
        assert contents_hash(items) == before[0] and files_hash(items) != before[1]
        files[1].write_bytes(b"2")
        os.utime(files[1], ns=(1, 1))
        assert contents_hash(items) != before[0]
    arrays = [{"image": np.zeros((2, 8)), "key": "a"}], [{"image": np.zeros((4, 4)), "key": "a"}]
    assert contents_hash(arrays[0]) != contents_hash(arrays[1])


def test_what_an_item_says_beside_its_image_counts_in_contents(tmp_path, monkeypatch):
    """A mask, a box, a side: a transform may read them. Labels and patients are in the hash of the datalist."""
    image, mask = tmp_path / "a.png", tmp_path / "mask.png"
    image.write_bytes(b"image")
    mask.write_bytes(b"mask")
    plain = {"image": str(image), "key": "a", "label": 0, "patient": "P"}
    for hash_of in (contents_hash, files_hash):
        found = [
            hash_of([{**plain, **more}])
            for more in (
                {},
                {"mask": str(mask)},
                {"side": "L"},
                {"side": "R"},
                {"box": np.array([0, 2])},
                {"box": np.array([0, 3])},
                {"windows": {"first": [1, 2.5]}},
                {"windows": {"first": [1, 3.5]}},
            )
        ]
        assert len({*found}) == len(found)
        assert hash_of([{**plain, "label": 1, "patient": "Q", "box": None}]) == found[0]
        assert hash_of([{**plain, "age": np.int64(3)}]) == hash_of([{**plain, "age": 3}])
    with_mask = [{**plain, "mask": str(mask)}]
    before = contents_hash(with_mask)
    moved = mask.rename(tmp_path / "renamed.png")
    assert contents_hash([{**plain, "mask": moved}]) == before, "what is in a file counts, not where it is"
    moved.write_bytes(b"other")
    assert contents_hash([{**plain, "mask": moved}]) != before
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "large.png").write_bytes(b"1")
    monkeypatch.chdir(tmp_path)
    before = contents_hash([{**plain, "split": "train"}])
    (tmp_path / "train" / "large.png").write_bytes(b"2")
    assert contents_hash([{**plain, "split": "train"}]) == before, "a word is no folder"


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
