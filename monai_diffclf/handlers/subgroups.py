# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The subgroup report that an evaluation leaves behind."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine
from monai.utils import CommonKeys

from .._text import csv_text
from ..data.table_rows import each_once, read_rows
from ..metrics.subgroups import age_bands, subgroup_metrics
from ..storage.atomic_file import replace_text
from .dataset_collector import Collected, DatasetCollector

__all__ = ["SubgroupReport", "write_subgroups"]


class SubgroupReport(DatasetCollector):
    """Ignite handler: metrics by sex, age band, view, site or any column of a table, see :func:`subgroup_metrics`.

    For any evaluator whose output holds probabilities. Images that the table does not list are in a subgroup
    ``"unknown"``. Intervals resample patients where they are known, else images.

    Args:
        path: file to write, .csv or .json, see `write_subgroups`.
        table: CSV table of the metadata, one row an image, with a header.
        columns: columns of the table to report by.
        key_column: column of the table that holds the images' keys, as the batch has them under ``key``.
        age_column: column of ages in years, reported by in bands (:func:`age_bands`); None without.
        output: output key of the probabilities [K].
        min_images: subgroups with fewer images are listed without metrics.
        num_resamples: bootstrap resamples.

    Raises:
        ValueError: when the table does not exist or lacks a column, or the path ends in something else.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        table: str | os.PathLike[str],
        columns: Sequence[str] = (),
        *,
        key_column: str = "key",
        age_column: str | None = None,
        output: str = CommonKeys.PRED,
        min_images: int = 20,
        num_resamples: int = 2000,
    ) -> None:
        super().__init__(output)
        self.path, self.table, self.columns, self.age_column = _checked(path), Path(table), list(columns), age_column
        self.min_images, self.num_resamples = min_images, num_resamples
        names = self.columns + ([] if age_column is None else [age_column])
        if not names:
            raise ValueError("columns: expected at least one column, or an age_column, got none")
        self._metadata = _read_table(self.table, key_column, names)

    def write(self, engine: Engine, collected: Collected) -> None:
        """Write the report of an evaluation."""
        if not set(collected.keys) & self._metadata.keys():
            raise ValueError(
                f"table: expected rows of the images evaluated, but none of their keys, such as {collected.keys[0]!r}, "
                f"is in {self.table}"
            )
        found = [self._metadata.get(key, {}) for key in collected.keys]
        columns: dict[str, Any] = {name: [row.get(name, "") for row in found] for name in self.columns}
        if self.age_column is not None:
            columns[self.age_column] = age_bands([_number(row.get(self.age_column, "")) for row in found])
        rows = subgroup_metrics(
            collected.labels,
            collected.values,
            columns,
            min_images=self.min_images,
            groups=collected.patients if any(collected.patients) else None,
            num_resamples=self.num_resamples,
        )
        write_subgroups(self.path, rows)


def write_subgroups(path: str | os.PathLike[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the rows of :func:`monai_diffclf.metrics.subgroup_metrics` to a file, as a whole or not at all.

    In a .csv table each metric has the columns NAME, NAME_low and NAME_high, empty where there is none; a .json file
    holds the rows as they are.

    Raises:
        ValueError: when the suffix is another, or there is no row.
    """
    path = _checked(path)
    if not rows:
        raise ValueError("rows: expected those of subgroup_metrics, got none")
    if path.suffix == ".json":
        replace_text(path, json.dumps(list(rows), indent=1, allow_nan=False) + "\n")
        return
    metrics = list(rows[0]["metrics"])
    facts = ["column", "subgroup", "num_images", "num_patients"]
    classes = [f"num_class_{k}" for k in range(len(rows[0]["class_counts"]))]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*facts, *classes, *(name + bound for name in metrics for bound in ("", "_low", "_high"))])
    for row in rows:
        entries = [row["metrics"][name] or {} for name in metrics]
        numbers = [entry.get(bound, "") for entry in entries for bound in ("value", "low", "high")]
        given = ["" if row[name] is None else row[name] for name in facts]
        texts = [csv_text(value) if isinstance(value, str) else value for value in given]
        writer.writerow([*texts, *row["class_counts"], *numbers])
    replace_text(path, text.getvalue())


def _checked(path: str | os.PathLike[str]) -> Path:
    if Path(path).suffix not in (".csv", ".json"):
        raise ValueError(f"path: expected a name ending in .csv or .json, got {Path(path).name!r}")
    return Path(path)


def _read_table(table: Path, key_column: str, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Key of an image to its row."""
    if not table.is_file():
        raise ValueError(f"table: expected a CSV table, but {table} does not exist")
    columns = [key_column, *names]
    return {
        row[key_column]: {name: row[name] for name in columns}
        for row in each_once(read_rows(table, columns), key_column)
    }


def _number(text: str) -> float:
    """An age as a number, NaN where it is empty or none; DICOM writes 045Y."""
    try:
        return float(str(text).strip().upper().removesuffix("Y"))
    except ValueError:
        return float(np.nan)
