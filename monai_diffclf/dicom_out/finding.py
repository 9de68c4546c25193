# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What is reported of an image, and by what: plain values, from a row of a table of predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from .._class_names import uncertainty_column
from ..keys import OutputKeys, UncertaintyKeys

__all__ = ["STATES", "Algorithm", "Finding", "finding_of"]

STATES = ABSENT, PRESENT = ("absent", "present")
"""The two classes of one of several findings."""

_LOW, _HIGH = UncertaintyKeys.VOTE_SHARE_LOW.value, UncertaintyKeys.VOTE_SHARE_HIGH.value


@dataclass(frozen=True)
class Algorithm:
    """What has classified.

    Args:
        name: name of the bundle.
        version: version of this package.
        weights: fingerprint of the network's weights.
        parameters: settings that results depend on, as text.
    """

    name: str
    version: str
    weights: str
    parameters: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finding:
    """What was found of one image; of several findings, what was found of one.

    Args:
        predicted: the most probable class.
        probabilities: class -> probability.
        vote_shares: class -> share of the draws that vote for it; empty where there are no votes.
        interval: 95 % Wilson interval of the winner's share of the draws; None without votes.
        uncertainty: other measures of how sure it is, and how unusual the image, by their names.
        prediction_set: classes of the prediction set; None where the bundle makes none.
        warnings: what may be wrong with the image, in words.
        name: name of one of several findings, whose classes are `STATES`; ``""`` of an image with one class.
        decided: whether the draws decided, which a stopping rule may leave open.
    """

    predicted: str
    probabilities: dict[str, float]
    vote_shares: dict[str, float] = field(default_factory=dict)
    interval: tuple[float, float] | None = None
    uncertainty: dict[str, float] = field(default_factory=dict)
    prediction_set: tuple[str, ...] | None = None
    warnings: str = ""
    name: str = ""
    decided: bool = True

    @property
    def asked(self) -> str:
        """The class whose probability counts: the most probable one; of a finding that it is present."""
        return PRESENT if self.name else self.predicted

    @property
    def what(self) -> str:
        """What the map speaks for where it is positive: the most probable class, or the finding."""
        return self.name or self.predicted

    @property
    def state(self) -> str:
        """Whether a finding is ``"present"``, ``"absent"`` or ``"undecided"``.

        Undecided where its prediction set holds both states or none, or the draws did not decide.
        """
        open_set = self.prediction_set is not None and len(self.prediction_set) != 1
        return "undecided" if open_set or not self.decided else self.predicted

    def facts(self) -> dict[str, Any]:
        """All of it, as plain values."""
        return asdict(self)


def finding_of(row: Mapping[str, Any], classes: Sequence[str], *, name: str = "") -> Finding:
    """The finding that a row of `predictions.csv`, with its numbers as numbers, tells of.

    The interval is that of `Finding.asked`: of a finding that is absent by the votes 1 less the bounds of the winner's.

    Args:
        row: see :func:`monai_diffclf.handlers.prediction_table.prediction_row`, of one of several findings
            `finding_rows`.
        classes: names of the classes, of one of several findings `STATES`.
        name: name of that finding; ``""`` where an image has one class.

    Raises:
        ValueError: when the row is of an image that was not classified, or of other classes.

    Example:
        >>> found = finding_of({"predicted": "b", "probability_a": 0.2, "probability_b": 0.8}, ["a", "b"])
        >>> found.predicted, found.probabilities
        ('b', {'a': 0.2, 'b': 0.8})
    """
    wanted = [f"probability_{each}" for each in classes]
    if row.get("error") or row.get("predicted") not in classes or any(each not in row for each in wanted):
        raise ValueError(
            f"row: expected the row of an image classified as one of {list(classes)}, got {row.get('error') or row}"
        )
    shares = {each: float(row[f"vote_share_{each}"]) for each in classes if f"vote_share_{each}" in row}
    low, high = (uncertainty_column(each, classes) for each in (_LOW, _HIGH))
    interval = (float(row[low]), float(row[high])) if shares and low in row and high in row else None
    if name and interval is not None and shares[ABSENT] > shares[PRESENT]:
        interval = round(1 - interval[1], 6), round(1 - interval[0], 6)
    names = [key.value for key in (*UncertaintyKeys, OutputKeys.OOD_SCORE, OutputKeys.OOD_P_VALUE)]
    columns = {each: uncertainty_column(each, classes) for each in names if each not in (_LOW, _HIGH)}
    chosen = row.get(OutputKeys.PREDICTION_SET.value)
    return Finding(
        predicted=str(row["predicted"]),
        probabilities={each: float(row[f"probability_{each}"]) for each in classes},
        vote_shares=shares,
        interval=interval,
        uncertainty={each: float(row[column]) for each, column in columns.items() if column in row},
        prediction_set=None if chosen is None else tuple(chosen),
        warnings=str(row.get(OutputKeys.WARNINGS.value) or ""),
        name=name,
        decided=bool(row.get(OutputKeys.DECIDED.value, True)),
    )
