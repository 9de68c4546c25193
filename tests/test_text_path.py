"""Paths are text: what a command line made into something else is refused with what to write."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from monai_diffclf._text_path import text_of, text_path
from monai_diffclf.data import find_images, find_pneumonia_mnist, load_datalist, load_image_folder, load_image_table

WRONG = [2024, 1e5, True, None, ("a", "b"), ["a"], {"a": 1}, b"a"]


@pytest.mark.parametrize("value", WRONG)
@pytest.mark.parametrize(
    "load",
    [
        find_images,
        find_pneumonia_mnist,
        lambda path: load_datalist(path, "train", classes=["a", "b"]),
        lambda path: load_image_folder(path, "train"),
        lambda path: load_image_table(path, "train", classes=["a", "b"]),
        lambda path: (
            load_image_table(__file__, "train", classes=["a", "b"], root=path)
            if path is not None
            else find_images(None)
        ),
    ],
)
def test_every_reader_refuses_what_is_no_text(load, value):
    with pytest.raises(TypeError, match=r"^(source|root|csv_path): expected a path as text, got "):
        load(value)


def test_the_fix_is_named():
    with pytest.raises(TypeError, match=r"got the number 2024 \(int\); write it as \./2024, so that the command line"):
        text_path(2024, "source")
    with pytest.raises(TypeError, match=r"got True \(bool\); write it as \./True"):
        text_path(True, "source")


@pytest.mark.parametrize("value", ["", "  ", "a\0b"])
def test_text_that_no_file_is_called(value):
    with pytest.raises(ValueError, match="source: expected the path of a file or folder"):
        text_path(value, "source")


def test_paths_pass(tmp_path):
    assert text_path(tmp_path, "x") == text_path(os.fspath(tmp_path), "x") == Path(tmp_path)
    assert text_path("$HOME @x %y", "x") == Path("$HOME @x %y")


def test_names_of_columns_are_text():
    with pytest.raises(TypeError, match=r"""label_column: expected text, got 1 \(int\); .* --label_column "'1'\""""):
        text_of(1, "label_column")
    with pytest.raises(ValueError, match="label_column: expected text, got ' '"):
        text_of(" ", "label_column")
