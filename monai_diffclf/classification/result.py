# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What a user gets from a classifier: the same of every one, and what only errors or only likelihoods give."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from monai.utils import CommonKeys

from ..keys import NamedValues, OutputKeys
from .denoising_errors import DenoisingErrors

__all__ = ["Classification", "DenoisingClassification", "LikelihoodClassification", "LogitClassification"]


@dataclass(frozen=True, kw_only=True)
class Classification(ABC):
    """The classes of a batch of images, how sure they are, and what that cost.

    Args:
        predicted: predicted class [B], int64.
        probabilities: class probabilities [B, K], rows sum to 1.
        uncertainty: named uncertainties [B], see :class:`monai_diffclf.keys.UncertaintyKeys`; ``probability_margin``
            and ``probability_entropy`` of every classifier, the others as the subclass says.
        network_evaluations: network evaluations spent on each image [B], int64.
        decided: whether the guarantee holds for the class of each image [B], bool; False where draws ran out first.
        guarantee: what the class is guaranteed to be, in words.
        error_maps: mean squared epsilon error of each pixel and class [B, K, *spatial], if asked for.
    """

    predicted: torch.Tensor
    probabilities: torch.Tensor
    uncertainty: dict[str, torch.Tensor]
    network_evaluations: torch.Tensor
    decided: torch.Tensor
    guarantee: str
    error_maps: torch.Tensor | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "uncertainty", NamedValues(self.uncertainty))

    def __len__(self) -> int:
        return len(self.predicted)

    @property
    @abstractmethod
    def evidence(self) -> torch.Tensor:
        """What all of it was computed from [B, K, N]: errors of N draws, or log-likelihoods of N probes."""

    @abstractmethod
    def outputs(self) -> dict[str, Any]:
        """What an engine puts out of it: MONAI's ``pred`` and names of `OutputKeys` -> values [B, ...]."""
        common: dict[str, Any] = {
            CommonKeys.PRED: self.probabilities,
            OutputKeys.UNCERTAINTY: self.uncertainty,
            OutputKeys.NETWORK_EVALUATIONS: self.network_evaluations,
            OutputKeys.DECIDED: self.decided,
        }
        return common if self.error_maps is None else {**common, OutputKeys.ERROR_MAPS: self.error_maps}


@dataclass(frozen=True, kw_only=True)
class DenoisingClassification(Classification):
    """A `Classification` by denoising errors.

    ``uncertainty`` has what :func:`monai_diffclf.classification.vote_uncertainty` says of the votes: ``vote_variance``,
    ``vote_entropy``, ``vote_margin``, the interval ``vote_share_low`` to ``vote_share_high``, and
    ``entropy_monte_carlo`` and ``entropy_remaining``: what more draws would settle and what they would not.

    Args:
        vote_share: share of the draws won by each class [B, K], rows sum to 1.
        mean_error: weighted mean error of each class [B, K], float64.
        errors: the errors all of it was computed from.
    """

    vote_share: torch.Tensor
    mean_error: torch.Tensor
    errors: DenoisingErrors

    @property
    def evidence(self) -> torch.Tensor:
        """The errors [B, K, N]."""
        return self.errors.values

    def outputs(self) -> dict[str, Any]:
        """See `Classification.outputs`; beside these vote shares and errors."""
        return super().outputs() | {OutputKeys.VOTE_SHARE: self.vote_share, OutputKeys.ERRORS: self.errors.values}

    @property
    def log_likelihood(self) -> None:
        """None: errors have no likelihood."""
        _absent(self, "log_likelihood")

    @property
    def probe_log_likelihood(self) -> None:
        """None: errors have no likelihood."""
        _absent(self, "probe_log_likelihood")


@dataclass(frozen=True, kw_only=True)
class LogitClassification(Classification):
    """A `Classification` by a network that gives one logit a class, such as a ResNet.

    Args:
        logits: logits [B, K].
    """

    logits: torch.Tensor

    @property
    def evidence(self) -> torch.Tensor:
        """The logits [B, K, 1]."""
        return self.logits[..., None]

    def outputs(self) -> dict[str, Any]:
        """See `Classification.outputs`; there is nothing beside it."""
        return super().outputs()


@dataclass(frozen=True, kw_only=True)
class LikelihoodClassification(Classification):
    """A `Classification` by likelihood; see :func:`monai_diffclf.classification.classify_likelihood`.

    Each of the P probes of the divergence would by itself choose the class with the largest posterior. ``uncertainty``
    has what these choices say (``probe_variance``, ``probe_entropy``, ..., as of the votes of draws), and with two
    probes and more ``log_ratio_error``.

    Args:
        log_likelihood: log p(x | k) in nats [B, K], float64.
        probe_log_likelihood: the same from each probe [B, K, P].
        probe_share: share of the probes whose own estimate would choose each class [B, K], rows sum to 1.
        num_elements: elements D of one image.
    """

    log_likelihood: torch.Tensor
    probe_log_likelihood: torch.Tensor
    probe_share: torch.Tensor
    num_elements: int

    @property
    def evidence(self) -> torch.Tensor:
        """The log-likelihoods of each probe [B, K, P]."""
        return self.probe_log_likelihood

    def outputs(self) -> dict[str, Any]:
        """See `Classification.outputs`; beside these log-likelihoods and what the probes would choose."""
        return super().outputs() | {
            OutputKeys.PROBE_SHARE: self.probe_share,
            OutputKeys.LOG_LIKELIHOOD: self.log_likelihood,
            OutputKeys.PROBE_LOG_LIKELIHOOD: self.probe_log_likelihood,
        }

    @property
    def vote_share(self) -> torch.Tensor:
        """Old name of `probe_share`."""
        _deprecated(self, "vote_share", "now probe_share: probes are no draws")
        return self.probe_share

    @property
    def mean_error(self) -> torch.Tensor:
        """-2 log p(x | k) / D [B, K]: what the mean error of a denoising classifier would be; no longer used."""
        _deprecated(self, "mean_error", "-2 * log_likelihood / num_elements")
        return -2 * self.log_likelihood / self.num_elements

    @property
    def errors(self) -> None:
        """None: a likelihood has no errors."""
        _absent(self, "errors")


def _absent(result: Classification, name: str) -> None:
    _deprecated(result, name, "absent; ask isinstance(result, ...), not for None", stacklevel=4)


def _deprecated(result: Classification, name: str, words: str, stacklevel: int = 3) -> None:
    warnings.warn(f"{type(result).__name__}.{name} is {words}", DeprecationWarning, stacklevel=stacklevel)
