# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Which images to read first: a table sorted by urgency."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .._class_names import SEPARATOR
from .._text import csv_text
from ..keys import OutputKeys, UncertaintyKeys
from ..storage.atomic_file import replace_text
from .source import Source

__all__ = ["COLUMNS", "WorklistItem", "read_first", "sort_by_urgency", "write_worklist"]

COLUMNS = (
    *("rank", "key", "read_first", "predicted", "probability_positive", "uncertainty", "ood_p_value"),
    *("prediction_set", "patient_id", "accession_number", "study_date", "modality", "laterality"),
    *("study_instance_uid", "series_instance_uid", "sop_instance_uid", "report", "warnings", "error"),
)
_HEADER = {
    "patient_id": "PatientID",
    "accession_number": "AccessionNumber",
    "study_date": "StudyDate",
    "modality": "Modality",
    "study_instance_uid": "StudyInstanceUID",
    "series_instance_uid": "SeriesInstanceUID",
    "sop_instance_uid": "SOPInstanceUID",
}


@dataclass(frozen=True)
class WorklistItem:
    """An image of the list.

    Args:
        row: its row of the table of predictions.
        source: its header; None where it cannot be read.
        report: name of its report's file.
        error: why there are no objects of it.
        several: whether classes are findings, any of which an image may have.
    """

    row: Mapping[str, Any]
    source: Source | None = None
    report: str = ""
    error: str = ""
    several: bool = False

    def probability(self, positive: Sequence[str]) -> float:
        """Probability that it is of one of some classes; of findings, that of the most probable one."""
        found = [float(self.row[f"probability_{name}"]) for name in positive]
        return max(found) if self.several else sum(found)

    def found(self, positive: Sequence[str]) -> list[str]:
        """Which of some classes or findings it has."""
        predicted = str(self.row["predicted"])
        if self.several:
            return [name for name in positive if name in predicted.split(SEPARATOR)]
        return [name for name in positive if name == predicted]

    def entropy(self, positive: Sequence[str]) -> float | None:
        """Entropy of its probabilities, nats; of findings the largest of some; None where there is none."""
        key = UncertaintyKeys.PROBABILITY_ENTROPY.value
        key = key if self.several or f"uncertainty_{key}" not in self.row else f"uncertainty_{key}"
        values = [self.row.get(name) for name in ([f"{key}_{each}" for each in positive] if self.several else [key])]
        return max((float(value) for value in values if value is not None), default=None)

    def prediction_set(self) -> str:
        """Classes of its prediction set; of findings each with what its set holds."""
        key = OutputKeys.PREDICTION_SET.value
        if not self.several:
            return SEPARATOR.join(self.row.get(key) or ())
        sets = {name.removeprefix(f"{key}_"): held for name, held in self.row.items() if name.startswith(f"{key}_")}
        return SEPARATOR.join(f"{name}: {' or '.join(held) or 'none'}" for name, held in sets.items())

    @property
    def is_classified(self) -> bool:
        """Whether it has a class."""
        return not self.row.get("error")


def read_first(item: WorklistItem, positive: Sequence[str]) -> bool:
    """Whether an image is to be read first: it has one of the positive classes, or it could not be classified."""
    return not item.is_classified or bool(item.found(positive))


def sort_by_urgency(items: Iterable[WorklistItem], positive: Sequence[str]) -> list[WorklistItem]:
    """The images, the most urgent first.

    First those that could not be classified, of which nothing is known; then by the probability of the positive
    classes together, of findings of the most probable one, highest first; by the entropy of the probabilities, highest
    first; by the p-value of typicality, lowest first, where there is one; at last by their names.

    Args:
        items: the images.
        positive: names of the classes that are urgent.
    """

    def urgency(item: WorklistItem) -> tuple[Any, ...]:
        key = str(item.row.get("key", ""))
        if not item.is_classified:
            return (0, 0.0, 0.0, 0.0, key)
        entropy = item.entropy(positive) or 0.0
        unusual = item.row.get(OutputKeys.OOD_P_VALUE.value)
        # Rounded to what the table shows, so that its order is that of its columns.
        probability = round(item.probability(positive), 6)
        return (1, -probability, -round(entropy, 6), 1.0 if unusual is None else float(unusual), key)

    return sorted(items, key=urgency)


def write_worklist(path: str | os.PathLike[str], items: Iterable[WorklistItem], positive: Sequence[str]) -> None:
    """Write the images, sorted by urgency, as CSV with the columns `COLUMNS`; text is neutralised (`csv_text`).

    Args:
        path: the table.
        items: the images.
        positive: names of the classes that are urgent.
    """
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    writer.writerow(COLUMNS)
    for rank, item in enumerate(sort_by_urgency(items, positive), start=1):
        cells = _cells(item, positive) | {"rank": str(rank)}
        writer.writerow([csv_text(cells.get(name, "")) for name in COLUMNS])
    replace_text(path, buffer.getvalue())


def _cells(item: WorklistItem, positive: Sequence[str]) -> dict[str, str]:
    row = item.row
    cells = {
        "key": str(row.get("key", "")),
        "read_first": str(read_first(item, positive)).lower(),
        "report": item.report,
        "warnings": str(row.get(OutputKeys.WARNINGS.value) or ""),
        "error": str(row.get("error") or item.error),
    }
    if item.is_classified:
        cells["predicted"] = str(row["predicted"])
        cells["probability_positive"] = f"{item.probability(positive):.6f}"
        entropy, unusual = item.entropy(positive), row.get(OutputKeys.OOD_P_VALUE)
        cells["uncertainty"] = "" if entropy is None else f"{entropy:.6f}"
        cells["ood_p_value"] = "" if unusual is None else f"{float(unusual):.6g}"
        cells["prediction_set"] = item.prediction_set()
    if item.source is not None:
        cells |= {name: str(item.source.first.get(keyword) or "") for name, keyword in _HEADER.items()}
        cells["laterality"] = item.source.laterality
    return cells
