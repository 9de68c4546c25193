# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Tables and folders of CheXpert as it is distributed: v1.0, in parts or whole, and small; the official test set."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .splits import NoSplitError
from .table_rows import Row, each_once, read_rows

__all__ = [
    "ADDRESS",
    "FINDINGS",
    "TERMS",
    "OfficialFilm",
    "find_table",
    "official_test_films",
    "parts_folders",
    "path_parts",
    "place",
    "sex",
    "within",
]

ADDRESS = "https://aimi.stanford.edu/datasets/chexpert-chest-x-rays"
TEST_ADDRESS = (
    "https://aimi.stanford.edu/datasets/chexlocalize; the labels are at "
    "https://github.com/rajpurkarlab/cheXpert-test-set-labels"
)
TERMS = (
    "Stanford University Dataset Research Use Agreement: registration, research only, not to be passed on; cite Irvin "
    "et al. 2019, arXiv:1901.07031"
)
FINDINGS = (
    *("No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema"),
    *("Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture"),
    "Support Devices",
)
"""The 14 labels, in the order of the tables."""

_PATH = re.compile(r"(?:^|/)(patient\d+)/(study\d+)(?:/(view\d+_(?:frontal|lateral)\.\w+))?$")
_TEST_TABLES = ("test_labels.csv", "test.csv", "groundtruth.csv")


def find_table(root: Path, name: str = "train.csv") -> Path | None:
    """A table in the folder, or in the one folder in it whose name begins with CheXpert."""
    if (root / name).is_file():
        return root / name
    below = sorted(root.glob(f"CheXpert*/{name}")) if root.is_dir() else []
    return below[0] if len(below) == 1 else None


def path_parts(row: Row, column: str) -> tuple[str, str, str, str]:
    """Patient, study and view (empty in a table of studies) that a path names, and the path from the patient on.

    Raises:
        ValueError: when the path is not of that form, with its place in the table.
    """
    match = _PATH.search(row[column])
    if match is None:
        raise ValueError(
            f"{row.where}: expected {column!r} to end in patientNUMBER/studyNUMBER/viewNUMBER_frontal.jpg, got "
            f"{row[column]!r}"
        )
    return match[1], match[2], match[3] or "", row[column][match.start(1) :]


def within(path: str) -> str:
    """A path of the tables without the name of the distribution's folder."""
    return path.partition("/")[2] or path


def sex(row: Row) -> str:
    """``"female"``, ``"male"``, or empty where it is not known."""
    return row.get("Sex").replace("Unknown", "").lower()


def parts_folders(table: Path) -> list[Path]:
    """The folders of the parts of v1.0 beside that of a table."""
    return sorted(table.parent.parent.glob("CheXpert-v1.0 batch *"))


def place(folder: Path, parts: Sequence[Path], path: str) -> str:
    """The file of a path of the tables; the parts of v1.0 have folders of their own without ``train`` in them."""
    own = os.path.join(folder, path)
    if not parts or os.path.exists(own):
        return own
    short = path.partition("/")[2]
    places = (os.path.join(part, each) for part in parts for each in (path, short))
    return next((found for found in places if os.path.exists(found)), own)


@dataclass(frozen=True)
class OfficialFilm:
    """One film of the official test set.

    Args:
        row: the row with its labels.
        key: ``patientNUMBER/studyNUMBER/view...``.
        patient: the patient.
        path: where it lies, or should.
    """

    row: Row
    key: str
    patient: str
    path: str


def official_test_films(
    root: Path, folder: Path, columns: Sequence[str], sides: Sequence[str]
) -> Iterator[OfficialFilm]:
    """Films of the radiologists' test set; of a table of studies, those in the studies' folders.

    Args:
        root: the folder that was given.
        folder: that of ``train.csv``.
        columns: labels that the table must have.
        sides: "frontal", "lateral" or both.

    Raises:
        NoSplitError: when its table is not there.
        ValueError: when a column is missing, or a row is not of the official form.
    """
    places = [each for each in (root, folder, folder.parent / "CheXpert", root / "CheXpert") if each.is_dir()]
    table = next((found / name for found in places for name in _TEST_TABLES if (found / name).is_file()), None)
    if table is None:
        raise NoSplitError(
            f"split: expected {' or '.join(_TEST_TABLES)} of CheXpert's official test set in {root}, it is missing; it "
            f"is at {TEST_ADDRESS} ({TERMS})"
        )
    header = next(iter(read_rows(table, columns, delimiter=",")), None)
    column = "Study" if header is not None and "Study" in header.fields else "Path"
    for row in each_once(read_rows(table, (column, *columns), delimiter=","), column):
        patient, study, view, _ = path_parts(row, column)
        if column == "Path":
            views = [view] if any(f"_{side}" in view for side in sides) else []
        else:
            views = _views(places, f"test/{patient}/{study}", sides)
        for name in views:
            key = f"{patient}/{study}/{name}"
            yield OfficialFilm(row, key, patient, _where_it_lies([table.parent, *places], f"test/{key}"))


def _views(places: Sequence[Path], study: str, sides: Sequence[str]) -> list[str]:
    """The films in a study's folder; every study has a frontal one, so that a folder that is not there is missed."""
    films = next((found / study for found in places if (found / study).is_dir()), places[0] / study)
    found = sorted(film.name for side in sides for film in films.glob(f"view*_{side}.*"))
    return found or (["view1_frontal.jpg"] if "frontal" in sides else [])


def _where_it_lies(places: Sequence[Path], path: str) -> str:
    """A test film beside its table, or in another folder of the data set."""
    return str(next((found / path for found in places if (found / path).is_file()), places[0] / path))
