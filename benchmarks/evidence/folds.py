"""The five folds of the small data sets: the mean over their test parts, which hold every image once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.evidence.analysis import interval, mean_of, of_split
from benchmarks.evidence.markdown import in_words
from benchmarks.evidence.protocol import RESULTS, data_settings, protocol
from benchmarks.evidence.results import results_of
from monai_diffclf.metrics import difference

__all__ = ["folds_of", "folds_rows"]

MEASURE = "macro_auc"


def folds_of(reference: str = "cnn_finetuned", folder: Path = RESULTS) -> list[dict[str, Any]]:
    """The primary metric over the folds of each method that was run on all of them.

    Each fold has a training of its own, so that a figure covers several trainings; an interval covers the choice of the
    images of each fold, drawn in every fold on its own.

    Args:
        reference: the method that the others are compared with, on the same folds.
        folder: of the results.

    Returns:
        for each data set and method ``data``, ``method``, ``folds`` (value of each), ``mean`` (value, low, high) and
        ``gap``, the difference from the reference; None of the reference itself, or where that was not run.
    """
    found = []
    for data in protocol()["data"]:
        splits = [f"fold{fold}" for fold in range(data_settings(data)["folds"])]
        complete = [m for m in protocol()["methods"] if splits and all(_was_run(data, m, s, folder) for s in splits)]
        by_fold = [of_split(data, complete, s, MEASURE, folder, n) for n, s in enumerate(splits) if complete]
        means = {method: mean_of([fold[method] for fold in by_fold]) for method in complete}
        for method in complete:
            other = means.get(reference) if method != reference else None
            found.append(
                {
                    "data": data,
                    "method": method,
                    "folds": [fold[method].value for fold in by_fold],
                    "mean": interval(means[method]),
                    "gap": None if other is None else difference(means[method], other)._asdict(),
                }
            )
    return found


def _was_run(data: str, method: str, split: str, folder: Path) -> bool:
    return bool(results_of(data, method, "primary", split, folder))


def folds_rows(found: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of the table."""
    heads = ["data", "method", "macro AUC, mean of five folds", "each fold", "less `cnn_finetuned`"]
    rows = [
        [
            f"`{row['data']}`",
            f"`{row['method']}`",
            in_words(row["mean"]),
            ", ".join(f"{value:.3f}" for value in row["folds"]),
            in_words(row["gap"]),
        ]
        for row in found
    ]
    return heads, rows
