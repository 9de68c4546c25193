"""Text from users in tables: shown, never run."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from monai_diffclf._text import csv_text, from_csv_text, printable
from monai_diffclf.handlers.evaluation_saver import read_predictions, write_predictions
from monai_diffclf.handlers.subgroups import write_subgroups

RUN = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(1)", "\t=1", "\r=1", " =1", "\uff1d1", '=HYPERLINK("x")', "-x.png"]
SHOWN = ["scan.png", "-5", "+5", "-1e-5", "1=2", "a-b", "", "Müller", "a,b", 'a"b']


@pytest.mark.parametrize("text", RUN)
def test_what_would_run_is_marked(text):
    assert csv_text(text) == "'" + text


@pytest.mark.parametrize("text", SHOWN)
def test_all_else_stays(text):
    assert csv_text(text) == text


@pytest.mark.parametrize("text", [*RUN, *SHOWN, "'", "''", "'=1", "'a", "' =1"])
def test_the_text_comes_back(text):
    assert from_csv_text(csv_text(text)) == text


def test_different_texts_stay_different():
    texts = [*RUN, *SHOWN, "'", "''", "'=1+1", "''=1+1"]
    assert len({csv_text(text) for text in texts}) == len(texts)


def test_control_characters_are_written_out():
    assert csv_text("a\x1b[2J\x00\u202eb\u2028c\u200f") == "a\\x1b[2J\\x00\\u202eb\\u2028c\\u200f"
    spaces = "9.41\u202fAM\u00a0\u3000 \u200c\u200d so\u00adft"
    assert csv_text(spaces) == printable(spaces) == spaces


def test_tables_of_predictions(tmp_path):
    path, keys, patients = tmp_path / "test.csv", ["=1+1", "b", "'x"], ["@p", "-5", ""]
    write_predictions(path, keys=keys, patients=patients, labels=[0, 1, 1], probabilities=np.full((3, 2), 0.5))
    with path.open(newline="") as file:
        cells = {cell for row in csv.reader(file) for cell in row}
    assert {"'=1+1", "''x", "'@p", "-5"} <= cells
    found = read_predictions(path)
    assert dict(zip(found["keys"], found["patients"], strict=True)) == dict(zip(keys, patients, strict=True))


def test_tables_of_subgroups(tmp_path):
    row = {"subgroup": "=1+1", "column": "@site", "num_images": 3, "num_patients": None, "class_counts": [1, 2]}
    write_subgroups(tmp_path / "groups.csv", [{**row, "metrics": {"auc": {"value": -0.5, "low": -1.0, "high": 0.5}}}])
    with (tmp_path / "groups.csv").open(newline="") as file:
        (found,) = csv.DictReader(file)
    assert (found["subgroup"], found["column"], found["auc"], found["num_images"]) == ("'=1+1", "'@site", "-0.5", "3")
