# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""CheXpert (chest X-rays), v1.0 or small, as it is distributed, as MONAI datalists: pleural effusion or none."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .._text_path import text_path
from .missing_images import present_images
from .splits import NoSplitError, check_split, chosen, in_order, split_by_hash
from .table_rows import Row, each_once, read_rows

__all__ = ["ADDRESS", "CLASSES", "PROTOCOLS", "TERMS", "is_chexpert", "load_chexpert"]

CLASSES = ("no_effusion", "pleural_effusion")
PROTOCOLS = ("balanced", "natural")
ADDRESS = "https://aimi.stanford.edu/datasets/chexpert-chest-x-rays"
TEST_ADDRESS = (
    "https://aimi.stanford.edu/datasets/chexlocalize; the labels are at "
    "https://github.com/rajpurkarlab/cheXpert-test-set-labels"
)
TERMS = (
    "Stanford University Dataset Research Use Agreement: registration, research only, not to be passed on; cite Irvin "
    "et al. 2019, arXiv:1901.07031"
)

_EFFUSION, _NONE = "Pleural Effusion", "No Finding"
_VALUES = {"": 0.0, "0": 0.0, "0.0": 0.0, "1": 1.0, "1.0": 1.0, "-1": -1.0, "-1.0": -1.0}
_COLUMNS = ("Path", "Sex", "Age", _NONE, _EFFUSION)
_PATIENT = re.compile(r"(?:^|/)(patient\d+)/(study\d+)(?:/(view\d+_(?:frontal|lateral)\.\w+))?$")
_TEST_TABLES = ("test_labels.csv", "test.csv", "groundtruth.csv")


def is_chexpert(root: str | os.PathLike[str]) -> bool:
    """Whether a folder, or one in it called CheXpert..., holds ``train.csv`` with CheXpert's columns."""
    table = _find_table(Path(root))
    if table is None:
        return False
    with table.open(encoding="utf-8", errors="replace") as file:
        header = [name.strip().strip('"') for name in file.readline(10_000).split(",")]
    return set(_COLUMNS) <= set(header)


def load_chexpert(
    root: str | os.PathLike[str],
    split: str,
    *,
    protocol: str = "balanced",
    allow_missing: bool = False,
) -> list[dict[str, Any]]:
    """One split of CheXpert (Irvin et al. 2019): no pleural effusion 0, pleural effusion 1; one film a patient.

    The folder is that of the distribution, ``CheXpert-v1.0`` or ``CheXpert-v1.0-small``, with ``train.csv``, or the
    folder that holds it; the parts of v1.0 ("CheXpert-v1.0 batch 2 (train 1)") may lie beside one another.

    - ``"balanced"`` is the task of Favero et al. (2025): from ``train.csv`` the films ``study1/view1_frontal``, blank
      labels taken as 0; those with an uncertain (-1) label of effusion or no finding are dropped, and so are those of
      which not exactly one of the two holds; the larger class is thinned out, the rest shuffled (numpy's RandomState,
      seed 42) and split 80/10/10. On v1.0 16,324, 2,040 and 2,040 films. Prevalence is one half, and films with other
      findings are missing: scores on it say little about a clinic.
    - ``"natural"``: such films at their natural prevalence, other findings included, uncertain effusions dropped; a
      tenth of the patients, by hash, is for validation. Test is the official test set, labelled by radiologists: all
      its frontal films, from the folder ``test`` with ``test_labels.csv`` (or ``groundtruth.csv``) as CheXlocalize and
      the labels' repository distribute them.

    Args:
        root: the folder.
        split: "train", "validation" or "test".
        protocol: "balanced" or "natural".
        allow_missing: whether to go on without the images that are named and not there, with a warning that counts
            them.

    Returns:
        Items ``{"image": path, "label": int, "key": "patient00001/study1/view1_frontal.jpg", "patient":
        "patient00001", "sex": str, "age": str}``, sorted by key.

    Raises:
        NoSplitError: when the official test set is asked for and not there.
        ValueError: naming file, line and column of what is missing or unknown, the images that are not there (counted,
            the first ones listed), and where to get the data under which terms.
    """
    check_split(split)
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol: expected one of {', '.join(PROTOCOLS)}, got {protocol!r}")
    root = text_path(root, "root")
    table = _find_table(root)
    if table is None:
        raise ValueError(
            f"root: expected train.csv of CheXpert in {root}, it is missing; CheXpert is at {ADDRESS} ({TERMS})"
        )
    if protocol == "balanced":
        items = _balanced(table)[split]
    elif split == "test":
        items = _official_test(root, table.parent)
    else:
        held = split == "validation"
        items = [item for item in _natural(table) if (split_by_hash(item["patient"]) == "validation") == held]
    if not items:
        raise ValueError(f"split: expected films for {split!r} in {table}, got none")
    batches = sorted(table.parent.parent.glob("CheXpert-v1.0 batch *"))
    for item in items:
        item["image"] = _place(table.parent, batches, item.pop("path"))
    items = present_images(items, where=table, source=f"CheXpert is at {ADDRESS} ({TERMS})", allow=allow_missing)
    return sorted(items, key=lambda item: str(item["key"]))


def _find_table(root: Path) -> Path | None:
    """``train.csv`` in the folder, or in the one folder in it whose name begins with CheXpert."""
    if (root / "train.csv").is_file():
        return root / "train.csv"
    below = sorted(root.glob("CheXpert*/train.csv")) if root.is_dir() else []
    return below[0] if len(below) == 1 else None


def _films(table: Path) -> Iterator[tuple[Row, str, str]]:
    """Rows of the films ``study1/view1_frontal``, with their patient and place in the data set."""
    for row in each_once(read_rows(table, _COLUMNS, delimiter=","), "Path"):
        patient, study, view, place = _parts(row, "Path")
        if study == "study1" and view.startswith("view1_frontal"):
            yield row, patient, place


def _parts(row: Row, column: str) -> tuple[str, str, str, str]:
    match = _PATIENT.search(row[column])
    if match is None:
        raise ValueError(
            f"{row.where}: expected {column!r} to end in patientNUMBER/studyNUMBER/viewNUMBER_frontal.jpg, got "
            f"{row[column]!r}"
        )
    return match[1], match[2], match[3] or "", row[column][match.start(1) :]


def _item(row: Row, patient: str, place: str, label: int) -> dict[str, Any]:
    path = row["Path"].partition("/")[2] or row["Path"]  # without the name of the distribution's folder
    return {
        "path": path,
        "label": label,
        "key": place,
        "patient": patient,
        "sex": row.get("Sex").replace("Unknown", "").lower(),
        "age": row.get("Age"),
    }


def _balanced(table: Path) -> dict[str, list[dict[str, Any]]]:
    """The three splits of Favero et al. (2025)."""
    by_label: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
    for row, patient, place in _films(table):
        effusion, none = row.one_of(_EFFUSION, _VALUES), row.one_of(_NONE, _VALUES)
        if -1 not in (effusion, none) and (effusion == 1) != (none == 1):
            by_label[int(effusion)].append(_item(row, patient, place, int(effusion)))
    count = min(map(len, by_label))
    if count < 5:
        raise ValueError(f"{table}: expected at least 5 films of each class, got {[len(each) for each in by_label]}")
    kept = [item for items in by_label for item in chosen(items, count)]
    return in_order(chosen(kept, len(kept)))


def _natural(table: Path) -> Iterator[dict[str, Any]]:
    for row, patient, place in _films(table):
        effusion = row.one_of(_EFFUSION, _VALUES)
        if effusion != -1:
            yield _item(row, patient, place, int(effusion))


def _official_test(root: Path, folder: Path) -> list[dict[str, Any]]:
    """All frontal films of the radiologists' test set; of a table of studies, those in the studies' folders."""
    places = [each for each in (root, folder, folder.parent / "CheXpert", root / "CheXpert") if each.is_dir()]
    table = next((place / name for place in places for name in _TEST_TABLES if (place / name).is_file()), None)
    if table is None:
        raise NoSplitError(
            f"split: expected {' or '.join(_TEST_TABLES)} of CheXpert's official test set in {root}, it is missing; it "
            f"is at {TEST_ADDRESS} ({TERMS})"
        )
    header = next(iter(read_rows(table, (_EFFUSION,), delimiter=",")), None)
    column = "Study" if header is not None and "Study" in header.fields else "Path"
    items: list[dict[str, Any]] = []
    for row in each_once(read_rows(table, (column, _EFFUSION), delimiter=","), column):
        patient, study, view, _ = _parts(row, column)
        label = int(row.one_of(_EFFUSION, {"0": 0, "0.0": 0, "1": 1, "1.0": 1}))
        if column == "Path":
            views = [view] if "_frontal" in view else []
        else:
            films = _study_folder(places, f"test/{patient}/{study}")
            views = sorted(film.name for film in films.glob("view*_frontal.*")) or ["view1_frontal.jpg"]
        for view in views:
            key = f"{patient}/{study}/{view}"
            items.append({"path": f"test/{key}", "label": label, "key": key, "patient": patient, "sex": "", "age": ""})
    return [{**item, "path": _where_it_lies([table.parent, *places], item["path"])} for item in items]


def _study_folder(places: Sequence[Path], name: str) -> Path:
    return next((place / name for place in places if (place / name).is_dir()), places[0] / name)


def _where_it_lies(places: Sequence[Path], path: str) -> str:
    """A test film beside its table, or in another folder of the data set."""
    return str(next((place / path for place in places if (place / path).is_file()), places[0] / path))


def _place(folder: Path, batches: Sequence[Path], path: str) -> str:
    """The file of a path of the tables; the parts of v1.0 have folders of their own without ``train`` in them."""
    own = os.path.join(folder, path)
    if not batches or os.path.exists(own):
        return own
    short = path.partition("/")[2]
    places = (os.path.join(batch, each) for batch in batches for each in (path, short))
    return next((place for place in places if os.path.exists(place)), own)
