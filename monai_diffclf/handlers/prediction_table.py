# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A row an image: what is known of it, with plain types, and the CSV table of such rows."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO, cast

import torch
from monai.utils import CommonKeys

from .._class_names import NO_FINDING, SEPARATOR, class_names, finding_names, uncertainty_column
from .._text import csv_text, csv_texts
from ..classification.vote_statistics import of_final_probabilities
from ..keys import OutputKeys, UncertaintyKeys
from .explained_item import warnings_of
from .finding_view import is_multi_label, of_finding

__all__ = ["PredictionTable", "finding_rows", "prediction_row"]

_OF_PROBABILITIES = (UncertaintyKeys.PROBABILITY_MARGIN, UncertaintyKeys.PROBABILITY_ENTROPY)
UNCERTAINTIES = (
    UncertaintyKeys.VOTE_VARIANCE,
    UncertaintyKeys.VOTE_ENTROPY,
    UncertaintyKeys.VOTE_MARGIN,
    UncertaintyKeys.VOTE_SHARE_LOW,
    UncertaintyKeys.VOTE_SHARE_HIGH,
    UncertaintyKeys.ENTROPY_MONTE_CARLO,
    UncertaintyKeys.ENTROPY_REMAINING,
    *_OF_PROBABILITIES,
)
# Of likelihoods: what a few probes would choose says little.
LIKELIHOOD_UNCERTAINTIES = (*_OF_PROBABILITIES, UncertaintyKeys.LOG_RATIO_ERROR)
# What post-transforms may have added; written where the first image has it.
OPTIONAL = (OutputKeys.OOD_SCORE, OutputKeys.OOD_P_VALUE)
_SIX_DIGITS = tuple(str(name.value) for name in OPTIONAL)  # all other numbers have six decimals

_STATES = ("absent", "present")
_OF_FINDING = {
    "probability": "probability_present",
    OutputKeys.VOTE_SHARE.value: f"{OutputKeys.VOTE_SHARE.value}_present",
    UncertaintyKeys.VOTE_ENTROPY.value: UncertaintyKeys.VOTE_ENTROPY.value,
    UncertaintyKeys.PROBABILITY_ENTROPY.value: UncertaintyKeys.PROBABILITY_ENTROPY.value,
    OutputKeys.PREDICTION_SET.value: OutputKeys.PREDICTION_SET.value,
}
"""Columns of a table of findings, before the finding's name, and what they are of a table of two classes."""


def prediction_row(
    source: Any, result: Mapping[str, Any], classes: Sequence[str], *, pictures: Sequence[str] = ()
) -> dict[str, Any]:
    """What the table says of an image, by its columns, see `ClassificationWriter`; numbers as the table rounds them.

    Args:
        source: item of the decollated batch.
        result: item of the decollated output: of a `DiffusionClassifierEvaluator`, or of MONAI's `SupervisedEvaluator`,
            in whose rows there is nothing of votes and evaluations.
        classes: names of the classes.
        pictures: name of the image's map, or of those of its findings; none without maps.

    An uncertainty whose column a class has by its name, as one called "low" has vote_share_low, comes after
    "uncertainty_".

    Of several findings the classes are these: ``predicted`` names all that are present, and there are probability_NAME,
    vote_share_NAME, vote_entropy_NAME, probability_entropy_NAME, map_NAME and, where there are sets,
    prediction_set_NAME; "none" where none is.

    Example:
        >>> row = prediction_row({"key": "a"}, {"pred": torch.tensor([0.25, 0.75])}, ["no", "yes"])
        >>> row["predicted"], row["probability_yes"], row["probability_margin"]
        ('yes', 0.75, 0.5)
    """
    if is_multi_label(result):
        return _findings_row(source, result, classes, pictures)
    probabilities = torch.as_tensor(result[CommonKeys.PRED]).flatten()
    if len(probabilities) != len(classes):
        raise ValueError(f"classes: expected {len(probabilities)} names, one for each probability, got {len(classes)}")
    shares = {"probability": probabilities}
    for name in (OutputKeys.LOG_LIKELIHOOD, OutputKeys.VOTE_SHARE):
        if name in result:
            shares[name.value] = result[name]
            break
    known = result.get(OutputKeys.UNCERTAINTY) or dict.fromkeys(_OF_PROBABILITIES, 0.0)
    uncertainty = of_final_probabilities(known, probabilities)
    wanted = LIKELIHOOD_UNCERTAINTIES if OutputKeys.LOG_LIKELIHOOD in result else UNCERTAINTIES
    row: dict[str, Any] = {"key": str(source.get("key", "")), "predicted": classes[int(probabilities.argmax())]}
    for what, values in shares.items():
        row |= {f"{what}_{name}": _rounded(value) for name, value in zip(classes, values, strict=True)}
    row |= {
        uncertainty_column(name.value, classes): _rounded(uncertainty[name]) for name in wanted if name in uncertainty
    }
    if OutputKeys.PREDICTION_SET in result:
        chosen = torch.as_tensor(result[OutputKeys.PREDICTION_SET]).flatten().nonzero().flatten().tolist()
        row[OutputKeys.PREDICTION_SET.value] = [classes[k] for k in chosen]
    row |= {name.value: float(f"{float(result[name]):.6g}") for name in OPTIONAL if name in result}
    if OutputKeys.NETWORK_EVALUATIONS in result:
        row[OutputKeys.NETWORK_EVALUATIONS.value] = int(result[OutputKeys.NETWORK_EVALUATIONS])
        row[OutputKeys.DECIDED.value] = bool(result[OutputKeys.DECIDED])
    if OutputKeys.DEFERRED in result:
        row[OutputKeys.DEFERRED.value] = bool(result[OutputKeys.DEFERRED])
    picture = pictures[0] if pictures else ""
    return {**row, "map": picture, OutputKeys.WARNINGS.value: warnings_of(source, result), "error": ""}


def finding_rows(source: Any, result: Mapping[str, Any], findings: Sequence[str]) -> list[dict[str, Any]]:
    """Of each of several findings the row that a table of the two classes absent and present has of the image.

    Args:
        source: item of the decollated batch.
        result: item of the decollated output.
        findings: names of the findings.
    """
    return [prediction_row(source, of_finding(result, number), _STATES) for number in range(len(findings))]


def _findings_row(
    source: Any, result: Mapping[str, Any], findings: Sequence[str], pictures: Sequence[str]
) -> dict[str, Any]:
    """The row of an image with several findings: of each what a table of two classes says of the second."""
    count = torch.as_tensor(result[CommonKeys.PRED]).numel()
    if count != len(findings):
        raise ValueError(f"classes: expected {count} names, one for each finding, got {len(findings)}")
    findings = finding_names(findings)
    each = dict(zip(findings, finding_rows({}, result, findings), strict=True))
    present = [name for name, row in each.items() if row["predicted"] == _STATES[1]]
    row: dict[str, Any] = {"key": str(source.get("key", "")), "predicted": SEPARATOR.join(present) or NO_FINDING}
    for column, wanted in _OF_FINDING.items():
        row |= {f"{column}_{name}": found[wanted] for name, found in each.items() if wanted in found}
    if OutputKeys.NETWORK_EVALUATIONS in result:
        row[OutputKeys.NETWORK_EVALUATIONS.value] = int(result[OutputKeys.NETWORK_EVALUATIONS])
        row[OutputKeys.DECIDED.value] = bool(torch.as_tensor(result[OutputKeys.DECIDED]).all())
    row |= {f"map_{name}": picture for name, picture in zip(findings, pictures or [""] * count, strict=True)}
    return {**row, OutputKeys.WARNINGS.value: warnings_of(source, result), "error": ""}


class PredictionTable:
    """The CSV table of rows, written one after the other; until it is finished it is called ``NAME.csv.part``.

    Its columns are those of the first image that was classified.

    Args:
        path: the table.
        classes: names of the classes.
        more: further columns, before that of errors.

    Raises:
        ValueError: when two columns would have one name.
    """

    def __init__(self, path: str | os.PathLike[str], classes: Sequence[str], *, more: Sequence[str] = ()) -> None:
        self.path, self.classes, self.more = Path(path), class_names(classes), tuple(more)
        self._part = self.path.with_name(self.path.name + ".part")
        self._known = False  # whether the columns are: from the first image that was classified
        self._failed: list[Mapping[str, Any]] = []  # before it
        self._files = ExitStack()
        self._begin(_usual_columns(self.classes))

    def add(self, row: Mapping[str, Any]) -> None:
        """Add a row of `prediction_row`, or one of ``key`` and ``error`` of an image that could not be read."""
        if row.get("error"):
            if not self._known:
                self._failed.append(row)
        elif not self._known:
            self._known = True
            self._begin([name for name in row if name not in self.more])
            for failed in self._failed:
                self._write(failed)
        self._write(row)

    def flush(self) -> None:
        """Hand all rows to the operating system, which keeps them when the process is killed."""
        self._file.flush()

    def finish(self) -> None:
        """Give the table its name."""
        self.close()
        os.replace(self._part, self.path)

    def close(self) -> None:
        """Close the file; what is written stays in ``NAME.csv.part``."""
        self._files.close()

    def _begin(self, names: Iterable[str]) -> None:
        """Begin the table anew, with a header."""
        end = ("error",)
        self._columns = [*(name for name in names if name not in end), *self.more, *end]
        if twice := sorted({name for name in self._columns if self._columns.count(name) > 1}):
            raise ValueError(
                f"classes: expected names that make a column each, got {self.classes}, with which there would be two "
                f"columns {twice}; call the classes otherwise"
            )
        self._files.close()
        self._file = self._open()
        self._writer = csv.writer(self._file)
        self._writer.writerow(csv_texts(self._columns))

    def _open(self) -> TextIO:
        return self._files.enter_context(
            cast(TextIO, open(self._part, "w", newline="", encoding="utf-8", errors="replace"))
        )

    def _write(self, row: Mapping[str, Any]) -> None:
        self._writer.writerow([_cell(name, row.get(name)) for name in self._columns])


def _usual_columns(classes: Sequence[str]) -> list[str]:
    """The columns where no image could be classified."""
    shares = [f"{what}_{name}" for what in ("probability", OutputKeys.VOTE_SHARE.value) for name in classes]
    numbers = [uncertainty_column(name.value, classes) for name in UNCERTAINTIES]
    spent = [OutputKeys.NETWORK_EVALUATIONS.value, OutputKeys.DECIDED.value]
    return ["key", "predicted", *shares, *numbers, *spent, "map", OutputKeys.WARNINGS.value, "error"]


def _rounded(value: Any) -> float:
    return float(f"{float(value):.6f}")


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}" if name in _SIX_DIGITS else f"{value:.6f}"
    if isinstance(value, int):
        return str(value)
    return csv_text(SEPARATOR.join(value) if isinstance(value, list) else str(value))
