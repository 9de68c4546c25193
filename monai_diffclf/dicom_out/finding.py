# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What is reported of an image, and by what: plain values, from a row of a table of predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..keys import OutputKeys, UncertaintyKeys

__all__ = ["Algorithm", "Finding", "finding_of"]

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
    """What was found of one image.

    Args:
        predicted: the most probable class.
        probabilities: class -> probability.
        vote_shares: class -> share of the draws that vote for it; empty where there are no votes.
        interval: 95 % Wilson interval of the winner's share of the draws; None without votes.
        uncertainty: other measures of how sure it is, and how unusual the image, by their names.
        prediction_set: classes of the prediction set; None where the bundle makes none.
        warnings: what may be wrong with the image, in words.
    """

    predicted: str
    probabilities: dict[str, float]
    vote_shares: dict[str, float] = field(default_factory=dict)
    interval: tuple[float, float] | None = None
    uncertainty: dict[str, float] = field(default_factory=dict)
    prediction_set: tuple[str, ...] | None = None
    warnings: str = ""

    def facts(self) -> dict[str, Any]:
        """All of it, as plain values."""
        return asdict(self)


def finding_of(row: Mapping[str, Any], classes: Sequence[str]) -> Finding:
    """The finding that a row of `predictions.csv`, with its numbers as numbers, tells of.

    Args:
        row: see :func:`monai_diffclf.handlers.prediction_table.prediction_row`.
        classes: names of the classes.

    Raises:
        ValueError: when the row is of an image that was not classified, or of other classes.

    Example:
        >>> found = finding_of({"predicted": "b", "probability_a": 0.2, "probability_b": 0.8}, ["a", "b"])
        >>> found.predicted, found.probabilities
        ('b', {'a': 0.2, 'b': 0.8})
    """
    wanted = [f"probability_{name}" for name in classes]
    if row.get("error") or row.get("predicted") not in classes or any(name not in row for name in wanted):
        raise ValueError(
            f"row: expected the row of an image classified as one of {list(classes)}, got {row.get('error') or row}"
        )
    shares = {name: float(row[f"vote_share_{name}"]) for name in classes if f"vote_share_{name}" in row}
    names = [key.value for key in (*UncertaintyKeys, OutputKeys.OOD_SCORE, OutputKeys.OOD_P_VALUE)]
    chosen = row.get(OutputKeys.PREDICTION_SET.value)
    return Finding(
        predicted=str(row["predicted"]),
        probabilities={name: float(row[f"probability_{name}"]) for name in classes},
        vote_shares=shares,
        interval=(float(row[_LOW]), float(row[_HIGH])) if shares and _LOW in row and _HIGH in row else None,
        uncertainty={name: float(row[name]) for name in names if name in row and name not in (_LOW, _HIGH)},
        prediction_set=None if chosen is None else tuple(chosen),
        warnings=str(row.get(OutputKeys.WARNINGS.value) or ""),
    )
