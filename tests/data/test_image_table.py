"""CSV tables of a user's own images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_diffclf.data import load_image_table
from monai_diffclf.data.image_table import SPLITS, split_by_hash


def draw(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((2, 2), dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def table(tmp_path: Path) -> Path:
    for n in range(5):
        draw(tmp_path / f"images/{n}.png")
    path = tmp_path / "table.csv"
    path.write_text(
        "image,label,split,patient\n"
        "images/0.png,healthy,train,A\n"
        "images/1.png,Ill ,train,B\n"
        "images/2.png,ill,val,\n"
        "images/3.png,healthy,Test,C\n"
        "images/4.png,ill,test,C\n"
    )
    return path


CLASSES = ("healthy", "ill")


def test_table(table):
    train = load_image_table(table, "train", classes=CLASSES)
    assert [(item["key"], item["label"], item["patient"]) for item in train] == [
        ("images/0.png", 0, "A"),
        ("images/1.png", 1, "B"),
    ]
    assert train[0]["image"] == str(table.parent / "images/0.png")
    validation = load_image_table(table, "validation", classes=CLASSES)
    assert [(item["label"], item["patient"]) for item in validation] == [(1, "")]
    assert [item["label"] for item in load_image_table(table, "test", classes=CLASSES)] == [0, 1]


def test_table_with_other_columns_and_root(table, tmp_path):
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    text = table.read_text().replace("image,label,split,patient", "\ufefffile,finding,fold,person")
    (moved / "t.csv").write_text(text, encoding="utf-8")
    names = {"image_column": "file", "label_column": "finding", "split_column": "fold", "patient_column": "person"}
    items = load_image_table(moved / "t.csv", "train", classes=CLASSES, root=tmp_path, **names)
    assert [item["patient"] for item in items] == ["A", "B"]


def test_table_without_a_split_column_is_split_by_patient(tmp_path):
    rows = []
    for n in range(120):
        draw(tmp_path / f"{n}.png")
        rows.append(f"{n}.png,{CLASSES[n % 2]},P{n // 3}")
    (tmp_path / "t.csv").write_text("image,label,patient\n" + "\n".join(rows))
    splits = {s: load_image_table(tmp_path / "t.csv", s, classes=CLASSES, split_column=None) for s in SPLITS}
    assert sum(len(items) for items in splits.values()) == 120
    for name, items in splits.items():
        assert {split_by_hash(item["patient"]) for item in items} == {name}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "label,",
            "class,",
            r"\['label'\] is missing from \['image', 'class', 'split', 'patient'\]; name the column with --label_c",
        ),
        (
            "png,Ill ,",
            "png,tumour,",
            r"line 3: unknown label 'tumour' in 'label'; expected one of \['healthy', 'ill'\]; .* with --classes$",
        ),
        (
            "png,Ill ,",
            "png,2,",
            r"line 3: unknown label '2' in 'label'; .* in this list \(0 for 'healthy', 1 for 'ill'\), say so: ",
        ),
        ("png,Ill ,", "png,,", "line 3: unknown label ''"),
        ("ages/1", "ages/9", r"line 3: expected an image file, but .*images/9\.png does not exist"),
        ("images/1.png", "", "line 3: expected a text in 'image', it is empty"),
        (",Test,", ",tset,", "line 5: expected the split train, validation, test, got 'tset'"),
    ],
)
def test_wrong_rows_are_named(table, old, new, message):
    table.write_text(table.read_text().replace(old, new, 1))
    with pytest.raises(ValueError, match=message):
        load_image_table(table, "train", classes=CLASSES)


def test_wrong_tables(table, tmp_path):
    with pytest.raises(ValueError, match=r"csv_path: expected a CSV table, but .*none\.csv does not exist"):
        load_image_table(tmp_path / "none.csv", "train", classes=CLASSES)
    with pytest.raises(ValueError, match=r"\['person'\] is missing from \['image', 'label'"):
        load_image_table(table, "train", classes=CLASSES, patient_column="person")
    table.write_text("image,label,split\n")
    with pytest.raises(ValueError, match=r"split: .*table\.csv has no row for the split 'train'"):
        load_image_table(table, "train", classes=CLASSES)
    for classes in ("ill", ["ill"], ["ill", "ill"]):
        with pytest.raises(ValueError, match="classes: expected two or more different class names"):
            load_image_table(table, "train", classes=classes)


def write(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "table.csv"
    path.write_bytes(text.encode(encoding))
    return path


def found(path: Path, split: str = "train", classes=CLASSES, **options) -> list[tuple[str, int]]:
    return [(item["key"], item["label"]) for item in load_image_table(path, split, classes=classes, **options)]


def test_labels_are_names_whatever_they_look_like(tmp_path):
    for name in "abc":
        draw(tmp_path / f"{name}.png")
    table = write(tmp_path, "file,label,split\na.png,0,train\nb.png,1,train\nc.png,2,test\n")
    assert found(table, classes=[1, 0, 2]) == [("a.png", 1), ("b.png", 0)]
    assert found(table, "test", classes="[0,1,2]") == [("c.png", 2)]
    assert found(table, classes=["x", "y"], label_type="index") == [("a.png", 0), ("b.png", 1)]
    with pytest.raises(ValueError, match="line 4: unknown label '2' in 'label'; expected an index below 2"):
        found(table, "test", classes=["x", "y"], label_type="index")
    table = write(tmp_path, "file,label_index,split\na.png,1,train\nb.png,x,test\n")
    assert found(table, classes=["x", "y"]) == [("a.png", 1)]
    with pytest.raises(
        ValueError, match="line 3: unknown label 'x' in 'label_index'; expected an index .*--label_type name"
    ):
        found(table, "test", classes=["x", "y"])
    assert found(table, "test", classes=["x", "y"], label_type="name") == [("b.png", 0)]
    for text in ("-1", "1.0", "+1", "\u0661", "1_0"):
        write(tmp_path, f"file,label_index,split\na.png,{text},train\n")
        with pytest.raises(ValueError, match="line 2: unknown label .* expected an index below 2"):
            found(table, classes=["x", "y"])


@pytest.mark.parametrize("spelling", ["val", "valid", "validation", "dev", "Val", "VALIDATION ", "development"])
def test_spellings_of_splits(tmp_path, spelling):
    draw(tmp_path / "a.png")
    table = write(tmp_path, f"file,label,split\na.png,ill,{spelling}\n")
    assert found(table, "validation") == [("a.png", 1)]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            "a.png,ill,train\na.png,healthy,train\n",
            "line 3: .* in 'file', got 'a.png' again, in line 2 .*two labels, 'ill' and 'heal",
        ),
        ("a.png,ill,train\na.png,ill,train\n", "line 3: .*again, in line 2 already, with the same row; remove one"),
        ("a.png,ill,train\na.png,ill,test\n", "line 3: .*again, in line 2 already, with another 'split'"),
        ("a.png,ill,train\n./a.png,ill,train\n", r"line 3: .*got '\./a\.png' again"),
        ("x/a.png,ill,train\nx\\a.png,ill,train\n", r"line 3: .*again"),
        ("\u00dc.png,ill,train\nU\u0308.png,ill,train\n", r"line 3: .*again"),
        ("a.png,ill,train,\n", "line 2: expected 3 fields, as many as the header has, got 4"),
        ("a.png,ill\n", "line 2: expected 3 fields, as many as the header has, got 2"),
        ('a.png,"ill,train\n', "line 2: .*unexpected end of data; is a quote not closed"),
        ("a.png,ill,3\n", "line 2: expected the split train, validation, test, got '3' in 'split'"),
        ("a.png,,train\n", "line 2: unknown label '' in 'label'"),
        (",ill,train\n", "line 2: expected a text in 'file', it is empty"),
        ("b.png,ill,train\n", r"line 2: expected an image file, but .*b\.png does not exist$"),
        ("A.PNG,ill,train\n", r"line 2: .*A\.PNG does not exist; there is 'a\.png': write it so"),
        ("a,ill,train\n", r"line 2: .*/a does not exist; there is 'a\.png': write it so"),
        ("x,ill,train\n", r"line 2: expected an image file, but .*/x is a folder"),
        ("y/a.png,ill,train\n", r"line 2: .*y/a\.png does not exist; there is no folder .*y$"),
        ("gone.png,ill,train\n", r"line 2: .*gone\.png is a link to nothing"),
        (r"C:\data\a.png,ill,train" + "\n", r"line 2: .*C:\\data\\a\.png does not exist"),
    ],
)
def test_rows_that_cannot_be_meant(tmp_path, rows, message):
    for name in ("a.png", "x/a.png", "\u00dc.png"):
        draw(tmp_path / name)
    (tmp_path / "gone.png").symlink_to(tmp_path / "nothing")
    table = write(tmp_path, "file,label,split\n" + rows)
    with pytest.raises(ValueError, match=rf"table\.csv, {message}"):
        load_image_table(table, "train", classes=CLASSES)


def test_a_row_that_a_quote_has_swallowed(tmp_path):
    for name in "abc":
        draw(tmp_path / f"{name}.png")
    text = 'file,label,split,note\na.png,ill,train,"3 cm\nb.png,ill,train,"\nc.png,ill,train,"two\nlines, of, text"\n'
    with pytest.raises(
        ValueError, match=r"line 2: .*'note', got one with a line break and another row, that of 'b\.png'"
    ):
        found(write(tmp_path, text))
    assert len(found(write(tmp_path, text.replace('"3 cm', "3 cm").replace('train,"\n', "train,\n")))) == 3


def test_empty_rows_and_spaces_are_nothing(tmp_path):
    draw(tmp_path / "a.png")
    table = write(tmp_path, " file ; label;split\r\n\r\n;;\r\n a.png ;  ill ; train \r\n;;\r\n", "utf-16")
    assert found(table) == [("a.png", 1)]


def test_paths(tmp_path):
    inside, outside = tmp_path / "set", tmp_path / "other"
    names = ["x/a.png", "\u00dc.png", "O\u0308.png"]
    for name in names:
        draw(inside / name)
    draw(outside / "b.png")
    rows = ["x\\a.png", "U\u0308.png", "\u00d6.png", "../other/b.png", str(inside / "x" / ".." / "x" / "a.png")]
    text = "file,label,split\n" + "".join(f"{row},ill,train\n" for row in rows)
    with pytest.raises(ValueError, match=r"line 6: expected each image once"):
        found(write(inside, text))
    items = load_image_table(write(inside, "".join(text.splitlines(True)[:-1])), "train", classes=CLASSES)
    assert [item["key"] for item in items] == rows[:-1]
    assert all(Path(item["image"]).is_file() for item in items)


def test_patients_in_two_splits(tmp_path):
    for name in ("P1_a", "P1_b", "P2_c"):
        draw(tmp_path / f"{name}.png")
    rows = "P1_a.png,ill,train,P1\nP1_b.png,ill,test,P1 \nP2_c.png,healthy,train,\n"
    table = write(tmp_path, "file,label,split,Patient ID\n" + rows)
    for split in ("train", "test"):
        with pytest.raises(
            ValueError, match=r"table\.csv: patient: .*1 in both 'train' and 'test': 'P1' \(line 2; line 3\)"
        ):
            found(table, split)
    assert len(found(table, allow_shared_patients=["train", "test"])) == 2
    with pytest.raises(ValueError, match=r"patient_pattern: the table has a column of patients, 'Patient ID'"):
        found(table, patient_pattern=r"(P\d)")
    table = write(tmp_path, "file,label,split,note\n" + rows)
    assert len(found(table)) == 2
    with pytest.raises(ValueError, match="in both 'train' and 'test': 'P1'"):
        found(table, patient_pattern=r"(P\d)_")
    with pytest.raises(ValueError, match=r"line 4: patient_pattern: expected .* it finds none in 'P2_c\.png'"):
        found(table, patient_pattern=r"(P1)_")
