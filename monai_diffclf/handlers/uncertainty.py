# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Ignite handlers of an evaluation: metrics of uncertainty, and a warning when images are unlike the validated ones."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.handlers import IgniteMetricHandler, from_engine
from monai.metrics import CumulativeIterationMetric
from monai.utils import CommonKeys
from numpy.typing import NDArray

from .._patients import known_patient
from ..classification import SURE_WHEN_LARGE
from ..engines import DiffusionClassifierEvaluator
from ..inferers import DiffusionClassifierInferer
from ..keys import NamedValues, OutputKeys
from ..metrics.cumulative import (
    BrierScore,
    NegativeLogLikelihood,
    PooledCalibrationError,
    PredictionSets,
    RiskCoverage,
    class_numbers,
)
from ..storage.uncertainty_file import load_part
from ..uncertainty.shift import SHIFT_ADVICE, ShiftTest, shift_test
from ..uncertainty.typicality import Typicality
from .dataset_collector import is_repeated
from .metric_handler import EachOnceMetricHandler
from .processes import gather

__all__ = ["ShiftWarning", "uncertainty_metrics"]


def uncertainty_metrics(
    *,
    pred: str = CommonKeys.PRED,
    label: str = CommonKeys.LABEL,
    ranking: str | None = None,
    coverage: float = 0.8,
    prediction_set: str | None = None,
) -> dict[str, IgniteMetricHandler]:
    """Handlers of the metrics of uncertainty, for ``additional_metrics`` of a MONAI evaluator.

    ``calibration_error``, ``classwise_calibration_error``, ``brier_score``, ``negative_log_likelihood``, ``aurc``,
    ``excess_aurc`` and ``accuracy_at_80`` (the per cent of ``coverage``); with prediction sets also ``set_coverage``
    and ``set_size``. They are computed after the evaluator's postprocessing, so of calibrated probabilities where that
    calibrates, and over the images of all processes, each once: those that a `DistributedSampler` repeats, to give
    every process as many, are left out. MONAI drops ``additional_metrics`` where there is no ``key_val_metric``; pass
    one of these or another.

    Args:
        pred: output key of the probabilities [K].
        label: output key of the labels: class number or one-hot.
        ranking: which of the evaluator's uncertainties ranks the images for the last three, e.g. ``"vote_entropy"`` or
            ``"probability_margin"``; None for 1 - the largest probability.
        coverage: share of the images for ``accuracy_at_...``.
        prediction_set: output key of the prediction sets [K], e.g. ``"prediction_set"``; None without.

    Example:
        >>> sorted(uncertainty_metrics(coverage=0.9, ranking="vote_entropy"))  # doctest: +NORMALIZE_WHITESPACE
        ['accuracy_at_90', 'aurc', 'brier_score', 'calibration_error', 'classwise_calibration_error', 'excess_aurc',
         'negative_log_likelihood']
    """
    predictions = from_engine([pred, label])
    ranked = predictions if ranking is None else _ranked_by(ranking, pred, label)

    def handler(metric: CumulativeIterationMetric, output: Callable[..., Any] = predictions) -> IgniteMetricHandler:
        return EachOnceMetricHandler(metric, output_transform=output, save_details=False)

    metrics = {
        "calibration_error": handler(PooledCalibrationError()),
        "classwise_calibration_error": handler(PooledCalibrationError(classwise=True)),
        "brier_score": handler(BrierScore()),
        "negative_log_likelihood": handler(NegativeLogLikelihood()),
        "aurc": handler(RiskCoverage("aurc"), ranked),
        "excess_aurc": handler(RiskCoverage("excess_aurc"), ranked),
        f"accuracy_at_{100 * coverage:g}": handler(RiskCoverage("accuracy_at_coverage", coverage=coverage), ranked),
    }
    if prediction_set is not None:
        sets = from_engine([prediction_set, label])
        metrics["set_coverage"] = handler(PredictionSets("coverage"), sets)
        metrics["set_size"] = handler(PredictionSets("size"), sets)
    return metrics


def _ranked_by(name: str, pred: str, label: str) -> Callable[[Any], tuple[list[float], list[bool]]]:
    """Function from an engine's output to uncertainties and whether the class given was right."""
    sign = -1.0 if name in SURE_WHEN_LARGE else 1.0

    def transform(output: Any) -> tuple[list[float], list[bool]]:
        items = cast("list[Mapping[str, Any]]", output)
        found = [NamedValues(item.get(OutputKeys.UNCERTAINTY, {})) for item in items]
        if missing := [uncertainty for uncertainty in found if name not in uncertainty]:
            raise ValueError(
                f"ranking: expected one of the evaluator's uncertainties, {sorted(missing[0])}, got {name!r}"
            )
        truth = [int(class_numbers(torch.as_tensor(item[label]).reshape(1, -1))) for item in items]
        right = [int(torch.as_tensor(i[pred]).argmax()) == y for i, y in zip(items, truth, strict=True)]
        return [sign * float(uncertainty[name]) for uncertainty in found], right

    return transform


class _Item(NamedTuple):
    """An image's patient and errors [K, N]."""

    patient: str
    values: NDArray[np.float32]


class ShiftWarning:
    """Ignite handler: after an evaluation, warn when its images differ from those the model was validated on.

    For a `DiffusionClassifierEvaluator` without a stopping rule, whose output holds the errors of all draws; no labels
    are needed. The errors of all images of all processes are tested together with
    :func:`monai_diffclf.uncertainty.shift_test`, whole ``patient``s of the batch at a time where they are known. The
    first process raises a `UserWarning` that says what to do.

    Args:
        typicality: what :func:`monai_diffclf.uncertainty.fit_typicality` gave, or the path of a file of
            :func:`monai_diffclf.storage.save_uncertainty`.
        rule: the inferer's rule, to read a file; not needed otherwise.
        provenance: what makes the errors, see :func:`monai_diffclf.storage.load_uncertainty`; the warning calls classes
            by the names under ``classes``.
        alpha: level of the test.
        output: output key of the errors [K, N].

    Raises:
        ValueError: when the evaluation starts, if its inferer has a stopping rule or other draws than the fit.
    """

    def __init__(
        self,
        typicality: Typicality | str | os.PathLike[str],
        *,
        rule: str | None = None,
        provenance: Mapping[str, Any] | None = None,
        alpha: float = 0.01,
        output: str = OutputKeys.ERRORS,
    ) -> None:
        self.typicality = load_part("typicality", typicality, Typicality, rule, provenance)
        self.alpha, self.output = alpha, output
        self.class_names = (provenance or {}).get("classes")
        self.result: ShiftTest | None = None
        """The test of the last evaluation, None before."""
        self._items: list[_Item] = []
        self._seen = 0

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, self._test)

    def _start(self, engine: Engine) -> None:
        self._items, self._seen, self.result = [], 0, None
        if isinstance(engine, DiffusionClassifierEvaluator):
            self._check(cast(DiffusionClassifierInferer, engine.inferer))

    def _check(self, inferer: DiffusionClassifierInferer) -> None:
        """Refuse draws that cannot be compared before any is made; errors alone do not tell their noise levels."""
        if inferer.stopping is not None:
            raise ValueError(
                f"inferer: expected one without a stopping rule, got {type(inferer.stopping).__name__}; the test of a "
                "shift needs all draws"
            )
        self.typicality.describe(inferer.errors_from_values(torch.zeros(0, inferer.num_classes, inferer.num_draws), 1))

    def _collect(self, engine: Engine) -> None:
        sampler = getattr(engine.state.dataloader, "sampler", None)
        for source, result in zip(cast(Any, engine.state.batch), cast(Any, engine.state.output), strict=True):
            if not is_repeated(self._seen, sampler):
                # A copy of the numbers alone: a view would keep its batch, and on a GPU its memory.
                values = torch.as_tensor(result[self.output]).detach().float().cpu().numpy().copy()
                self.add(values, known_patient(source.get("patient")))
            self._seen += 1

    def add(self, values: NDArray[np.float32], patient: str = "") -> None:
        """Take an image into the test: its errors [K, N]."""
        self._items.append(_Item(patient, values))

    def _test(self, engine: Engine) -> None:
        self.test()

    def test(self) -> None:
        """Test the images taken so far, and begin anew.

        Warns:
            UserWarning: when they differ from those of the validation.
        """
        items, self._items = gather(self._items), []
        if not items:  # none could be read
            return
        # In an order of their own, so that the permutations do not depend on the loader or the number of processes.
        items.sort(key=lambda item: (item.patient, item.values.tobytes()))
        values = torch.from_numpy(np.stack([item.values for item in items]))
        patients = [item.patient for item in items]
        self.result = shift_test(
            self.typicality, values, alpha=self.alpha, groups=patients, class_names=self.class_names
        )
        if self.result.detected and idist.get_rank() == 0:
            warnings.warn(f"{self.result.message} {SHIFT_ADVICE}", UserWarning, stacklevel=2)
