# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The confusion matrix of an evaluation, as a table and as a picture."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix

from .._checks import check_labels
from ..storage.atomic_file import replace_text, replaced

__all__ = ["write_confusion"]

_MOST_NAMED = 20  # more classes are drawn without names and numbers, which nobody could read


def write_confusion(
    path: str | os.PathLike[str],
    labels: Sequence[int] | NDArray[Any],
    predicted: Sequence[int] | NDArray[Any],
    classes: Sequence[str],
    *,
    title: str = "",
) -> NDArray[np.int64]:
    """Write how many images of each class were taken for each class, as CSV and, under the same name, as PNG.

    Args:
        path: the CSV file; a row a true class, a column a predicted one.
        labels: true class of each image [N].
        predicted: class that was predicted [N].
        classes: names of the classes, in the order of their labels [K].
        title: text above the picture.

    Returns:
        the counts [K, K].

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = write_confusion(folder + "/confusion.csv", [0, 1, 1], [0, 0, 1], ["normal", "pneumonia"])
        ...     print(Path(folder, "confusion.csv").read_text().strip())
        true class,predicted_normal,predicted_pneumonia
        normal,1,0
        pneumonia,1,1
    """
    names = [str(name) for name in classes]
    labels = check_labels(labels, len(names))
    predicted = check_labels(predicted, len(names), len(labels), name="predicted")
    counts = np.asarray(confusion_matrix(labels, predicted, labels=range(len(names))), dtype=np.int64)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["true class", *(f"predicted_{name}" for name in names)])
    writer.writerows([_cell(name), *row] for name, row in zip(names, counts.tolist(), strict=True))
    replace_text(path, text.getvalue())
    with replaced(Path(path).with_suffix(".png")) as temporary:
        _draw(counts, names, title).savefig(temporary, format="png", dpi=120, metadata={"Software": None})
    return counts


def _draw(counts: NDArray[np.int64], names: list[str], title: str) -> Figure:
    few = len(names) <= _MOST_NAMED
    side = 3.2 + 0.55 * min(len(names), _MOST_NAMED)
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    display = ConfusionMatrixDisplay(counts)
    display.plot(ax=axes, cmap="Blues", colorbar=not few, include_values=few, values_format="d", im_kw={"vmin": 0})
    if few:
        shown = [name if len(name) <= 24 else name[:23] + "…" for name in names]
        turned: dict[str, Any] = {"rotation": 30, "ha": "right"} if len(names) > 2 else {}
        axes.set_xticks(range(len(names)), shown, **turned)
        axes.set_yticks(range(len(names)), shown)
    else:
        axes.set(xticks=[], yticks=[])
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.set_title(title, fontsize=10)
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels(), axes.title):
        label.set_parse_math(False)  # a class may be called "$"
    return figure


def _cell(text: str) -> str:
    """A spreadsheet would run what begins like a formula."""
    return "'" + text if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
