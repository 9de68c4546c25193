# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Mammograms as float32 arrays in [0, 1], and what the readers of mammography data sets have in common."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from monai.utils import optional_import

from .image_files import read_image_file

pydicom, _ = optional_import("pydicom")
pixels, _ = optional_import("pydicom.pixels")
datadict, _ = optional_import("pydicom.datadict")

CLASSES = ("benign", "malignant")
SIDES = {"L": "L", "R": "R"}
VIEWS = {"CC": "CC", "MLO": "MLO"}

_Value = TypeVar("_Value")


def read_mammogram(path: str | os.PathLike[str]) -> npt.NDArray[np.float32]:
    """The pixels of one mammogram, a DICOM file, as a viewer shows them.

    `read_image_file` applies modality LUT, VOI LUT or (first) window, scales by the range of the stored bits and
    inverts MONOCHROME1. Pixels that the file declares as padding (PixelPaddingValue) are black, also where a
    MONOCHROME1 file stores them as zeros. A file that declares no modality LUT has none (identity), as DICOM says
    (PS3.3, C.11.1); one that declares half of it is refused.

    Args:
        path: the file; uncompressed or compressed by a codec that pydicom finds installed.

    Returns:
        float32 ``[H, W]`` in [0, 1], bright where the breast absorbs.

    Raises:
        ValueError: naming the file and the DICOM field: no pixel data, several frames, another photometric
            interpretation than MONOCHROME1 or MONOCHROME2, an incomplete modality LUT or window, an unknown transfer
            syntax, or one whose decoder is not installed.

    Example:
        >>> from pydicom.data import get_testdata_file
        >>> read_mammogram(get_testdata_file("MR_small.dcm")).shape
        (64, 64)
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: expected a mammogram (a DICOM file), but there is no such file")
    try:
        dataset = pydicom.dcmread(path, defer_size="1 KB")
    except Exception as error:  # pydicom raises whatever it meets in a damaged file
        raise ValueError(
            f"{path}: expected a DICOM file, but pydicom cannot read it: {type(error).__name__}: {error}; "
            "ReadImage reads mammograms that were saved as PNG or TIFF"
        ) from error
    _check_image(dataset, path)
    _check_luts(dataset, path)
    others = _check_decoder(dataset, path)
    try:
        image = read_image_file(path)[..., 0]
    except ValueError as error:
        # Pillow, say, decodes JPEG Extended of 8 bits, but not of the 12 bits that mammograms have.
        raise ValueError(f"{error}{others}") from error
    if _has(dataset, "PixelPaddingValue"):
        names = ("PixelPaddingValue", "PixelPaddingRangeLimit")
        ends = [int(dataset[name].value) for name in names if _has(dataset, name)]
        stored = dataset.pixel_array
        image[(stored >= min(ends)) & (stored <= max(ends))] = 0
    return image


def _check_image(dataset: Any, path: Path) -> None:
    if "PixelData" not in dataset:
        raise ValueError(
            f"{path}: expected a mammogram, but {_field('PixelData')} is missing, the file is of the class "
            f"{getattr(dataset.get('SOPClassUID'), 'name', 'unknown')}; give the file of the image"
        )
    kind = dataset.get("PhotometricInterpretation")
    if kind not in ("MONOCHROME1", "MONOCHROME2"):
        raise ValueError(
            f"{path}: expected {_field('PhotometricInterpretation')} MONOCHROME1 or MONOCHROME2, got {kind!r}; "
            "give the mammogram itself, not a screenshot or report"
        )
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames > 1:
        raise ValueError(
            f"{path}: expected one frame, got {_field('NumberOfFrames')} {frames} (tomosynthesis?); "
            "give the two-dimensional mammogram, or save each frame as its own file"
        )


def _check_luts(dataset: Any, path: Path) -> None:
    slope, intercept = "RescaleSlope", "RescaleIntercept"
    declared = slope in dataset or intercept in dataset
    if declared and not (_has(dataset, slope) and _has(dataset, intercept)):
        raise ValueError(
            f"{path}: expected both {_field(slope)} and {_field(intercept)} or neither, got {dataset.get(slope)!r} and "
            f"{dataset.get(intercept)!r}; write the missing one (1 and 0 change nothing), or remove both"
        )
    if "ModalityLUTSequence" in dataset:
        tables = dataset.ModalityLUTSequence or []
        if not tables or any(not _has(tables[0], name) for name in ("LUTDescriptor", "LUTData")):
            raise ValueError(
                f"{path}: {_field('ModalityLUTSequence')} declares a modality LUT, but LUTDescriptor or LUTData is "
                "missing; get the file again, or remove the empty sequence if the pixels need no LUT"
            )
    # Empty windows are common in anonymised files and mean none; half a window is a fault that pydicom would overlook.
    center, width = "WindowCenter", "WindowWidth"
    if _has(dataset, center) != _has(dataset, width):
        raise ValueError(
            f"{path}: expected both {_field(center)} and {_field(width)} or neither, got {dataset.get(center)!r} and "
            f"{dataset.get(width)!r}; write the missing one, or remove both"
        )


def _check_decoder(dataset: Any, path: Path) -> str:
    """Refuse what no installed decoder reads; else what to say of other decoders should they fail."""
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    what = f"{_field('TransferSyntaxUID')} {getattr(syntax, 'name', syntax)} ({syntax})"
    try:
        decoder = pixels.get_decoder(syntax)
    except Exception as error:
        raise ValueError(
            f"{path}: expected a transfer syntax that pydicom knows, got {what}; convert the file to Explicit VR "
            "Little Endian (1.2.840.10008.1.2.1), for example with gdcmconv --raw"
        ) from error
    others = decoder.missing_dependencies
    install = "run `pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg` or `pip install python-gdcm`"
    if not decoder.is_available:
        raise ValueError(f"{path}: {what} needs a decoder that is not installed ({'; '.join(others)}); {install}")
    return f"; if the file is not damaged, another decoder may read its {what}: {install}" if others else ""


def _has(dataset: Any, name: str) -> bool:
    value = dataset.get(name)
    return value is not None and not (isinstance(value, str | bytes | Sequence) and len(value) == 0)


def _field(name: str) -> str:
    return f"{name} {pydicom.tag.Tag(datadict.tag_for_keyword(name))}"


def read_rows(table: Path, columns: Sequence[str], *, delimiter: str = ",") -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of a CSV table, each with its place for messages (``"FILE, line N"``), all texts stripped.

    Args:
        table: the file, with a header.
        columns: the columns that must be there.
        delimiter: what separates the columns.

    Raises:
        ValueError: naming the file on a missing column.
    """
    # Notes in other encodings are replaced rather than refused: none of the columns that are read has any.
    with open(table, newline="", encoding="utf-8-sig", errors="replace") as file:
        reader = csv.DictReader(file, delimiter=delimiter)
        check_columns(table, [str(name).strip() for name in reader.fieldnames or []], columns)
        for row in reader:
            texts = {name.strip(): (text or "").strip() for name, text in row.items() if isinstance(name, str)}
            yield f"{table}, line {reader.line_num}", texts


def check_columns(table: Path, found: Sequence[str], columns: Sequence[str]) -> None:
    """Refuse a table that lacks a column."""
    missing = [name for name in columns if name not in found]
    if missing:
        raise ValueError(
            f"{table}: expected the columns {list(columns)}, but {missing} is missing from {list(found)}; "
            "use the table as it is distributed"
        )


def check_filled(row: Mapping[str, str], columns: Sequence[str], where: str) -> None:
    """Refuse a row in which one of some fields is empty."""
    for name in columns:
        if not row[name]:
            raise ValueError(f"{where}: expected a text in {name!r}, it is empty")


def one_of(row: Mapping[str, str], column: str, values: Mapping[str, _Value], where: str, hint: str = "") -> _Value:
    """What a field stands for.

    Example:
        >>> one_of({"view": "CC"}, "view", {"CC": "CC", "MLO": "MLO"}, "table.csv, line 2")
        'CC'
        >>> one_of({"view": "XCC"}, "view", {"CC": "CC", "MLO": "MLO"}, "table.csv, line 2", "; leave the row out")
        Traceback (most recent call last):
        ValueError: table.csv, line 2: expected 'view' to be one of CC, MLO, got 'XCC'; leave the row out
    """
    if row[column] not in values:
        raise ValueError(f"{where}: expected {column!r} to be one of {', '.join(values)}, got {row[column]!r}{hint}")
    return values[row[column]]


@dataclass(frozen=True)
class ClassBalance:
    """How many mammograms of each class the splits have; ``str(balance)`` is a table to read.

    Attributes:
        counts: split -> number of benign and of malignant images.
        patients: split -> number of patients.
    """

    counts: dict[str, tuple[int, int]]
    patients: dict[str, int]

    def malignant_share(self, split: str) -> float:
        """Share of malignant images; one minus it is the accuracy of calling everything benign."""
        return self.counts[split][1] / sum(self.counts[split])

    def __str__(self) -> str:
        width = max([len(name) for name in self.counts] + [5])
        heads = ("images", "benign", "malignant", "share", "patients", "always benign")
        lines = [" ".join([f"{'split':<{width}}", *(f"{head:>{max(9, len(head))}}" for head in heads)])]
        for name, (benign, malignant) in self.counts.items():
            share = self.malignant_share(name)
            numbers = f"{benign + malignant:>9} {benign:>9} {malignant:>9} {share:>9.2%} {self.patients[name]:>9}"
            lines.append(f"{name:<{width}} {numbers} {1 - share:>13.2%}")
        return "\n".join(lines)


def class_balance(items_by_split: Mapping[str, Sequence[Mapping[str, Any]]]) -> ClassBalance:
    """Count the classes and patients of each split, and make sure that no patient is in two.

    The last column of the table is the accuracy of a classifier that calls everything benign: what an accuracy is to be
    compared with.

    Args:
        items_by_split: split -> items as the readers of mammography data sets give them.

    Raises:
        ValueError: on an empty split, a label other than 0 and 1, an item without patient, or a patient in two splits.

    Example:
        >>> train = [{"label": 0, "patient": "a"}, {"label": 1, "patient": "a"}, {"label": 0, "patient": "b"}]
        >>> print(class_balance({"train": train, "test": [{"label": 0, "patient": "c"}]}))
        split    images    benign malignant     share  patients always benign
        train         3         2         1    33.33%         2        66.67%
        test          1         1         0     0.00%         1       100.00%
    """
    counts, patients = {}, {}
    for split, items in items_by_split.items():
        if not items:
            raise ValueError(f"items_by_split: expected items in every split, got none in {split!r}")
        for item in items:
            if item["label"] not in (0, 1) or not item.get("patient"):
                raise ValueError(
                    f"items_by_split: expected a label 0 or 1 and a patient, got {item['label']!r} and "
                    f"{item.get('patient')!r} in {split!r}, item {item.get('key')!r}"
                )
        malignant = sum(int(item["label"]) for item in items)
        counts[split] = (len(items) - malignant, malignant)
        patients[split] = {str(item["patient"]) for item in items}
    for a, b in combinations(patients, 2):
        if shared := sorted(patients[a] & patients[b]):
            raise ValueError(
                f"items_by_split: expected each patient in one split, got {len(shared)} in both {a!r} and {b!r}, such "
                f"as {shared[:3]}; split by patient"
            )
    return ClassBalance(counts, {split: len(found) for split, found in patients.items()})
