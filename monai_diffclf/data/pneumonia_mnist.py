# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""PneumoniaMNIST (MedMNIST v2) as MONAI datalists, split by patient.

5856 paediatric chest X-rays, grey, 28 x 28, 0 normal and 1 pneumonia; CC BY 4.0 (Kermany et al., Cell 2018; Yang et
al., Sci Data 2023). The official training and validation sets share 190 patients, so "validation" here is made anew
from patients held out of the official training set.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .._text_path import text_path
from .download import download_by_hand, download_file
from .table_rows import read_rows

FILE_NAME = "pneumoniamnist.npz"
URL = "https://zenodo.org/records/10519652/files/pneumoniamnist.npz?download=1"
MD5 = "28209eda62fecd6e6a2d98b1501bb15f"
CLASSES = ("normal", "pneumonia")
SPLITS = ("train", "validation", "validation_official", "test")

# Images of each class, and the digest of `_content_digest`, which does not depend on the order of the images.
_CONTENT = {
    "train": ((1214, 3494), "dfd4ec6211d37de3b023b6dfc09a7bc158fdb90fc807d19e30bf21e2a236e38b"),
    "val": ((135, 389), "70cdc39f30e3ebc9a664773f861e19cc0324e3b59577036c1355ecb130d05465"),
    "test": ((234, 390), "65ac097f79ecf79b7d8387a1972af3010bda14b1d838360e19a933379c7b20a8"),
}


def image_key(array: npt.NDArray[np.uint8]) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of an image's pixels.

    Args:
        array: uint8 image of any shape. Its bytes are hashed in C order; the shape is not part of the key.

    Returns:
        The key: equal images have equal keys.

    Raises:
        TypeError: when `array` is not uint8.

    Example:
        >>> import numpy as np
        >>> image_key(np.zeros((28, 28), dtype=np.uint8))
        '0c37ddc45244523c'
    """
    if array.dtype != np.uint8:
        raise TypeError(f"array: expected dtype uint8, got {array.dtype}; convert the image to 8 bits first")
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


def find_pneumonia_mnist(root: str | os.PathLike[str], *, download: bool = False, progress: bool = True) -> Path:
    """The path of ``pneumoniamnist.npz``, downloaded first if that is asked for and it is not there.

    Args:
        root: the folder that holds the file, or the path of the ``.npz`` file itself.
        download: fetch the file from MedMNIST's address when it is absent; its folder must exist, so that a mistyped
            name makes none.
        progress: show a progress bar while downloading.

    Returns:
        The path of a file with PneumoniaMNIST's images and labels, in any order.

    Raises:
        FileNotFoundError: when the file is absent and `download` is False, or the folder is absent.
        RuntimeError: when the download fails or its MD5 is wrong; nothing is left behind.
        ValueError: when the file is there but holds something else.
    """
    path = text_path(root, "root")
    if path.suffix != ".npz":
        path = path / FILE_NAME
    if not path.is_file():
        if not download:
            raise FileNotFoundError(f"root: expected PneumoniaMNIST at {path}, which does not exist; {_by_hand(path)}")
        if not path.parent.is_dir():
            raise FileNotFoundError(
                f"root: expected a folder to download PneumoniaMNIST into, but {path.parent} does not exist; make it "
                "first, or mend its name"
            )
        download_file(URL, MD5, path, name="PneumoniaMNIST", progress=progress)
    _read(path)
    return path


def load_pneumonia_mnist(
    root: str | os.PathLike[str],
    split: str,
    *,
    patients: str | os.PathLike[str] | None = None,
    held_out: float = 0.1,
    download: bool = False,
) -> list[dict[str, Any]]:
    """One split of PneumoniaMNIST as a MONAI datalist.

    A patient is held out of training when ``int(sha256("split" + patient)[:8], 16) % 1000 < 1000 * held_out``: the
    choice depends on the patient alone, never on the order of the file.

    Args:
        root: see `find_pneumonia_mnist`.
        split: "train" (official training set less the patients held out), "validation" (official training images of
            the patients held out), "validation_official" (shares patients with "train") or "test" (official).
        patients: CSV file with the columns key and patient (see `image_key`); needed for "train" and "validation".
        held_out: fraction of the patients to hold out, in [0, 1).
        download: see `find_pneumonia_mnist`.

    Returns:
        Items ``{"image": uint8 [28, 28], "label": int, "key": image_key(image), "patient": str}`` in the order of the
        file; "patient" is empty without `patients`. Identical images are all kept, and have one patient.

    Raises:
        ValueError: on an unknown split, a missing or incomplete `patients` table, or an empty split.
    """
    if split not in SPLITS:
        raise ValueError(f"split: expected one of {', '.join(SPLITS)}, got {split!r}")
    if not 0 <= held_out < 1:
        raise ValueError(f"held_out: expected a fraction in [0, 1), got {held_out}")
    by_patient = split in ("train", "validation")
    if by_patient and patients is None:
        raise ValueError(
            f"patients: split {split!r} is made by patient and needs the CSV file with the columns key and patient "
            "(patients.csv in the configs folder of the pneumonia_xray_diffusion bundle), got None"
        )
    archive = _read(find_pneumonia_mnist(root, download=download))
    official = {"train": "train", "validation": "train", "validation_official": "val", "test": "test"}[split]
    patient_of = {} if patients is None else _read_patients(text_path(patients, "patients"))
    items = []
    for image, label in zip(archive[f"{official}_images"], archive[f"{official}_labels"], strict=True):
        key = image_key(image)
        if patients is not None and key not in patient_of:
            raise ValueError(f"patients: {patients} has no row with key {key}, an image of the official {official} set")
        patient = patient_of.get(key, "")
        if by_patient and is_held_out(patient, held_out) != (split == "validation"):
            continue
        items.append({"image": image, "label": int(label), "key": key, "patient": patient})
    if not items:
        raise ValueError(f"split: {split!r} is empty with held_out={held_out}; choose a larger fraction")
    return items


def is_held_out(patient: str, fraction: float) -> bool:
    """Whether a patient belongs to the fraction that is held out of training; a function of the two arguments alone.

    Example:
        >>> [name for name in ("P1", "P2", "P3", "P4", "P5") if is_held_out(name, 0.5)]
        ['P2', 'P4']
    """
    return patient_number(patient) < fraction * 1000


def patient_number(patient: str) -> int:
    """A number in 0..999 that spreads patients evenly: the one behind every split by hash."""
    return int(hashlib.sha256(("split" + patient).encode()).hexdigest()[:8], 16) % 1000


def _by_hand(path: Path) -> str:
    return download_by_hand(URL, MD5, path)


def _content_digest(images: npt.NDArray[np.uint8], labels: npt.NDArray[Any]) -> str:
    rows = sorted(f"{image_key(image)} {int(label)}" for image, label in zip(images, labels, strict=True))
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()


def _read(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The arrays of the file (labels flat), after its content is found to be PneumoniaMNIST's."""
    fix = f"move it away, then {_by_hand(path)}"
    try:
        with np.load(path, allow_pickle=False) as file:
            archive = {name: file[name] for name in file.files}
    except Exception as error:
        raise ValueError(f"{path}: cannot be read as an npz file ({error}); {fix}") from error
    for split, (counts, digest) in _CONTENT.items():
        images, labels = archive.get(f"{split}_images"), archive.get(f"{split}_labels")
        if images is None or labels is None:
            raise ValueError(
                f"{path}: expected the arrays {split}_images and {split}_labels, got {sorted(archive)}; {fix}"
            )
        labels = archive[f"{split}_labels"] = labels.reshape(-1)
        if images.shape != (sum(counts), 28, 28) or images.dtype != np.uint8 or len(labels) != len(images):
            raise ValueError(
                f"{path}: expected {split}_images uint8 [{sum(counts)}, 28, 28] with as many labels, got "
                f"{images.dtype} {list(images.shape)} with {len(labels)} labels; {fix}"
            )
        found = tuple(int((labels == label).sum()) for label in (0, 1))
        if found != counts:
            raise ValueError(f"{path}: expected {counts} images of classes 0 and 1 in {split}, got {found}; {fix}")
        if _content_digest(images, labels) != digest:
            raise ValueError(f"{path}: the {split} images or labels are not those of PneumoniaMNIST; {fix}")
    return archive


def _read_patients(path: Path) -> dict[str, str]:
    """Image key -> patient. Where equal images carry two patients, the first name counts for all of them."""
    if not path.is_file():
        raise ValueError(f"patients: expected a CSV file with the columns key and patient, but {path} does not exist")
    table: dict[str, str] = {}
    for row in read_rows(path, ("key", "patient")):
        patient = row.text("patient")
        table[row["key"]] = min(patient, table.get(row["key"], patient))
    return table
