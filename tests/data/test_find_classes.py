"""Names of classes that nobody has given."""

from __future__ import annotations

import pytest

from monai_diffclf.data import find_classes


def write(path, *rows):
    path.write_text("\n".join(rows) + "\n")
    return path


def test_of_folders(tmp_path):
    for name in ("train/b", "train/a", "test/c", ".git/d"):
        (tmp_path / name).mkdir(parents=True)
    assert find_classes(tmp_path) == ["a", "b", "c"]
    assert find_classes(tmp_path / "train") == ["a", "b"]


def test_two_spellings_of_a_class_are_refused(tmp_path):
    for name in ("Ill", "ILL", "well"):
        (tmp_path / name).mkdir()
    with pytest.raises(ValueError, match="differ in more than case"):
        find_classes(tmp_path)


def test_of_a_table(tmp_path):
    table = write(tmp_path / "labels.csv", "file,diagnosis,label", "1.png, ill ,x", "2.png,well,y", "3.png,ILL,z")
    assert find_classes(tmp_path, label_column="diagnosis") == ["ill", "well"]
    assert find_classes(table) == ["x", "y", "z"]


def test_what_are_no_classes(tmp_path):
    table = write(tmp_path / "t.csv", "file,label_index", "1.png,0", "2.png,1")
    with pytest.raises(ValueError, match="has the place of each class in 'label_index', and not its name"):
        find_classes(table)
    many = write(tmp_path / "m.csv", "file,label", *(f"{n}.png,{n}" for n in range(200)))
    with pytest.raises(ValueError, match="more than 100 different entries in 'label'"):
        find_classes(many)
    one = write(tmp_path / "o.csv", "file,label", "1.png,ill")
    with pytest.raises(ValueError, match="two or more different class names"):
        find_classes(one)
    with pytest.raises(ValueError, match="of an unknown kind"):
        find_classes(write(tmp_path / "notes.txt", "nothing"))
    with pytest.raises(ValueError, match="does not exist"):
        find_classes(tmp_path / "nowhere")


@pytest.mark.parametrize("missing", ["nan", "NaN", "N/A", "null", "<NA>"])
def test_a_missing_label_is_no_class(tmp_path, missing):
    table = write(tmp_path / "t.csv", "file,label", "1.png,ill", f"2.png,{missing}", "3.png,well")
    with pytest.raises(
        ValueError, match=f"line 3: expected a class in 'label', got '{missing}', which stands for a miss"
    ):
        find_classes(table)
    assert find_classes(write(tmp_path / "n.csv", "file,label", "1.png,none", "2.png,ill")) == ["ill", "none"]
