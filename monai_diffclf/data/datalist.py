# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The one entry point that the bundles call: whatever holds the images -> a MONAI datalist."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from . import cbis_ddsm, inbreast, isic2017, vindr_mammo
from .image_table import load_image_folder, load_image_table
from .mammogram_tables import CLASSES as MAMMOGRAPHY_CLASSES
from .pneumonia_mnist import CLASSES, FILE_NAME, load_pneumonia_mnist

_TABLE = "labels.csv"
_KINDS = (
    f"a folder with {FILE_NAME}, that file itself, a CSV table with the columns image, label and split, a folder with "
    f"such a table called {_TABLE}, the folder of ISIC 2017, CBIS-DDSM, INbreast or VinDr-Mammo as it is distributed, "
    "or a folder with one subfolder for each class"
)
# Name, classes, whether a folder is one by its tables, and what reads it.
_Reader = Callable[[Path, str], list[dict[str, Any]]]
_DISTRIBUTED: tuple[tuple[str, Sequence[str], Callable[[Path], bool], _Reader], ...] = (
    ("ISIC 2017", isic2017.CLASSES, isic2017.is_isic2017, isic2017.load_isic2017),
    ("CBIS-DDSM", cbis_ddsm.CLASSES, cbis_ddsm.is_cbis_ddsm, cbis_ddsm.load_cbis_ddsm),
    ("INbreast", inbreast.CLASSES, inbreast.is_inbreast, inbreast.load_inbreast),
    ("VinDr-Mammo", vindr_mammo.CLASSES, vindr_mammo.is_vindr_mammo, vindr_mammo.load_vindr_mammo),
)


def load_datalist(
    source: str | os.PathLike[str],
    split: str,
    *,
    classes: Sequence[str],
    patients: str | os.PathLike[str] | None = None,
    held_out: float = 0.1,
    download: str | None = None,
    image_column: str = "image",
    label_column: str = "label",
    split_column: str | None = "split",
    patient_column: str = "patient",
    root: str | os.PathLike[str] | None = None,
) -> list[dict[str, Any]]:
    """One split of a data set, from whichever of these `source` is.

    - an ``.npz`` file, or a folder with ``pneumoniamnist.npz``: `load_pneumonia_mnist`;
    - the folder of ISIC 2017 as it is distributed: `load_isic2017`;
    - that of CBIS-DDSM, INbreast or VinDr-Mammo: `load_cbis_ddsm`, `load_inbreast`, `load_vindr_mammo`;
    - a ``.csv`` file, or a folder with ``labels.csv``: `load_image_table`;
    - a folder with class folders (in split folders or not): `load_image_folder`.

    Args:
        source: where the images are.
        split: "train", "validation" or "test" (and "validation_official" for PneumoniaMNIST).
        classes: class names in the order of their labels.
        patients: PneumoniaMNIST only: table of its patients.
        held_out: PneumoniaMNIST only: fraction of the patients held out of training.
        download: "pneumoniamnist" downloads PneumoniaMNIST into `source` when that does not exist or is an empty
            folder; None never downloads.
        image_column: CSV only, as the four below: see `load_image_table`.
        label_column: column of the class.
        split_column: column of the split; None splits by a hash.
        patient_column: column of the patient.
        root: folder of the images.

    Returns:
        Items ``{"image": path or array, "label": int, "key": str, "patient": str}``.

    Raises:
        ValueError: when `source` is nothing of the above, or as the function it is given to says.
    """
    if download not in (None, "pneumoniamnist"):
        raise ValueError(f"download: expected None or 'pneumoniamnist', got {download!r}")
    path = Path(source)
    absent = not path.exists() or (path.is_dir() and all(file.name.startswith(".") for file in path.iterdir()))
    fetch = absent and download is not None and path.suffix != ".csv"
    if absent and not fetch:
        state = "is an empty folder" if path.is_dir() else "does not exist"
        raise ValueError(f"source: {path} {state}; expected {_KINDS}{_where_to_get(classes)}")
    if fetch or path.suffix == ".npz" or (path / FILE_NAME).is_file():
        _check_fixed(classes, CLASSES, "PneumoniaMNIST")
        return load_pneumonia_mnist(path, split, patients=patients, held_out=held_out, download=fetch)
    for name, names, is_it, load in _DISTRIBUTED:
        if is_it(path):
            _check_fixed(classes, names, name)
            return load(path, split)
    if (path / _TABLE).is_file():
        path = path / _TABLE
    if path.is_dir():
        if root is not None:
            raise ValueError(f"root: only a CSV table has one, but source {path} is a folder; leave root out")
        _check_class_folders(path, classes)
        return load_image_folder(path, split, classes=classes)
    if path.suffix.lower() != ".csv":
        raise ValueError(f"source: {path} is a file of an unknown kind; expected {_KINDS}")
    return load_image_table(
        path,
        split,
        classes=classes,
        image_column=image_column,
        label_column=label_column,
        split_column=split_column,
        patient_column=patient_column,
        root=root,
    )


def _check_fixed(classes: Sequence[str], expected: Sequence[str], name: str) -> None:
    """Refuse other classes, or another order, than those of a data set that brings its own."""
    if [str(given).lower() for given in classes] != list(expected):
        raise ValueError(f"classes: expected {list(expected)} for {name}, in this order, got {list(classes)}")


def _check_class_folders(path: Path, classes: Sequence[str]) -> None:
    """Refuse a folder in which neither it nor a folder in it has a folder with the name of a class."""
    names = {str(name) for name in classes}
    if not any(f.is_dir() and f.name in names for pattern in ("*", "*/*") for f in path.glob(pattern)):
        raise ValueError(
            f"source: {path} has none of the class folders {list(classes)} and no table of a known data set; expected "
            f"{_KINDS}{_where_to_get(classes)}"
        )


def _where_to_get(classes: Sequence[str]) -> str:
    """Of a bundle for mammograms: where the three data sets are, and under which terms."""
    if [str(given).lower() for given in classes] != list(MAMMOGRAPHY_CLASSES):
        return ""
    sets = (("CBIS-DDSM", cbis_ddsm), ("INbreast", inbreast), ("VinDr-Mammo", vindr_mammo))
    return "".join(f"; {name} is at {module.ADDRESS} ({module.TERMS})" for name, module in sets)
