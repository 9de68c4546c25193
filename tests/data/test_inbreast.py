"""INbreast as it is distributed."""

from __future__ import annotations

from pathlib import Path

import pytest

from monai_diffclf.data.inbreast import load_inbreast, read_inbreast_outlines, split_of_patient
from monai_diffclf.data.mammogram_tables import class_balance
from tests.data.mammography_trees import inbreast_outlines, inbreast_tree, patients_of

TRAIN, OTHER = patients_of("train", split_of_patient, "{:016x}", 2)
HELD_OUT, *_ = patients_of("validation", split_of_patient, "{:016x}", 1)
TEST, *_ = patients_of("test", split_of_patient, "{:016x}", 1)

ROWS = [
    ("22678622", TRAIN, "R_CC", "4", "1"),
    ("20586908", TRAIN, "L_ML", "", "5"),
    ("22678646", OTHER, "L_CC", "2", "4a"),
    ("22678670", HELD_OUT, "R_CC", "1", "3"),
    ("22678694", TEST, "R_ML", "3", "6"),
]


@pytest.mark.parametrize("excel", [False, True])
def test_official_layout_gives_labels_patients_and_views(tmp_path: Path, excel: bool) -> None:
    root = inbreast_tree(tmp_path, ROWS, excel=excel)
    outlines = inbreast_outlines(root, "22678622")
    items = load_inbreast(root, "train")
    assert [item.pop("image") for item in items] == [
        str(root / "AllDICOMs" / f"{name}_ANON.dcm")
        for name in (f"20586908_{TRAIN}_MG_L_ML", f"22678622_{TRAIN}_MG_R_CC", f"22678646_{OTHER}_MG_L_CC")
    ]
    assert items[1] == {
        "label": 0,
        "key": "22678622",
        "patient": TRAIN,
        "laterality": "R",
        "view": "CC",
        "density": "4",
        "assessment": "1",
        "outlines": str(outlines),
    }
    assert [(item["label"], item["assessment"], item["view"]) for item in items] == [
        (1, "5", "MLO"),
        (0, "1", "CC"),
        (1, "4a", "CC"),
    ]
    assert items[0]["outlines"] == items[0]["density"] == ""


def test_splits_are_by_patient(tmp_path: Path) -> None:
    inbreast_tree(tmp_path / "INbreast Release 1.0", ROWS)
    balance = class_balance({split: load_inbreast(tmp_path, split) for split in ("train", "validation", "test")})
    assert balance.patients == {"train": 2, "validation": 1, "test": 1}
    shares = [split_of_patient(f"{n:016x}") for n in range(2000)]
    assert [round(shares.count(split) / 2000, 1) for split in ("train", "validation", "test")] == [0.7, 0.1, 0.2]


@pytest.mark.parametrize("birads", ["1", "2", "3", "4", "4a", "4b", "4c", "5", "6"])
def test_birads_one_to_three_is_benign(tmp_path: Path, birads: str) -> None:
    root = inbreast_tree(tmp_path, [("1", TRAIN, "L_CC", "1", birads)])
    assert load_inbreast(root, "train")[0]["label"] == int(birads[0] in "456")


def test_outlines_are_read(tmp_path: Path) -> None:
    path = inbreast_outlines(tmp_path, "1")
    assert read_inbreast_outlines(path) == [("Mass", [(1.5, 2.0), (5.0, 2.0), (5.0, 6.25)])]
    path.write_bytes(path.read_bytes().replace(b"Point_px", b"Point_mm"))
    with pytest.raises(ValueError, match=r"1\.xml: expected a property list .*KeyError: 'Point_px'"):
        read_inbreast_outlines(path)
    path.write_text("<plist>")
    with pytest.raises(ValueError, match=r"1\.xml: expected a property list with Images, ROIs, Name and Point_px"):
        read_inbreast_outlines(path)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [("1", TRAIN, "L_CC", "1", "0")],
            "line 2: expected 'Bi-Rads' to be one of 1, 2, .* got '0'; BI-RADS 0 is an unf",
        ),
        (
            [("1", TRAIN, "L_CC", "1", "7")],
            "line 2: expected 'Bi-Rads' to be one of 1, 2, 3, 4, 4a, 4b, 4c, 5, 6, got '7'",
        ),
        ([*ROWS, ROWS[0]], "line 7: expected one row an image, got a second one with the 'File Name' 22678622"),
        ([("", TRAIN, "L_CC", "1", "1")], "line 2: expected the number of an image in 'File Name', it is empty"),
    ],
)
@pytest.mark.parametrize("excel", [False, True])
def test_faults_are_named(tmp_path: Path, rows: list[tuple[str, ...]], message: str, excel: bool) -> None:
    root = inbreast_tree(tmp_path, rows, excel=excel)
    for file in root.glob("AllDICOMs/_*"):
        file.unlink()
    with pytest.raises(ValueError, match=rf"INbreast\.(csv|xls), {message}"):
        load_inbreast(root, "train")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (";R;CC;", ";B;CC;", "line 2: expected 'Laterality' to be one of L, R, got 'B'"),
        (";R;CC;", ";R;LM;", "line 2: expected 'View' to be one of CC, MLO, ML, got 'LM'"),
        ("22678622", "22678623", r"line 2: expected an image 22678623_\.\.\._ANON\.dcm \('File Name'\) .* not there"),
        (";Bi-Rads", "", r"expected the columns .* but \['Bi-Rads'\] is missing"),
    ],
)
def test_faults_of_the_table_are_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    table = inbreast_tree(tmp_path, ROWS) / "INbreast.csv"
    table.write_text(table.read_text().replace(old, new, 1))
    with pytest.raises(ValueError, match=rf"INbreast\.csv.*{message}"):
        load_inbreast(tmp_path, "train")


def test_faults_of_the_files_are_named(tmp_path: Path) -> None:
    root = inbreast_tree(tmp_path, ROWS)
    file = root / "AllDICOMs" / f"22678622_{OTHER}_MG_R_CC_ANON.dcm"
    file.touch()
    with pytest.raises(ValueError, match="expected one file with the ID 22678622, got .* too; remove one"):
        load_inbreast(root, "train")
    file.rename(file.with_name("22678622.dcm"))
    with pytest.raises(ValueError, match=r"22678622\.dcm: expected a name such as .* names the patient"):
        load_inbreast(root, "train")
    (root / "INbreast.csv").unlink()
    (root / "INbreast.xls").write_text("no workbook")
    file.with_name("22678622.dcm").unlink()
    with pytest.raises(ValueError, match=r"INbreast\.xls: cannot be read as an Excel table: XLRDError"):
        load_inbreast(root, "train")


def test_missing_parts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected INbreast\.csv or INbreast\.xls in .*by request .* research only"):
        load_inbreast(tmp_path, "train")
    (inbreast_tree(tmp_path / "a", ROWS[:1]) / "AllDICOMs").rename(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="expected AllDICOMs in .* it is missing; INbreast is at http"):
        load_inbreast(tmp_path / "a", "train")
    with pytest.raises(ValueError, match="split: expected one of train, validation, test, got 'all'"):
        load_inbreast(tmp_path, "all")
    with pytest.raises(ValueError, match="split: expected patients for 'test' in .* got none"):
        load_inbreast(inbreast_tree(tmp_path / "b", ROWS[:1]), "test")
