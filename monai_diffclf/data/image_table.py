# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A user's own images, from class folders or a CSV table, as MONAI datalists."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..image_io.image_files import DICOM_SUFFIXES, NIFTI_SUFFIXES, PICTURE_SUFFIXES, is_image_file
from .pneumonia_mnist import patient_number
from .table_rows import Row, read_rows

SPLITS = ("train", "validation", "test")
_ALIASES = {"training": "train", "val": "validation", "valid": "validation", "testing": "test"}


def load_image_folder(
    root: str | os.PathLike[str], split: str, *, classes: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """One split of images kept in class folders.

    Two layouts: ``root/<split>/<class>/files``, where a split is called train, validation (or val, valid) or test; or
    ``root/<class>/files``, which is split 80/10/10 by a hash. A folder below the class folder is a patient
    (``root/<class>/<patient>/files``), and no patient is in two splits. Without patient folders the hash is that of the
    file name without suffix: **two images of one patient may then land in two splits**, so use patient folders or a
    table (`load_image_table`) where a patient has several images.

    Args:
        root: the folder.
        split: "train", "validation" or "test".
        classes: folder names in the order of their labels; None: all class folders, sorted by name.

    Returns:
        Items ``{"image": path, "label": int, "key": path relative to root, "patient": str or ""}``, sorted by key.

    Raises:
        ValueError: on an unknown split, folders that are not in `classes`, or a split without images.
    """
    check_split(split)
    root = Path(root)
    if not root.is_dir():
        raise ValueError(f"root: expected a folder with one subfolder for each class, but {root} does not exist")
    folders = {_ALIASES.get(f.name.lower(), f.name.lower()): f for f in _subfolders(root)}
    split_folders = [folders[name] for name in SPLITS if name in folders]
    if split_folders and split not in folders:
        raise ValueError(f"split: {root} has no folder {split!r}, only {sorted(f.name for f in split_folders)}")
    present = sorted({f.name for parent in split_folders or [root] for f in _subfolders(parent)})
    names = list(present) if classes is None else _check_classes(classes)
    if not present or not set(present) <= set(names):
        raise ValueError(
            f"classes: expected class folders {names} in {root}, got {present}; rename or remove the others, or name "
            "them in classes"
        )
    parent = folders[split] if split_folders else root
    items = []
    for name in present:
        for path in sorted(file for file in (parent / name).rglob("*") if is_image_file(file)):
            inside = path.relative_to(parent / name)
            patient = inside.parts[0] if len(inside.parts) > 1 else ""
            if not split_folders and split_by_hash(patient or _stem(path)) != split:
                continue
            key = path.relative_to(root).as_posix()
            items.append({"image": str(path), "label": names.index(name), "key": key, "patient": patient})
    if not items:
        raise ValueError(
            f"split: no image for {split!r} in {parent}; expected PNG, JPEG, TIFF, BMP, DICOM or NIfTI files in the "
            f"class folders {present}" + ("" if split_folders else " (10 % of the files make validation and test each)")
        )
    return items


def load_image_table(
    csv_path: str | os.PathLike[str],
    split: str,
    *,
    classes: Sequence[str],
    image_column: str = "image",
    label_column: str = "label",
    split_column: str | None = "split",
    patient_column: str = "patient",
    root: str | os.PathLike[str] | None = None,
) -> list[dict[str, Any]]:
    """One split of the images listed in a CSV table, one row an image.

    Args:
        csv_path: the table, with a header.
        split: "train", "validation" or "test".
        classes: class names in the order of their labels.
        image_column: column of the paths, relative to `root` or absolute.
        label_column: column of the class: its name or its index.
        split_column: column with train, validation (or val, valid) or test; None splits 80/10/10 by a hash of the
            patient (of the path where there is no patient).
        patient_column: column of the patient; only a column called "patient" may be absent.
        root: folder of the images; None means the folder of the table.

    Returns:
        Items ``{"image": path, "label": int, "key": path as in the table, "patient": str or ""}`` in the table's order.

    Raises:
        ValueError: naming the row (the header is line 1) of an unknown split or label, or of a missing file; on a
            missing column, or a split without rows.
    """
    check_split(split)
    names = _check_classes(classes)
    csv_path = Path(csv_path)
    if not csv_path.is_file():
        raise ValueError(f"csv_path: expected a CSV table, but {csv_path} does not exist")
    folder = csv_path.parent if root is None else Path(root)
    items = []
    needed = [image_column, label_column] + ([split_column] if split_column else [])
    needed += [patient_column] if patient_column != "patient" else []
    for row in read_rows(csv_path, needed):
        key, patient = row.text(image_column), row.get(patient_column)
        if _split_of_row(row, split_column, patient or key) != split:
            continue
        label = _label_of_row(row, label_column, names)
        path = folder / key
        if not path.is_file():
            raise ValueError(f"{row.where}: expected an image file, but {path} does not exist")
        items.append({"image": str(path), "label": label, "key": key, "patient": patient})
    if not items:
        raise ValueError(f"split: {csv_path} has no row for the split {split!r}")
    return items


def split_by_hash(name: str) -> str:
    """The split of a patient or file: a tenth validation, a tenth test, the rest training; fixed by the name alone.

    Example:
        >>> [split_by_hash(f"patient{n}") for n in (1, 5, 26)]
        ['train', 'train', 'validation']
    """
    number = patient_number(name)
    return "validation" if number < 100 else "test" if number < 200 else "train"


def _split_of_row(row: Row, column: str | None, name: str) -> str:
    if column is None:
        return split_by_hash(name)
    text = row[column].lower()
    text = _ALIASES.get(text, text)
    if text not in SPLITS:
        raise ValueError(f"{row.where}: expected the split {', '.join(SPLITS)}, got {row[column]!r}")
    return text


def _label_of_row(row: Row, column: str, classes: list[str]) -> int:
    text = row[column]
    if text in classes:
        return classes.index(text)
    if text.isdecimal() and int(text) < len(classes):
        return int(text)
    raise ValueError(f"{row.where}: unknown label {text!r}; expected one of {classes} or an index below {len(classes)}")


def check_split(split: str) -> None:
    """Refuse an unknown split."""
    if split not in SPLITS:
        raise ValueError(f"split: expected one of {', '.join(SPLITS)}, got {split!r}")


def _check_classes(classes: Sequence[str]) -> list[str]:
    names = list(classes)
    if isinstance(classes, str) or len(names) < 2 or len(set(names)) != len(names):
        raise ValueError(f"classes: expected two or more different class names, got {classes!r}")
    return names


def _subfolders(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__"))]


def _stem(path: Path) -> str:
    """File name without the suffix of an image; dots elsewhere (a DICOM UID) belong to the name."""
    for suffix in sorted(PICTURE_SUFFIXES + DICOM_SUFFIXES + NIFTI_SUFFIXES, key=len, reverse=True):
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.name
