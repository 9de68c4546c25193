# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A cheap classifier answers where it is sure, another one the rest: the answer, and from where on it may be sure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import beta

from .._checks import check_floating, check_labels, check_number, check_probabilities
from .._patients import patient_codes
from ..keys import OutputKeys
from .result import Classification
from .stopping import check_alpha
from .vote_statistics import probability_uncertainty

__all__ = ["CascadeClassification", "CascadeFit", "Combine", "fit_cascade", "join_cascade"]

Combine = Callable[[Sequence[torch.Tensor]], torch.Tensor]
Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class CascadeClassification(Classification):
    """A `Classification` by two classifiers, one after the other.

    ``network_evaluations`` counts those of both: one of the first for every image, and what the second spent on those
    that it was given.

    Args:
        deferred: whether the second classifier was asked [B], bool; where not, the first one has answered.
        first: what the first said of all images.
        second: what the second said of the deferred ones, in their order; None where there was none.
        num_second: values of each image and class of the second, N.
    """

    deferred: torch.Tensor
    first: Classification
    second: Classification | None
    num_second: int

    @property
    def evidence(self) -> torch.Tensor:
        """The first's values, then the second's [B, K, 1 + N]; NaN where the second was not asked."""
        first = self.first.evidence
        rest = first.new_full((*first.shape[:2], self.num_second), torch.nan)
        if self.second is not None:
            rest = rest.to(self.second.evidence.dtype)
            rest[self.deferred] = self.second.evidence
        return torch.cat([first.to(rest.dtype), rest], 2)

    def outputs(self) -> dict[str, Any]:
        """See `Classification.outputs`; beside it whether the second classifier was asked."""
        own = super().outputs() | {OutputKeys.DEFERRED: self.deferred}
        # Of an explained batch, all of which the second has seen, also what a report shows of it.
        return own if self.error_maps is None or self.second is None else self.second.outputs() | own


def join_cascade(
    first: Classification,
    second: Classification | None,
    deferred: torch.Tensor,
    num_second: int,
    combine: Combine | None = None,
) -> CascadeClassification:
    """The answer of a cascade, from what both classifiers said.

    Args:
        first: of all images.
        second: of the deferred ones, in their order; None where there are none.
        deferred: which were deferred [B], bool.
        num_second: values of each image and class of the second.
        combine: makes probabilities of a deferred image from those of both, such as an
            :class:`monai_diffclf.uncertainty.Ensemble`; None takes the second's.
    """
    probabilities, predicted = first.probabilities.clone(), first.predicted.clone()
    evaluations, decided = first.network_evaluations.clone(), first.decided.clone()
    maps, guarantee = None, first.guarantee
    if second is not None:
        own, label = second.probabilities, second.predicted
        if combine is not None:
            own = _combined(combine, first.probabilities[deferred], own)
            label = own.argmax(1)
        probabilities[deferred], predicted[deferred] = own.to(probabilities), label
        evaluations[deferred] += second.network_evaluations
        decided[deferred] = second.decided
        maps = second.error_maps if bool(deferred.all()) else None
        guarantee = f"{second.guarantee}, of the second classifier alone where it was asked"
    return CascadeClassification(
        predicted=predicted,
        probabilities=probabilities,
        uncertainty=probability_uncertainty(probabilities),
        network_evaluations=evaluations,
        decided=decided,
        guarantee=guarantee,
        error_maps=maps,
        deferred=deferred,
        first=first,
        second=second,
        num_second=num_second,
    )


@dataclass(frozen=True)
class CascadeFit:
    """From where on the first classifier may answer, and what that did on validation images.

    Args:
        threshold: largest probability of the first above which it answers; 1 for never, 0 for always.
        deferred: share of the images that go to the second.
        accuracy: of ``first``, ``second`` and ``cascade``, on the images that chose the threshold.
        loss_limit: upper limit of what the cascade loses in accuracy against the second alone; negative for a gain.
        certainty: with which it is one.
    """

    threshold: float
    deferred: float
    accuracy: dict[str, float]
    loss_limit: float
    certainty: float


def fit_cascade(
    first: torch.Tensor,
    second: torch.Tensor,
    labels: torch.Tensor,
    *,
    max_loss: float = 0.01,
    deferred: float | None = None,
    certainty: float = 0.9,
    patients: Sequence[str | None] | None = None,
    combine: Combine | None = None,
) -> CascadeFit:
    """Choose from where on the first classifier may answer.

    Either by a share: the images of which the first is least sure are deferred. Or by accuracy: from the most careful
    threshold on, ever bolder ones are tried as long as the cascade loses at most ``max_loss`` against the second
    classifier on all images, at the certainty asked for. The limit of the loss is the exact upper limit of the share
    made wrong less the exact lower limit of the share put right (Clopper and Pearson 1934, half of the risk each); as
    the order is fixed before and the first failure ends it, the limit holds for the threshold that is chosen. Few
    images can show little: where nothing is lost, 100 show a loss of at most 3 %, 300 of 1 %.

    Args:
        first: probabilities of the first classifier for validation images [n, K], trained on neither.
        second: those of the second.
        labels: class of each image [n].
        max_loss: accuracy that may be lost, in (0, 1).
        deferred: share of the images to defer, in [0, 1], in place of the accuracy.
        certainty: of the limit, in (0, 1).
        patients: patient of each image [n]. One counts as made wrong if any image of hers is, as put right if all are;
            an image of an unknown one (None, NaN or empty) is alone.
        combine: what a deferred image's probabilities are made with, see `join_cascade`; the loss is then against this
            on all images.

    Raises:
        TypeError: when the probabilities are no floating point tensors.
        ValueError: when shapes or arguments do not fit, or ``combine`` gives no probabilities of the images.

    Example:
        >>> sure = torch.tensor([[0.99, 0.01]]).repeat(400, 1)
        >>> unsure = torch.tensor([[0.6, 0.4]]).repeat(100, 1)  # wrong, and the second is right
        >>> labels = torch.cat([torch.zeros(400), torch.ones(100)]).long()
        >>> second = torch.nn.functional.one_hot(labels, 2).double()
        >>> fit = fit_cascade(torch.cat([sure, unsure]), second, labels)
        >>> round(fit.threshold, 2), fit.deferred, fit.accuracy["cascade"], round(fit.loss_limit, 3)
        (0.6, 0.2, 1.0, 0.006)
    """
    ours, theirs, y, group = _checked(first, second, labels, patients)
    check_alpha(certainty, "certainty")
    answer = theirs if combine is None else _combined(combine, ours, theirs).cpu()
    sure = ours.amax(1).double().numpy()
    right = (ours.argmax(1) == y).numpy(), (answer.argmax(1) == y).numpy()
    if deferred is None:
        check_alpha(max_loss, "max_loss")
        threshold = 1.0
        for bolder in _thresholds(sure):
            if _loss_limit(*right, sure > bolder, group, certainty) > max_loss:
                break
            threshold = bolder
    else:
        share = check_number(deferred, "deferred", "a share from 0 to 1", lambda value: 0 <= value <= 1)
        count = round(share * len(sure))
        threshold = float(np.sort(sure)[count - 1]) if count else 0.0
        threshold = 1.0 if count == len(sure) else threshold
    answered = sure > threshold
    cascade = np.where(answered, *right)
    return CascadeFit(
        threshold,
        float((~answered).mean()),
        {
            name: float(each.mean())
            for name, each in zip(("first", "second", "cascade"), (*right, cascade), strict=True)
        },
        _loss_limit(*right, answered, group, certainty) if answered.any() else 0.0,
        float(certainty),
    )


def _thresholds(sure: Array) -> list[float]:
    """From careful to bold, each below what is answered from then on."""
    values = np.unique(sure)[::-1]
    return [*(float(value) for value in values[1:]), 0.0]


def _loss_limit(first: Array, second: Array, answered: Array, group: Array, certainty: float) -> float:
    """Upper limit of what is lost where the first answers."""
    lost, gained = answered & second & ~first, answered & first & ~second
    sizes = np.bincount(group)
    wrong = int((np.bincount(group, lost) > 0).sum())
    put_right = int((np.bincount(group, gained) == sizes).sum())
    count, tail = len(sizes), (1 - certainty) / 2
    upper = 1.0 if wrong == count else float(beta.ppf(1 - tail, wrong + 1, count - wrong))
    lower = 0.0 if put_right == 0 else float(beta.ppf(tail, put_right, count - put_right + 1))
    return upper - lower


def _combined(combine: Combine, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """What ``combine`` makes of both, which must be probabilities of the same images."""
    found = check_floating(combine([first, second]), "combine", "[n, K] from it", "probabilities from it")
    if found.shape != second.shape:
        raise ValueError(
            f"combine: expected probabilities {list(second.shape)} of the same images from it, got {list(found.shape)}"
        )
    if len(found):
        check_probabilities(found, name="combine")
    return found


def _checked(
    first: torch.Tensor, second: torch.Tensor, labels: torch.Tensor, patients: Sequence[str | None] | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, Array]:
    """Both probabilities and the labels on the CPU, and a number for each patient."""
    for name, values in (("first", first), ("second", second)):
        check_floating(values, name, "[n, K]", "probabilities")
    ours, theirs = first.detach().cpu(), second.detach().cpu()
    if ours.ndim != 2 or ours.shape != theirs.shape or len(ours) == 0:
        raise ValueError(
            f"first, second: expected probabilities [n, K] of the same images, got {list(ours.shape)} and "
            f"{list(theirs.shape)}"
        )
    for name, values in (("first", ours), ("second", theirs)):
        check_probabilities(values, name=name)
    y = torch.from_numpy(check_labels(labels, ours.shape[1], len(ours)))
    return ours, theirs, y, patient_codes(patients, len(y))
