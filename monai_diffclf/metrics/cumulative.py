# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Metrics of uncertainty as MONAI metrics: filled batch by batch, computed once over the images of all processes.

Take :func:`monai_diffclf.handlers.uncertainty_metrics`, or wrap one as
``monai.handlers.IgniteMetricHandler(metric, output_transform=from_engine(["pred", "label"]), save_details=False)``.
With several processes the images of all are gathered, however many each has. An image that a sampler gives out twice,
to give every process as many, counts once by the former; by MONAI's handler it counts twice, unless the sampler is
``monai.data.DistributedSampler(..., even_divisible=False)``.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from monai.metrics import CumulativeIterationMetric
from numpy.typing import NDArray

from .._checks import check_labels
from .calibration import (
    brier_score,
    classwise_calibration_error,
    expected_calibration_error,
    labelled_probabilities,
    negative_log_likelihood,
)
from .prediction_sets import class_set_coverage, set_coverage, set_size
from .selective import accuracy_at_coverage, aurc, excess_aurc
from .statistics import roc_auc

__all__ = [
    "BrierScore",
    "NegativeLogLikelihood",
    "OutOfDistributionAUC",
    "PooledCalibrationError",
    "PredictionSets",
    "RiskCoverage",
]

Array = NDArray[Any]
_REPEATED = -1  # in the place of the label of an image that does not count: no class has this number


class _PooledMetric(CumulativeIterationMetric):
    """Keeps predictions and labels, and computes from all of them: these metrics are no means over images.

    Predictions are a tensor [B, ...] or a list of tensors [...]; labels class numbers [B] or [B, 1], one-hot [B, K], or
    a list of either.
    """

    def __call__(self, y_pred: Any, y: Any = None, *, repeated: Any = None, **kwargs: Any) -> Any:
        """Add a batch: predictions, labels or what the metric takes for them, and which images not to count [B]."""
        if y is None:
            raise ValueError("y: expected the labels, got None")
        predictions, labels = _batch(y_pred), _batch(y).to(_batch(y_pred).device)
        if len(predictions) != len(labels):
            raise ValueError(f"y: expected one label an image, {len(predictions)}, got {len(labels)}")
        return super().__call__(y_pred=predictions, y=labels, repeated=repeated, **kwargs)

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor | None = None, **kwargs: Any) -> list[torch.Tensor]:
        labels = class_numbers(y_pred.new_zeros(len(y_pred)) if y is None else y)
        if (repeated := kwargs.get("repeated")) is not None:
            labels[torch.as_tensor(repeated, dtype=torch.bool, device=labels.device)] = _REPEATED
        return [y_pred.double(), labels]

    def aggregate(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """The metric of all images so far, float64 [].

        Raises:
            ValueError: when there are none.
        """
        buffers = self.get_buffer()
        if buffers is None:
            raise ValueError("aggregate: expected at least one image, got none; call the metric with a batch first")
        predictions, labels = (buffer.cpu().numpy() for buffer in buffers)
        counted = labels != _REPEATED
        predictions, labels = predictions[counted], labels[counted]
        return torch.as_tensor(self._value(predictions, labels), dtype=torch.float64)

    @abstractmethod
    def _value(self, predictions: Array, labels: Array) -> Any:
        """The metric of all predictions [n, ...] and labels [n]."""


class PooledCalibrationError(_PooledMetric):
    """Expected calibration error over all images, see :func:`expected_calibration_error`.

    MONAI's ``CalibrationErrorMetric`` bins the pixels of each image and averages over images; an image with one
    prediction needs this one.

    Args:
        num_bins: number of bins of the probability.
        classwise: whether to take every class's probability (:func:`classwise_calibration_error`) instead of the
            largest one.

    Example:
        >>> metric = PooledCalibrationError()
        >>> _ = metric(torch.tensor([[0.9, 0.1], [0.1, 0.9]]), torch.tensor([0, 1]))
        >>> _ = metric(torch.tensor([[0.1, 0.9], [0.6, 0.4]]), torch.tensor([1, 1]))
        >>> round(float(metric.aggregate()), 4)
        0.225
    """

    def __init__(self, num_bins: int = 15, *, classwise: bool = False) -> None:
        super().__init__()
        self.num_bins, self.classwise = num_bins, classwise

    def _value(self, predictions: Array, labels: Array) -> Any:
        error = classwise_calibration_error if self.classwise else expected_calibration_error
        return error(labels, predictions, num_bins=self.num_bins)


class BrierScore(_PooledMetric):
    """Brier score over all images, see :func:`brier_score`.

    Example:
        >>> metric = BrierScore()
        >>> _ = metric(torch.tensor([[0.8, 0.2], [0.4, 0.6]]), torch.tensor([0, 1]))
        >>> round(float(metric.aggregate()), 4)
        0.2
    """

    def _value(self, predictions: Array, labels: Array) -> Any:
        return brier_score(labels, predictions)


class NegativeLogLikelihood(_PooledMetric):
    """Mean negative log-likelihood over all images in nats, see :func:`negative_log_likelihood`.

    Example:
        >>> metric = NegativeLogLikelihood()
        >>> _ = metric([torch.tensor([0.5, 0.5])], [torch.tensor(1)])
        >>> round(float(metric.aggregate()), 4)
        0.6931
    """

    def _value(self, predictions: Array, labels: Array) -> Any:
        return negative_log_likelihood(labels, predictions)


_RISK_STATISTICS: dict[str, Callable[..., Any]] = {
    "aurc": aurc,
    "excess_aurc": excess_aurc,
    "accuracy_at_coverage": accuracy_at_coverage,
}


class RiskCoverage(_PooledMetric):
    """Selective classification over all images, see :func:`aurc`, :func:`excess_aurc`, :func:`accuracy_at_coverage`.

    Called with probabilities [B, K] and labels, images are ranked by 1 - the largest probability. To rank them by
    another uncertainty, call it with the uncertainties [B] and, as labels, whether the class given was right [B], bool.

    Args:
        statistic: ``"aurc"``, ``"excess_aurc"`` or ``"accuracy_at_coverage"``.
        coverage: share of the images that is answered; for ``"accuracy_at_coverage"`` only.

    Raises:
        ValueError: when the statistic is unknown or the coverage is not in (0, 1]; when called with uncertainties and
            labels that are not bool, as those of a sigmoid's output are; when aggregated, if rows [B, K] are no
            probabilities.

    Example:
        >>> metric = RiskCoverage("accuracy_at_coverage", coverage=0.5)
        >>> _ = metric(torch.tensor([[0.9, 0.1], [0.4, 0.6]]), torch.tensor([0, 0]))
        >>> float(metric.aggregate())
        1.0
        >>> metric.reset()
        >>> _ = metric(torch.tensor([0.1, 0.2]), torch.tensor([False, True]))
        >>> float(metric.aggregate())
        0.0
    """

    def __init__(self, statistic: str = "aurc", *, coverage: float = 0.8) -> None:
        super().__init__()
        if statistic not in _RISK_STATISTICS:
            raise ValueError(f"statistic: expected one of {list(_RISK_STATISTICS)}, got {statistic!r}")
        if not 0 < coverage <= 1:
            raise ValueError(f"coverage: expected a number in (0, 1], such as 0.8, got {coverage}")
        self.statistic, self.coverage = statistic, coverage

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor | None = None, **kwargs: Any) -> list[torch.Tensor]:
        if y is not None and y[0].numel() == 1 == y_pred[0].numel() and y.dtype != torch.bool:
            raise ValueError(
                f"y: expected whether the class given was right, bool [B], beside uncertainties [B], got {y.dtype}; if "
                "these are probabilities p of class 1, give torch.stack([1 - p, p], 1) and the labels"
            )
        return super()._compute_tensor(y_pred, y, **kwargs)

    def _value(self, predictions: Array, labels: Array) -> Any:
        if predictions.ndim == 2 and predictions.shape[1] > 1:
            labelled_probabilities(labels, predictions)  # refuses what is none
            correct, uncertainty = predictions.argmax(1) == labels, 1 - predictions.max(1)
        else:
            correct, uncertainty = labels, predictions.reshape(len(predictions))
        options = {"coverage": self.coverage} if self.statistic == "accuracy_at_coverage" else {}
        return _RISK_STATISTICS[self.statistic](correct, uncertainty, **options)


class PredictionSets(_PooledMetric):
    """Coverage or size of prediction sets over all images, see :func:`set_coverage` and :func:`set_size`.

    Called with sets [B, K], bool, and labels.

    Args:
        statistic: ``"coverage"``, ``"size"``, or ``"class_coverage"`` for the coverage of each class [K].

    Raises:
        ValueError: when the statistic is unknown.

    Example:
        >>> metric = PredictionSets("class_coverage")
        >>> _ = metric(torch.tensor([[True, False], [True, False]]), torch.tensor([0, 1]))
        >>> metric.aggregate().tolist()
        [1.0, 0.0]
    """

    def __init__(self, statistic: str = "coverage") -> None:
        super().__init__()
        names = ("coverage", "size", "class_coverage")
        if statistic not in names:
            raise ValueError(f"statistic: expected one of {list(names)}, got {statistic!r}")
        self.statistic = statistic

    def _value(self, predictions: Array, labels: Array) -> Any:
        if self.statistic == "size":
            return set_size(predictions)
        coverage = class_set_coverage if self.statistic == "class_coverage" else set_coverage
        return coverage(labels, predictions)


class OutOfDistributionAUC(_PooledMetric):
    """Area under the ROC curve of an out-of-distribution score over all images, see :func:`roc_auc`.

    Called with scores [B], large where untypical, and whether the image is foreign [B]: 1, or 0 if of the distribution.

    Example:
        >>> metric = OutOfDistributionAUC()
        >>> _ = metric(torch.tensor([7.5, 80.0, 6.0, 7.0]), torch.tensor([0, 1, 0, 1]))
        >>> float(metric.aggregate())
        0.75
    """

    def _value(self, predictions: Array, labels: Array) -> Any:
        if predictions.size != len(predictions):
            raise ValueError(f"y_pred: expected one score an image, [B], got {list(predictions.shape)}")
        return roc_auc(labels, predictions.reshape(len(predictions)))


def class_numbers(labels: torch.Tensor) -> torch.Tensor:
    """Class numbers [B], int64, from such [B] or [B, 1] of any type, or from one-hot labels [B, K].

    Raises:
        ValueError: when they are neither.

    Example:
        >>> class_numbers(torch.tensor([[0.0, 1.0], [1.0, 0.0]])), class_numbers(torch.tensor([[2.0]]))
        (tensor([1, 0]), tensor([2]))
    """
    if labels.ndim == 2 and labels.shape[1] > 1:
        rows = labels.double()
        wrong = (rows.amax(1) != 1) | (rows.abs().sum(1) != 1)  # so that NaN is wrong too
        if bool(wrong.any()):
            raise ValueError(
                f"y: expected class numbers [B] or one-hot labels [B, K], got {int(wrong.sum())} other row(s), "
                f"the first {labels[wrong][0].tolist()}; give each image one class"
            )
        return rows.argmax(1)
    if labels.ndim not in (1, 2):
        raise ValueError(f"y: expected class numbers [B] or one-hot labels [B, K], got {list(labels.shape)}")
    return torch.from_numpy(check_labels(labels, None, len(labels), name="y")).to(labels.device)


def _batch(values: Any) -> torch.Tensor:
    """A tensor [B, ...] from one, or from the list of tensors or numbers of a decollated batch."""
    if isinstance(values, (list, tuple)):
        tensors = [torch.as_tensor(value) for value in values]
        if not tensors:
            raise ValueError("y_pred, y: expected at least one image, got an empty list")
        return torch.stack(tensors)
    tensor = torch.as_tensor(values)
    return tensor[None] if tensor.ndim == 0 else tensor
