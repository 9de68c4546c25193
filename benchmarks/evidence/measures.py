"""The measures of the protocol, each as f(labels, probabilities, weights=...)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar

from monai_diffclf.metrics import SUBGROUP_METRICS, expected_calibration_error, negative_log_likelihood, roc_auc

__all__ = ["MEASURES", "auroc", "calibrated", "temperature"]


def _binary_auc(labels: ArrayLike, probabilities: ArrayLike, *, weights: ArrayLike | None = None) -> Any:
    """The first class, normal, against all others."""
    return roc_auc(np.asarray(labels) > 0, 1 - np.asarray(probabilities)[:, 0], weights=weights)


def auroc(unlike: ArrayLike, scores: ArrayLike, *, weights: ArrayLike | None = None) -> Any:
    """How well a score tells images of another kind (1) from test images (0)."""
    return roc_auc(unlike, scores, weights=weights)


MEASURES: dict[str, Callable[..., Any]] = {
    "macro_auc": SUBGROUP_METRICS["auc"],
    "binary_auc": _binary_auc,
    "balanced_accuracy": SUBGROUP_METRICS["balanced_accuracy"],
    "average_precision": SUBGROUP_METRICS["average_precision"],
    "log_loss": negative_log_likelihood,
    "aurc": SUBGROUP_METRICS["aurc"],
    "ece": expected_calibration_error,
    "calibrated_ece": expected_calibration_error,
}
"""Name in the protocol -> measure. "calibrated_ece" is called with probabilities that `calibrated` made."""


def temperature(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> float:
    """The temperature that maximises the likelihood of validation labels (Guo et al., 2017).

    Example:
        >>> sure = np.array([[0.99, 0.01]] * 4)
        >>> t = temperature(np.array([0, 0, 0, 1]), sure)  # right three times in four: logit log(3)
        >>> calibrated(sure, t)[0].round(3).tolist()
        [0.75, 0.25]
    """
    rows = np.arange(len(labels))

    def loss(log_t: float) -> float:
        return float(-np.log(np.clip(calibrated(probabilities, np.exp(log_t))[rows, labels], 1e-12, None)).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-4, 4), method="bounded").x))


def calibrated(probabilities: NDArray[np.float64], t: float) -> NDArray[np.float64]:
    """Probabilities with a temperature: p^(1 / t), summing to 1."""
    logits = np.log(np.clip(probabilities, 1e-12, None)) / t
    powers = np.exp(logits - logits.max(1, keepdims=True))
    result: NDArray[np.float64] = powers / powers.sum(1, keepdims=True)
    return result
