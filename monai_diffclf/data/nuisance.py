# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""How well the label can be guessed from what is no sign of disease: size, format, brightness, names of files."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.tree import DecisionTreeClassifier

__all__ = ["ALL_FIELDS", "NuisanceScore", "nuisance_scores"]

ALL_FIELDS = "all of these"
_MIN_GROUPS = 10
_MAX_TEXTS = 20


@dataclass(frozen=True)
class NuisanceScore:
    """How well the label can be guessed from a field.

    Args:
        auc: area under the ROC curve, cross-validated; 0.5 is chance; of several classes the mean over each against
            the others.
        standard_error: of the AUC (Hanley and McNeil, Radiology 1982).
    """

    auc: float
    standard_error: float

    @property
    def notable(self) -> bool:
        """Whether it is above 0.6 by more than two standard errors."""
        return self.auc - 2 * self.standard_error > 0.6


def nuisance_scores(
    fields: Sequence[Mapping[str, float | str]], labels: Sequence[int], groups: Sequence[str]
) -> dict[str, NuisanceScore]:
    """Cross-validated AUC of the label from each field alone (a small tree), and from all (extremely random trees).

    Fields that are the same for all images are left out.

    Args:
        fields: of each image, name -> number or text.
        labels: class of each image.
        groups: patient of each image, or what else keeps images together in cross-validation.

    Returns:
        The scores, the best guess first; none when a class has fewer than ten groups.

    Example:
        >>> sizes = [{"width": 100.0 + label, "height": 64.0} for label in [0, 1] * 20]
        >>> scores = nuisance_scores(sizes, [0, 1] * 20, [str(n) for n in range(40)])
        >>> {name: score.auc for name, score in scores.items()}
        {'width': 1.0}
    """
    y = np.asarray(labels)
    known = Counter(label for label, _ in set(zip(labels, groups, strict=True)))
    if len(known) < 2 or min(known.values()) < _MIN_GROUPS:
        return {}
    names = [name for name in dict.fromkeys(name for row in fields for name in row) if _varies(fields, name)]
    columns = {name: _encode([row.get(name, "") for row in fields]) for name in names}
    places = {text: place for place, text in enumerate(dict.fromkeys(groups))}
    folds = _folds(y, np.array([places[group] for group in groups]))
    leaf = max(3, len(y) // 100)
    scores = {
        name: _score(DecisionTreeClassifier(max_leaf_nodes=8, min_samples_leaf=leaf, random_state=0), x, y, folds)
        for name, x in columns.items()
    }
    scores = dict(sorted(scores.items(), key=lambda entry: -entry[1].auc))
    if len(columns) > 1:
        forest = ExtraTreesClassifier(100, min_samples_leaf=3, random_state=0)
        scores = {ALL_FIELDS: _score(forest, np.concatenate(list(columns.values()), axis=1), y, folds), **scores}
    return scores


def _varies(fields: Sequence[Mapping[str, float | str]], name: str) -> bool:
    return len({row.get(name, "") for row in fields}) > 1


def _encode(values: Sequence[float | str]) -> npt.NDArray[np.float64]:
    """A column of numbers [n, 1], or the commonest texts of a column one by one [n, m]."""
    try:
        numbers = np.array([np.nan if value == "" else float(value) for value in values])
        return np.stack([np.nan_to_num(numbers, nan=-1.0, posinf=-1.0, neginf=-1.0), np.isnan(numbers)], axis=1)
    except ValueError:
        common = [text for text, _ in Counter(map(str, values)).most_common(_MAX_TEXTS)]
        return np.array([[str(value) == text for text in common] for value in values], dtype=np.float64)


def _folds(y: npt.NDArray[Any], groups: npt.NDArray[Any]) -> list[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class that few patients have
        return list(StratifiedGroupKFold(5, shuffle=True, random_state=0).split(np.zeros(len(y)), y, groups))


def _score(
    model: Any, x: npt.NDArray[np.float64], y: npt.NDArray[Any], folds: Sequence[tuple[Any, Any]]
) -> NuisanceScore:
    classes = np.unique(y)
    guess = np.zeros((len(y), len(classes)))
    for train, test in folds:
        model.fit(x[train], y[train])
        guess[np.ix_(test, np.searchsorted(classes, model.classes_))] = model.predict_proba(x[test])
    chosen = range(1, 2) if len(classes) == 2 else range(len(classes))
    found = [(float(roc_auc_score(y == classes[k], guess[:, k])), int((y == classes[k]).sum())) for k in chosen]
    errors = [_standard_error(auc, count, len(y) - count) for auc, count in found]
    return NuisanceScore(
        auc=float(np.mean([auc for auc, _ in found])), standard_error=float(np.sqrt(np.mean(np.square(errors))))
    )


def _standard_error(auc: float, positive: int, negative: int) -> float:
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = auc * (1 - auc) + (positive - 1) * (q1 - auc**2) + (negative - 1) * (q2 - auc**2)
    return float(np.sqrt(max(variance, 0) / (positive * negative)))
