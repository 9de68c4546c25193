"""Names of classes are text, whatever the command line made of them."""

from __future__ import annotations

import numpy as np
import pytest
from fire.parser import DefaultParseValue

from monai_diffclf._class_names import class_names, find_name, finding_names, shown


@pytest.mark.parametrize(
    ("typed", "names"),
    [
        ("[1,0]", ["1", "0"]),
        ("[01, 02]", ["01", "02"]),
        ("['benign','malignant']", ["benign", "malignant"]),
        ("benign,malignant", ["benign", "malignant"]),
        ("[True,None]", ["True", "None"]),
        ("[1.5,2]", ["1.5", "2"]),
        ("[a b,c-d]", ["a b", "c-d"]),
        ("['a,b','c']", ["a,b", "c"]),
        ("(0,1,2)", ["0", "1", "2"]),
        ("[1-2,3+]", ["1-2", "3+"]),
    ],
)
def test_what_the_command_line_makes_of_a_list(typed, names):
    assert class_names(DefaultParseValue(typed)) == names


def test_names_are_composed_and_stripped():
    assert class_names(["  U\u0308bel ", np.str_("gut"), np.int64(3)]) == ["\u00dcbel", "gut", "3"]
    assert find_name("u\u0308BEL", ["gut", "\u00dcbel"]) == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("normal", "expected two or more different class names, got \\['normal'\\]"),
        (["normal"], "expected two or more different class names"),
        ([], "expected two or more different class names"),
        (["a", "a"], "expected two or more different class names, each once, got 'a' and 'a'"),
        ([1, "1"], "each once, got '1' and '1'"),
        (["a b", "A  B"], "differ in more than case and spaces, got 'a b' and 'A  B'"),
        (["a", " "], "expected names to read, got ' ' among them"),
        ("[a,,b]", "expected names to read, got ''"),
        (["a\n", "b\x1b[2J"], "expected names to read, got 'b"),
        ("['a','b", "expected names separated by commas"),
        (["a;b", "c"], "expected names without ';', which separates names in tables, got 'a;b'; rename it"),
    ],
)
def test_lists_that_cannot_be_meant(given, message):
    with pytest.raises(ValueError, match=f"classes: .*{message}"):
        class_names(given)


def test_no_finding_is_called_as_an_image_without_any():
    assert finding_names(["No Finding", "Edema"]) == ["No Finding", "Edema"]  # a label of CheXpert
    for name in ("none", " NONE", "N one", None):
        assert class_names(["a", name])[0] == "a"
        with pytest.raises(ValueError, match="classes: expected findings by another name than 'none', which"):
            finding_names(["a", name])
    with pytest.raises(ValueError, match="expected names without ';'"):
        finding_names(["a", "b;c"])


@pytest.mark.parametrize("given", [None, 1, 1.5, True, {"a": 1}, {"a", "b"}, [["a"], "b"], [{"a": 1}, "b"]])
def test_what_is_no_list_of_names(given):
    with pytest.raises(TypeError, match="classes: expected .*names, got .*; write for example --classes"):
        class_names(given)


def test_a_label_is_found_by_name_alone():
    assert [find_name(text, ["1", "0"]) for text in ("0", "1", " 1", "2", "01", "")] == [1, 0, 0, None, None, None]


def test_shown_is_one_line():
    assert shown("a\x00\n\u202eb") == r"a\x00\n\u202eb"
