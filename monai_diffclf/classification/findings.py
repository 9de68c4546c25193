# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Several findings of one image: each a question of two classes, absent and present, by the same errors and rules."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from ..keys import NamedValues, OutputKeys
from .denoising_errors import DenoisingErrors
from .result import DenoisingClassification
from .vote_statistics import probability_uncertainty

__all__ = ["MultiLabelClassification", "by_finding", "check_prior", "classify_findings"]


@dataclass(frozen=True, kw_only=True)
class MultiLabelClassification(DenoisingClassification):
    """The findings of a batch of images: what has one number an image elsewhere has one a finding [B, L] here.

    Args:
        predicted: whether each finding is there [B, L], int64: 1 present, 0 absent.
        probabilities: probability that each finding is present [B, L].
        vote_share: share of the draws that vote for each finding [B, L].
        mean_error: weighted mean error of absent and present [B, L, 2], float64.
        uncertainty: named uncertainties [B, L], as `DenoisingClassification` has them of each question.
        network_evaluations: network evaluations spent on each image [B], int64.
        decided: whether the guarantee holds for each finding [B, L], bool.
        errors: the errors [B, 2 L, N]: absent and present of the first finding, of the second, and so on.
        error_maps: mean squared error of each pixel, absent and present [B, L, 2, *spatial], if asked for.
    """

    def outputs(self) -> dict[str, Any]:
        """See `DenoisingClassification.outputs`; beside these that they are of findings."""
        return super().outputs() | {OutputKeys.MULTI_LABEL: torch.ones(len(self), dtype=torch.bool)}

    @property
    def finding_maps(self) -> torch.Tensor | None:
        """Where each finding is seen [B, L, *spatial]: the error if absent less that if present; None without maps."""
        return None if self.error_maps is None else self.error_maps[:, :, 0] - self.error_maps[:, :, 1]


def by_finding(errors: DenoisingErrors) -> DenoisingErrors:
    """Errors [B, 2 L, N] as those of B L images of two classes [B L, 2, N]: the findings of an image in a row.

    Raises:
        ValueError: when they are not two a finding.

    Example:
        >>> errors = DenoisingErrors(torch.rand(5, 6, 7), timesteps=torch.arange(7), log_snr=torch.zeros(7))
        >>> by_finding(errors).values.shape
        torch.Size([15, 2, 7])
    """
    if errors.num_classes % 2:
        raise ValueError(f"errors: expected two for each finding, absent and present, got {errors.num_classes}")
    return replace(errors, values=errors.values.reshape(-1, 2, errors.num_draws))


def classify_findings(
    binary: DenoisingClassification, errors: DenoisingErrors, prior: torch.Tensor | None = None
) -> MultiLabelClassification:
    """Put the answers of all questions together.

    With a prior, log p / (1 - p) grows by log prior / (1 - prior), Bayes' rule for errors that know of none.

    Args:
        binary: the classification of :func:`by_finding`'s errors.
        errors: the errors [B, 2 L, N].
        prior: how often each finding is present [L] or [B, L], in (0, 1), given what is given; None for 1/2.
    """
    shape = (len(errors), errors.num_classes // 2)
    both, predicted = binary.probabilities, binary.predicted
    uncertainty = dict(binary.uncertainty)
    if prior is not None:
        odds = prior.to(both).expand(shape).reshape(-1)
        both = both * torch.stack([1 - odds, odds], 1)
        both = both / both.sum(1, keepdim=True)
        predicted = (both[:, 1] > both[:, 0]).long()
        uncertainty |= probability_uncertainty(both)
    return MultiLabelClassification(
        predicted=predicted.reshape(shape),
        probabilities=both[:, 1].reshape(shape),
        vote_share=binary.vote_share[:, 1].reshape(shape),
        mean_error=binary.mean_error.reshape(*shape, 2),
        uncertainty=NamedValues({name: value.reshape(shape) for name, value in uncertainty.items()}),
        network_evaluations=errors.network_evaluations,
        decided=binary.decided.reshape(shape),
        guarantee=binary.guarantee,
        errors=errors,
    )


def check_prior(prior: Any, num_findings: int, num_images: int | None = None) -> torch.Tensor | None:
    """A prior of each finding [L], or of each image and finding [B, L], as float64; None stays None.

    Args:
        prior: probabilities in (0, 1).
        num_findings: findings L.
        num_images: images B where a row for each may come.

    Raises:
        ValueError: when the numbers are not one a finding, or not between 0 and 1.

    Example:
        >>> check_prior([0.1, 0.5, 1.0], 3)
        Traceback (most recent call last):
        ValueError: prior: expected probabilities between 0 and 1, both excluded, got 1.0 for finding 2
    """
    if prior is None:
        return None
    values = torch.as_tensor(prior, dtype=torch.float64)
    shapes = [(num_findings,)] if num_images is None else [(num_findings,), (num_images, num_findings)]
    if tuple(values.shape) not in shapes:
        wanted = " or ".join(str(list(shape)) for shape in shapes)
        raise ValueError(f"prior: expected one number a finding, {wanted}, got {list(values.shape)}")
    wrong = ~((values > 0) & (values < 1))  # NaN is wrong too
    if bool(wrong.any()):
        place = tuple(wrong.nonzero()[0].tolist())
        raise ValueError(
            "prior: expected probabilities between 0 and 1, both excluded, got "
            f"{float(values[place])} for finding {place[-1]}"
        )
    return values
