# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""How far images are from known ones in several parts of what describes them, and all parts as one score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf
from sklearn.model_selection import GroupKFold

__all__ = ["GaussianPart", "cross_fit", "largest_score"]

NUM_FOLDS = 10
_TAIL = 0.95
_SMALLEST_SPREAD = 1e-6

Features = Mapping[str, torch.Tensor]


@dataclass(frozen=True, eq=False)
class GaussianPart:
    """Known images in one part of what describes them, as a Gaussian; see :func:`cross_fit`.

    Args:
        mean: mean of the features [S].
        precision: inverse of their covariance, shrunk as by Ledoit and Wolf (2004) [S, S].
        median: median of the squared distances of known images, each from a fit without it.
        spread: log of what their 95 % quantile is more than the median.
    """

    mean: NDArray[np.float64]
    precision: NDArray[np.float64]
    median: float = 1.0
    spread: float = 1.0

    def distance(self, features: torch.Tensor) -> torch.Tensor:
        """Squared Mahalanobis distance of features [B, S] from the mean [B], float64.

        Raises:
            ValueError: when there are not S of them.
        """
        if features.ndim != 2 or features.shape[1] != len(self.mean):
            raise ValueError(
                f"features: expected [B, {len(self.mean)}], as many as those of the fit, got {list(features.shape)}; "
                "fit anew for images with other channels or axes"
            )
        difference = features.double() - torch.as_tensor(self.mean, device=features.device)
        return ((difference @ torch.as_tensor(self.precision, device=features.device)) * difference).sum(1)

    def score(self, features: torch.Tensor) -> torch.Tensor:
        """The distance so that parts can be compared [B]: 1 for the median of known images, e for their 95 % quantile.

        (d / median)^(1 / spread), for distances whose logarithms differ in width from part to part.
        """
        return (self.distance(features).clamp(min=0) / self.median) ** (1 / self.spread)

    def to_dict(self) -> dict[str, Any]:
        """As plain numbers, to ten digits."""
        return {
            "mean": _digits(self.mean),
            "precision": _digits(self.precision),
            "median": float(self.median),
            "spread": float(self.spread),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> GaussianPart:
        """From what `to_dict` gave.

        Raises:
            ValueError: when something is missing or does not fit the rest.
        """
        if missing := {"mean", "precision", "median", "spread"} - values.keys():
            raise ValueError(f"values: expected what GaussianPart.to_dict gives, {sorted(missing)} missing")
        mean, precision = (np.asarray(values[name], dtype=np.float64) for name in ("mean", "precision"))
        if mean.ndim != 1 or precision.shape != (len(mean), len(mean)):
            raise ValueError(f"precision: expected the shape {[len(mean)] * 2}, got {list(precision.shape)}")
        median, spread = float(values["median"]), float(values["spread"])
        if not (median > 0 and spread > 0):
            raise ValueError(f"median, spread: expected positive numbers, got {median} and {spread}")
        return cls(mean, precision, median, spread)


def cross_fit(
    features: Features, groups: NDArray[np.int64], more: Features | None = None
) -> tuple[dict[str, GaussianPart], NDArray[np.float64]]:
    """The parts fitted to all images, and the score of each image under fits without its fold [n].

    Args:
        features: name of each part to the features of the images [n, S].
        groups: number of the patient of each image [n]; a patient's images are in one fold.
        more: the same of further images, which every fit of a part that is here takes in; they get no score.

    Example:
        >>> parts, scores = cross_fit({"a": torch.randn(201, 3)}, np.arange(201))  # an odd number
        >>> bool(abs(np.median(scores) - 1) < 1e-6), scores.shape
        (True, (201,))
    """
    parts, scores = {}, []
    for name, values in features.items():
        array = values.double().cpu().numpy()
        further = (more or {}).get(name, values[:0]).double().cpu().numpy()
        held = np.empty(len(array))
        for rest, fold in GroupKFold(NUM_FOLDS).split(array, groups=groups):
            held[fold] = _fit(np.concatenate([array[rest], further])).distance(torch.from_numpy(array[fold])).numpy()
        median = max(float(np.median(held)), np.finfo(float).tiny)
        spread = max(float(np.log(max(float(np.quantile(held, _TAIL)), median) / median)), _SMALLEST_SPREAD)
        whole = _fit(np.concatenate([array, further]))
        parts[name] = GaussianPart(whole.mean, whole.precision, median, spread)
        scores.append((held.clip(min=0) / median) ** (1 / spread))
    return parts, np.max(scores, axis=0)


def largest_score(parts: Mapping[str, GaussianPart], features: Features) -> torch.Tensor:
    """The score of the part in which an image is farthest off [B], float64.

    Raises:
        ValueError: when the features of a part are missing or others than those of the fit.
    """
    if missing := [name for name in parts if name not in features]:
        raise ValueError(f"features: expected those of {list(parts)}, as in the fit, {missing} missing")
    return torch.stack([part.score(features[name]) for name, part in parts.items()]).amax(0)


def _fit(features: NDArray[np.float64]) -> GaussianPart:
    # Shrinking towards equal variances needs features of equal variance; one that never changes is left as it is.
    scale = features.std(0)
    scale = np.where(scale > 1e-9 * (1 + np.abs(features).max(0)), scale, 1.0)
    fitted = LedoitWolf().fit(features / scale)
    return GaussianPart(fitted.location_ * scale, fitted.precision_ / np.outer(scale, scale))


def _digits(values: NDArray[np.float64]) -> Any:
    return np.vectorize(lambda x: float(f"{x:.10g}"))(values).tolist() if values.size else values.tolist()
