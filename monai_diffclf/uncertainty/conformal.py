# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Conformal prediction sets: sets of classes that hold the true one as often as promised, whatever the classifier."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from .._checks import check_labels
from .probabilities import probability_array, sum_of_others

__all__ = ["ConformalSets", "fit_conformal"]


@dataclass(frozen=True)
class ConformalSets:
    """Prediction sets from calibration scores. Made by :func:`fit_conformal`.

    The score of class k is 1 - p_k, p the inferer's probabilities (the least ambiguous sets, Sadinle et al. 2019). With
    n calibration images, those of class k alone if ``per_class`` (Mondrian, Vovk et al. 2005), its p-value is
    (1 + #{calibration score >= score}) / (n + 1), and the set holds all classes with a p-value above 1 - confidence. If
    the image is exchangeable with the calibration images, it holds the true class with at least that probability;
    without ties with exactly ceil((n + 1) confidence) / (n + 1).

    Per class the promise holds for images of every class by itself, so also where classes are more or less frequent
    than in the calibration set. No promise holds for images of another kind.

    Args:
        scores: calibration scores of the images of each class, in rising order.
        confidence: probability with which a set holds the true class.
        per_class: whether the promise is kept in every class, or on average over the classes.
        provenance: what made the probabilities of the fit.

    Raises:
        ValueError: when there are too few scores for the confidence.

    Example:
        >>> sets = ConformalSets(([0.1, 0.2, 0.6], [0.0, 0.3, 0.5]), confidence=0.75)
        >>> probabilities = torch.tensor([[0.95, 0.05], [0.55, 0.45], [0.2, 0.8]])
        >>> sets.p_values(probabilities).tolist()
        [[1.0, 0.25], [0.5, 0.25], [0.25, 0.75]]
        >>> sets.sets(probabilities).int().tolist()
        [[1, 0], [1, 0], [0, 1]]
    """

    scores: Sequence[Sequence[float]]
    confidence: float = 0.9
    per_class: bool = True
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.scores) < 2:
            raise ValueError(f"scores: expected those of at least two classes, got {len(self.scores)}")
        self._check_reachable(self.confidence)

    @property
    def num_classes(self) -> int:
        """Number of classes K."""
        return len(self.scores)

    def p_values(self, probabilities: torch.Tensor) -> torch.Tensor:
        """How unusual an image would be for each class [B, K], float64 in (0, 1]: small means not that class.

        Args:
            probabilities: class probabilities [B, K] as the inferer gives them (output ``pred``).
        """
        return torch.from_numpy(self._p_values(probabilities)).to(probabilities.device)

    def _p_values(self, probabilities: torch.Tensor) -> np.ndarray:
        from crepes import ConformalClassifier  # loads pandas, which nothing else needs

        scores = sum_of_others(probability_array(probabilities, self.num_classes))
        sizes = [len(values) for values in self.scores]
        calibration, classes = np.concatenate([np.asarray(v, dtype=float) for v in self.scores]), np.arange(len(sizes))
        if not self.per_class:
            return np.asarray(ConformalClassifier().fit(calibration).predict_p(scores, smoothing=False))
        fitted = ConformalClassifier().fit(calibration, bins=np.repeat(classes, sizes))
        columns = [fitted.predict_p(scores[:, k], bins=np.full(len(scores), k), smoothing=False) for k in classes]
        return np.stack(columns, axis=1)

    def sets(
        self, probabilities: torch.Tensor, confidence: float | None = None, *, allow_empty: bool = False
    ) -> torch.Tensor:
        """Which classes each prediction set holds [B, K], bool.

        Args:
            probabilities: class probabilities [B, K] as the inferer gives them (output ``pred``).
            confidence: probability with which a set holds the true class; None for that of the fit.
            allow_empty: whether sets may be empty, which says that the image is unusual for every class; else the most
                probable class is always in.

        Raises:
            ValueError: when the probabilities are none or of other classes, or the calibration set is too small.
        """
        confidence = self.confidence if confidence is None else confidence
        self._check_reachable(confidence)
        # A p-value is a multiple of 1 / (n + 1); the margin keeps rounding from deciding where it equals the level.
        held = self._p_values(probabilities) > 1 - confidence + 1e-9
        sets = torch.from_numpy(held).to(probabilities.device)
        if not allow_empty:
            sets.scatter_(1, probabilities.argmax(1, keepdim=True), True)
        return sets

    def _check_reachable(self, confidence: float) -> None:
        """Refuse a level at which no class could ever be left out."""
        if not (isinstance(confidence, (int, float)) and 0 < confidence < 1):
            raise ValueError(f"confidence: expected a number between 0 and 1, got {confidence!r}")
        needed = math.ceil(1 / (1 - confidence) - 1e-9) - 1
        sizes = [len(values) for values in self.scores]
        small = [k for k, size in enumerate(sizes) if size < needed] if self.per_class else []
        if small:
            found = ", ".join(f"{sizes[k]} of class {k}" for k in small)
            raise ValueError(
                f"confidence: {confidence:g} in every class needs at least {needed} calibration images of each, got "
                f"{found}; add images, lower the confidence, or set per_class=False"
            )
        if sum(sizes) < needed:
            raise ValueError(
                f"confidence: {confidence:g} needs at least {needed} calibration images, got {sum(sizes)}; add images "
                "or lower the confidence"
            )

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for a JSON file."""
        return {
            "confidence": self.confidence,
            "per_class": self.per_class,
            "scores": [[float(score) for score in values] for values in self.scores],
            "provenance": dict(self.provenance),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ConformalSets:
        """From what `to_dict` gave; other keys are ignored.

        Raises:
            ValueError: when a value is missing or wrong.
        """
        if missing := [name for name in ("confidence", "per_class", "scores") if name not in values]:
            raise ValueError(f"values: expected {', '.join(missing)}, it is missing")
        return cls(
            tuple(tuple(map(float, scores)) for scores in values["scores"]),
            float(values["confidence"]),
            bool(values["per_class"]),
            dict(values.get("provenance", {})),
        )


def fit_conformal(
    probabilities: torch.Tensor,
    labels: torch.Tensor,
    *,
    confidence: float = 0.9,
    per_class: bool = True,
    provenance: Mapping[str, Any] | None = None,
) -> ConformalSets:
    """Prediction sets from calibration images that were in neither training nor test set.

    Args:
        probabilities: class probabilities [n, K] as the inferer gives them (output ``pred``), not calibrated ones:
            the promise needs images that nothing was fitted on.
        labels: class of each image [n].
        confidence: probability with which a set is to hold the true class.
        per_class: whether that is to hold in every class, or on average over the classes.
        provenance: what made the probabilities, see :func:`monai_diffclf.inferers.provenance`.

    Raises:
        ValueError: when the images are too few for the confidence, in any class if ``per_class``; the message says how
            many are needed.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> odds = torch.randn(4000, generator=generator)
        >>> labels = (torch.rand(4000, generator=generator) < torch.sigmoid(4 * odds)).long()
        >>> probabilities = torch.stack([torch.sigmoid(-odds), torch.sigmoid(odds)], 1)
        >>> conformal = fit_conformal(probabilities[:2000], labels[:2000], confidence=0.9)
        >>> held = conformal.sets(probabilities[2000:])
        >>> covered = held.gather(1, labels[2000:, None])[:, 0]
        >>> [round(float(covered[labels[2000:] == k].float().mean()), 2) for k in (0, 1)]
        [0.91, 0.9]
    """
    values = probability_array(probabilities)
    count, classes = values.shape
    truth = check_labels(labels, classes, count)
    scores = sum_of_others(values)[np.arange(len(truth)), truth]
    by_class = tuple(tuple(np.sort(scores[truth == k]).tolist()) for k in range(classes))
    return ConformalSets(by_class, confidence, per_class, dict(provenance or {}))
