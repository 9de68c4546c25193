# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""INbreast (full-field digital mammograms), as it is distributed, as a MONAI datalist."""

from __future__ import annotations

import os
import plistlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from monai.utils import optional_import

from .._text_path import text_path
from .image_table import check_split
from .mammogram_tables import CLASSES, SIDES, VIEWS
from .pneumonia_mnist import patient_number
from .table_rows import Row, check_columns, each_once, read_rows

xlrd, _ = optional_import("xlrd")

__all__ = ["ADDRESS", "CLASSES", "TERMS", "is_inbreast", "load_inbreast", "read_inbreast_outlines"]

ADDRESS = "http://medicalresearch.inescporto.pt/breastresearch/index.php/Get_INbreast_Database"
TERMS = (
    "by request from the Breast Research Group, INESC Porto and University of Porto, for research only; "
    "cite Moreira et al. 2012, doi:10.1016/j.acra.2011.09.014"
)

_RELEASE = "INbreast Release 1.0"
_TABLES = ("INbreast.csv", "INbreast.xls")
_COLUMNS = ("Laterality", "View", "File Name", "ACR", "Bi-Rads")
_BIRADS = {"1": 0, "2": 0, "3": 0, "4": 1, "4a": 1, "4b": 1, "4c": 1, "5": 1, "6": 1}
_BIRADS_HINT = "; BI-RADS 0 is an unfinished assessment and neither benign nor malignant: leave its row out"
# The names of the files say ML where the table says MLO.
_VIEWS = VIEWS | {"ML": "MLO"}
_FILE = re.compile(r"([^_]+)_([^_]+)_MG_[LR]_(CC|MLO?)_ANON")


def is_inbreast(root: str | os.PathLike[str]) -> bool:
    """Whether a folder, or its folder ``INbreast Release 1.0``, holds the table of INbreast."""
    return _find_table(_release(Path(root))) is not None


def load_inbreast(root: str | os.PathLike[str], split: str) -> list[dict[str, Any]]:
    """One split of INbreast: BI-RADS 1 to 3 benign 0, BI-RADS 4 to 6 malignant 1 (Moreira et al. 2012).

    The folder, or its folder ``INbreast Release 1.0``, holds ``INbreast.csv`` (semicolons) or ``INbreast.xls``, the
    images ``AllDICOMs/ID_PATIENT_MG_L_CC_ANON.dcm`` and the outlines of lesions ``AllXML/ID.xml``, where they are.

    There is no official split. The patient, the hash in the file's name, decides: about 70 % of the patients are for
    training, 10 % for validation and 20 % for testing.

    Args:
        root: the folder.
        split: "train", "validation" or "test".

    Returns:
        Items ``{"image": path, "label": int, "key": ID, "patient": hash, "laterality": "L" or "R", "view": "CC" or
        "MLO", "density": ACR "1" to "4" or "", "assessment": BI-RADS as in the table, "outlines": path or ""}``, sorted
        by key. `read_inbreast_outlines` reads the outlines.

    Raises:
        ValueError: naming the file, line and field of a missing table, column or image, a second row of an image, or a
            value that the data set does not have; and where to get the data.
    """
    check_split(split)
    release = _release(text_path(root, "root"))
    table, folder = _find_table(release), release / "AllDICOMs"
    if table is None or not folder.is_dir():
        what = "AllDICOMs" if table else " or ".join(_TABLES)
        raise ValueError(f"root: expected {what} in {release}, it is missing; INbreast is at {ADDRESS} ({TERMS})")
    files = _find_files(folder)
    items = []
    for row in each_once(_read_table(table), "File Name"):
        key = row["File Name"]
        if key not in files:
            raise ValueError(
                f"{row.where}: expected an image {key}_..._ANON.dcm ('File Name') in {folder}, it is not there; get "
                "INbreast again, or remove the row"
            )
        patient, file = files[key]
        item = _item(row, patient, file, release / "AllXML" / f"{key}.xml")
        if split_of_patient(patient) == split:
            items.append(item)
    if not items:
        raise ValueError(f"split: expected patients for {split!r} in {table}, got none")
    return sorted(items, key=lambda item: str(item["key"]))


def split_of_patient(patient: str) -> str:
    """The split of a patient: a tenth validation, a fifth test, the rest training; fixed by the name alone.

    Example:
        >>> [split_of_patient(f"patient{n}") for n in (2, 26, 1)]
        ['train', 'validation', 'test']
    """
    number = patient_number(patient)
    return "validation" if number < 100 else "test" if number < 300 else "train"


def read_inbreast_outlines(path: str | os.PathLike[str]) -> list[tuple[str, list[tuple[float, float]]]]:
    """The outlines of an image's findings: (name, points), points as (column, row) in pixels of the whole image.

    Args:
        path: a file of the folder AllXML, a property list of OsiriX.

    Raises:
        ValueError: naming the file and the outline, when it cannot be read.
    """
    path = text_path(path, "path")
    try:
        with open(path, "rb") as file:
            images = plistlib.load(file)["Images"]
        return [
            (str(found["Name"]), [_point(text) for text in found["Point_px"]])
            for image in images
            for found in image["ROIs"]
        ]
    except Exception as error:  # plistlib raises whatever it meets
        raise ValueError(
            f"{path}: expected a property list with Images, ROIs, Name and Point_px: {type(error).__name__}: {error}; "
            "use the file as it is distributed"
        ) from error


def _point(text: str) -> tuple[float, float]:
    column, row = text.strip("() ").split(",")
    return float(column), float(row)


def _release(root: Path) -> Path:
    return root / _RELEASE if (root / _RELEASE).is_dir() else root


def _find_table(release: Path) -> Path | None:
    return next((release / name for name in _TABLES if (release / name).is_file()), None)


def _find_files(folder: Path) -> dict[str, tuple[str, Path]]:
    """ID -> patient and file."""
    files: dict[str, tuple[str, Path]] = {}
    for file in sorted(folder.glob("*.dcm")):
        match = _FILE.fullmatch(file.stem)
        if match is None:
            raise ValueError(
                f"{file}: expected a name such as 20586908_6c613a14b80a8591_MG_R_CC_ANON.dcm, which names the patient; "
                "use the files as they are distributed"
            )
        key, patient = match[1], match[2]
        if key in files:
            raise ValueError(f"{file}: expected one file with the ID {key}, got {files[key][1].name} too; remove one")
        files[key] = (patient, file)
    return files


def _read_table(table: Path) -> Iterator[Row]:
    rows = read_rows(table, _COLUMNS, delimiter=";", notes=True) if table.suffix == ".csv" else _read_workbook(table)
    for row in rows:
        if row["File Name"]:
            yield row
        elif row["Laterality"] or row["View"]:
            raise ValueError(f"{row.where}: expected the number of an image in 'File Name', it is empty")
        # What is left are notes and empty lines below the table.


def _read_workbook(table: Path) -> Iterator[Row]:
    try:
        sheet = xlrd.open_workbook(table).sheet_by_index(0)
    except Exception as error:  # xlrd raises whatever it meets
        raise ValueError(f"{table}: cannot be read as an Excel table: {type(error).__name__}: {error}") from error
    rows = [[_text(cell) for cell in sheet.row_values(i)] for i in range(sheet.nrows)]
    header = rows[0] if rows else []
    check_columns(table, header, _COLUMNS)
    for number, row in enumerate(rows[1:], start=2):
        yield Row(table, number, dict(zip(header, row, strict=True)))


def _text(cell: Any) -> str:
    """Excel keeps whole numbers as floats."""
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell).strip()


def _item(row: Row, patient: str, file: Path, outlines: Path) -> dict[str, Any]:
    return {
        "image": str(file),
        "label": row.one_of("Bi-Rads", _BIRADS, _BIRADS_HINT),
        "key": row["File Name"],
        "patient": patient,
        "laterality": row.one_of("Laterality", SIDES),
        "view": row.one_of("View", _VIEWS),
        "density": row["ACR"],
        "assessment": row["Bi-Rads"],
        "outlines": str(outlines) if outlines.is_file() else "",
    }
