# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Class probabilities as numbers: checks, odds of one class against the rest, and other class shares."""

from __future__ import annotations

import numpy as np
import torch

from .._checks import check_probabilities
from ..classification.likelihood import Prior
from ..classification.likelihood import check_prior as check_shares

__all__ = ["adjust_prior"]


def adjust_prior(probabilities: torch.Tensor, prior: Prior, new_prior: Prior) -> torch.Tensor:
    """Class probabilities where classes are as frequent as ``new_prior`` says, by Bayes' rule.

    p'(k | x) is proportional to p(k | x) prior'(k) / prior(k) (Saerens, Latinne and Decaestecker 2002, equation 2.4):
    only how frequent the classes are has changed, not how their images look.

    Args:
        probabilities: class probabilities [B, K].
        prior: share of each class that they hold for [K], all above 0.
        new_prior: share of each class where they are used [K], all above 0.

    Raises:
        ValueError: when the probabilities are none, or a prior is not K positive shares with the sum 1.

    Example:
        >>> adjust_prior(torch.tensor([[0.5, 0.5], [0.1, 0.9]]), [0.5, 0.5], [0.9, 0.1])
        tensor([[0.9000, 0.1000],
                [0.5000, 0.5000]])
    """
    values = probability_array(probabilities)
    classes = values.shape[1]
    ratio = check_prior(new_prior, classes, "new_prior") / check_prior(prior, classes, "prior")
    weighted = values * ratio
    return like(weighted / weighted.sum(1, keepdims=True), probabilities)


def like(values: np.ndarray, tensor: torch.Tensor) -> torch.Tensor:
    """An array as a tensor of another one's type and device."""
    return torch.as_tensor(values, dtype=tensor.dtype, device=tensor.device)


def log_odds_parts(probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log p and log (1 - p) of each class [B, K]; the latter from the other classes, which is exact also close to 1."""
    tiny = float(np.finfo(np.float32).tiny)
    return np.log(np.maximum(probabilities, tiny)), np.log(np.maximum(sum_of_others(probabilities), tiny))


def sum_of_others(probabilities: np.ndarray) -> np.ndarray:
    """Probability of all classes but one [B, K]: 1 - p without the rounding of p close to 1."""
    classes = range(probabilities.shape[1])
    sums: np.ndarray = np.stack([np.delete(probabilities, k, axis=1).sum(1) for k in classes], axis=1)
    # Probabilities come from float32, in which several may add up to a little more than 1.
    np.clip(sums, 0.0, 1.0, out=sums)
    return sums


def probability_array(probabilities: torch.Tensor, num_classes: int | None = None) -> np.ndarray:
    """Class probabilities [B, K] as float64.

    Raises:
        TypeError: when they are no tensor.
        ValueError: when they are none, or of another number of classes than that of the fit.
    """
    if not isinstance(probabilities, torch.Tensor):
        raise TypeError(f"probabilities: expected a Tensor [B, K], got {type(probabilities).__name__}")
    values = check_probabilities(probabilities)
    if num_classes not in (None, values.shape[1]):
        raise ValueError(
            f"probabilities: expected {num_classes} classes, as in the fit, got {values.shape[1]}; is this the file of "
            "another model?"
        )
    return values


def check_prior(prior: Prior, num_classes: int, name: str = "prior") -> np.ndarray:
    """Class shares [K] as float64.

    Raises:
        ValueError: when they are not K positive numbers that sum to 1.
    """
    return np.asarray(check_shares(prior, num_classes, name).numpy())
