# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The one entry point that the bundles call: whatever holds the images -> a MONAI datalist."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .._class_names import class_names, find_name, plain_text
from .._text_path import text_path
from . import cbis_ddsm, chexpert, inbreast, isic2017, isic_tables, kermany_cxr, vindr_mammo
from .image_folder import load_image_folder
from .image_table import load_image_table
from .mammogram_tables import CLASSES as MAMMOGRAPHY_CLASSES
from .pneumonia_mnist import CLASSES, FILE_NAME, load_pneumonia_mnist
from .splits import check_classes_present

TABLE = "labels.csv"
_KINDS = (
    f"a folder with {FILE_NAME}, that file itself, a CSV table with the columns image, label and split, a folder with "
    f"such a table called {TABLE}, the folder of CheXpert, ISIC 2017 to 2020, CBIS-DDSM, INbreast or VinDr-Mammo as "
    "it is distributed, or a folder with one subfolder for each class"
)
# Name, classes, whether a folder is one by its tables, and what reads it.
_Reader = Callable[[Path, str], list[dict[str, Any]]]
DISTRIBUTED: tuple[tuple[str, Sequence[str], Callable[[Path], bool], _Reader], ...] = (
    ("CheXpert", chexpert.CLASSES, chexpert.is_chexpert, chexpert.load_chexpert),
    ("ISIC 2018", isic_tables.CLASSES[2018], lambda root: isic_tables.is_isic(root, 2018), isic_tables.load_isic2018),
    ("ISIC 2019", isic_tables.CLASSES[2019], lambda root: isic_tables.is_isic(root, 2019), isic_tables.load_isic2019),
    ("ISIC 2020", isic_tables.CLASSES[2020], lambda root: isic_tables.is_isic(root, 2020), isic_tables.load_isic2020),
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
    image_column: str | None = None,
    label_column: str | None = None,
    label_type: str | None = None,
    split_column: str | None = "split",
    patient_column: str | None = None,
    patient_pattern: str | None = None,
    allow_shared_patients: Sequence[str] | None = None,
    root: str | os.PathLike[str] | None = None,
    volumes: bool = False,
) -> list[dict[str, Any]]:
    """One split of a data set, from whichever of these `source` is.

    - an ``.npz`` file, or a folder with ``pneumoniamnist.npz``: `load_pneumonia_mnist`;
    - the folder of CheXpert as it is distributed: `load_chexpert`, the balanced task;
    - that of ISIC 2017 to 2020: `load_isic2017`, `load_isic2018`, `load_isic2019`, `load_isic2020`;
    - that of CBIS-DDSM, INbreast or VinDr-Mammo: `load_cbis_ddsm`, `load_inbreast`, `load_vindr_mammo`;
    - a folder of Kermany's X-rays with their subtypes, for the classes normal, bacterial and viral, or normal and
      pneumonia where no column of labels is named: `load_kermany_cxr`;
    - a ``.csv`` (or .tsv) file, or a folder with ``labels.csv``: `load_image_table`;
    - a folder with class folders (in split folders or not): `load_image_folder`.

    Args:
        source: where the images are.
        split: "train", "validation" or "test" (and "validation_official" for PneumoniaMNIST).
        classes: class names in the order of their labels, see :func:`monai_diffclf.data.class_names`.
        patients: PneumoniaMNIST only: table of its patients.
        held_out: PneumoniaMNIST only: fraction of the patients held out of training.
        download: "pneumoniamnist" downloads PneumoniaMNIST into `source` when that is an empty folder; None never
            downloads.
        image_column: CSV only, as the four below: see `load_image_table`.
        label_column: column of the class.
        label_type: what it holds, "name" or "index".
        split_column: column of the split; "hash" or None splits by a hash.
        patient_column: column of the patient.
        patient_pattern: tables and class folders: regular expression that finds the patient in a path.
        allow_shared_patients: tables and class folders: names of splits that may share patients.
        root: tables: folder of the images.
        volumes: tables and class folders: whether images are volumes; then a folder of DICOM slices is one image, and
            so is a ZIP file of them.

    Returns:
        Items ``{"image": path or array, "label": int, "key": str, "patient": str}``.

    Raises:
        TypeError: when a path or name is no text.
        ValueError: when `source` is nothing of the above, a training or validation set has images of one class only, or
            as the function it is given to says.
    """
    if download not in (None, "pneumoniamnist"):
        raise ValueError(f"download: expected None or 'pneumoniamnist', got {download!r}")
    names = class_names(classes)
    path = text_path(source, "source")
    fetch = check_there(path, names, download)
    if fetch or path.suffix == ".npz" or (path / FILE_NAME).is_file():
        _check_fixed(names, CLASSES, "PneumoniaMNIST")
        return load_pneumonia_mnist(path, split, patients=patients, held_out=held_out, download=fetch)
    for name, fixed, is_it, load in DISTRIBUTED:
        if is_it(path):
            _check_fixed(names, fixed, name)
            return load(path, split)
    # The same table may be read as any other, by a column of labels: only its own classes, without one, ask for this.
    own = tuple(plain_text(name) for name in names)
    by_subtype = own == kermany_cxr.TWO_CLASSES and label_column is None and label_type is None
    if (own == kermany_cxr.CLASSES or by_subtype) and kermany_cxr.is_kermany_cxr(path):
        return kermany_cxr.load_kermany_cxr(path, split, classes=own)
    path = path / TABLE if (path / TABLE).is_file() else path
    shared: dict[str, Any] = {"patient_pattern": patient_pattern, "allow_shared_patients": allow_shared_patients}
    shared["volumes"] = volumes
    if path.is_dir():
        if root is not None:
            raise ValueError(f"root: only a CSV table has one, but source {path} is a folder; leave root out")
        _check_class_folders(path, names)
        items = load_image_folder(path, split, classes=names, **shared)
        check_classes_present(items, split, names, where=str(path))
        return items
    if path.suffix.lower() not in (".csv", ".tsv"):
        raise ValueError(f"source: {path} is a file of an unknown kind; expected {_KINDS}")
    items = load_image_table(
        path,
        split,
        classes=names,
        image_column=image_column,
        label_column=label_column,
        label_type=label_type,
        split_column=split_column,
        patient_column=patient_column,
        root=root,
        **shared,
    )
    if len(items) > 1:  # one row may be looked at by itself; training needs all classes, see `audit_run`
        check_classes_present(items, split, names, where=str(path))
    return items


def check_there(path: Path, classes: Sequence[str], download: str | None) -> bool:
    """Whether to download; a source that is not there is refused, and never made."""
    empty = path.is_dir() and all(file.name.startswith(".") for file in path.iterdir())
    if path.exists() and not empty:
        return False
    into = path.parent if path.suffix == ".npz" else path
    if download is not None and path.suffix != ".csv" and into.is_dir():
        return True
    state = "is an empty folder" if empty else "is a link to nothing" if path.is_symlink() else "does not exist"
    if download is not None and path.suffix != ".csv":
        raise ValueError(
            f"source: {path} {state}, and nothing is downloaded into a folder that is not there; make the folder "
            f"{into} first, or mend its name"
        )
    ask = "; --download pneumoniamnist fetches PneumoniaMNIST into an empty folder" if _is_pneumonia(classes) else ""
    raise ValueError(f"source: {path} {state}; expected {_KINDS}{ask}{_where_to_get(classes)}")


def _is_pneumonia(classes: Sequence[str]) -> bool:
    return [name.lower() for name in classes] == list(CLASSES)


def _check_fixed(classes: Sequence[str], expected: Sequence[str], name: str) -> None:
    """Refuse other classes, or another order, than those of a data set that brings its own."""
    if [plain_text(given) for given in classes] != [plain_text(name) for name in expected]:
        raise ValueError(f"classes: expected {list(expected)} for {name}, in this order, got {list(classes)}")


def _check_class_folders(path: Path, classes: Sequence[str]) -> None:
    """Refuse a folder in which neither it nor a folder in it has a folder with the name of a class."""
    if not any(
        f.is_dir() and find_name(f.name, classes) is not None for pattern in ("*", "*/*") for f in path.glob(pattern)
    ):
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
