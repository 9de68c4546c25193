# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""From class likelihoods to a class: Bayes' rule, with any prior."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from .._checks import check_labels
from ..keys import UncertaintyKeys
from .result import LikelihoodClassification
from .rules import check_temperature
from .vote_statistics import probability_uncertainty, probe_uncertainty

__all__ = ["bits_per_dimension", "check_prior", "classify_likelihood", "empirical_prior", "marginal_log_likelihood"]

Prior = Sequence[float] | torch.Tensor


def classify_likelihood(
    log_likelihood: torch.Tensor,
    *,
    num_elements: int,
    prior: Prior | None = None,
    temperature: float = 1.0,
    network_evaluations: int | torch.Tensor = 0,
) -> LikelihoodClassification:
    """Classify images from log p(x | k): p(k | x) is proportional to p(x | k)^(1 / temperature) prior(k).

    ``uncertainty`` has, of the posterior, ``probability_margin`` (the largest probability less the second) and
    ``probability_entropy`` in nats; of the P probes of the divergence, each of which would choose the class with the
    largest posterior of its own estimate, how they split (``probe_variance``, ``probe_entropy``, ...); and with two
    probes and more ``log_ratio_error``: the standard error, over the probes, of the log-ratio of the two most probable
    classes.

    Args:
        log_likelihood: log p(x | k) in nats, of each probe [B, K, P] or one for all [B, K].
        num_elements: elements D of one image.
        prior: shares of the classes [K]; None for equal ones.
        temperature: divides the log-likelihoods; likelihoods of whole images are overconfident, fit it on validation.
        network_evaluations: network evaluations spent on each image, one number or [B].

    Raises:
        ValueError: when the log-likelihoods are not finite or of the wrong shape, or prior or temperature is none.

    Example:
        >>> result = classify_likelihood(torch.tensor([[-10.0, -11.0]]), num_elements=4, prior=[0.2, 0.8])
        >>> result.predicted.tolist(), [round(p, 3) for p in result.probabilities[0].tolist()]
        ([1], [0.405, 0.595])
    """
    values = _check_values(log_likelihood)
    check_temperature(temperature)
    images, classes, probes = values.shape
    log_prior = check_prior(prior, classes).log().to(values.device)
    each = values / temperature + log_prior[:, None]
    log_posterior = (each.mean(2)).log_softmax(1)
    probabilities = log_posterior.exp()
    probe_share = torch.nn.functional.one_hot(each.argmax(1), classes).double().mean(1).float()
    uncertainty = probability_uncertainty(probabilities) | probe_uncertainty(probe_share, probes)
    if probes > 1:
        top = log_posterior.topk(2, dim=1).indices
        both = values.gather(1, top[:, :, None].expand(-1, -1, probes))
        uncertainty[UncertaintyKeys.LOG_RATIO_ERROR] = (both[:, 0] - both[:, 1]).std(1) / math.sqrt(probes)
    return LikelihoodClassification(
        predicted=log_posterior.argmax(1),
        probabilities=probabilities,
        uncertainty=uncertainty,
        network_evaluations=torch.as_tensor(network_evaluations, device=values.device).long().expand(images),
        decided=torch.ones(images, dtype=torch.bool, device=values.device),
        guarantee="likelihood",
        log_likelihood=values.mean(2),
        probe_log_likelihood=values,
        probe_share=probe_share,
        num_elements=num_elements,
    )


def _check_values(log_likelihood: torch.Tensor) -> torch.Tensor:
    values = log_likelihood.double()
    values = values[:, :, None] if values.ndim == 2 else values
    if values.ndim != 3 or values.shape[1] < 2 or values.shape[2] < 1:
        raise ValueError(
            f"log_likelihood: expected shape [B, K] or [B, K, P], K >= 2, got {list(log_likelihood.shape)}"
        )
    if not bool(torch.isfinite(values).all()):
        bad = (~torch.isfinite(values)).flatten(1).any(1).nonzero().flatten().tolist()
        raise ValueError(f"log_likelihood: expected finite values, got NaN or infinity for image(s) {bad[:10]}")
    return values


def check_prior(prior: Prior | None, num_classes: int, name: str = "prior") -> torch.Tensor:
    """Class shares [K] as float64; equal ones for None.

    Raises:
        ValueError: when they are not K positive numbers that sum to 1.
    """
    if prior is None:
        return torch.full((num_classes,), 1 / num_classes, dtype=torch.float64)
    if isinstance(prior, str):
        raise ValueError(f"{name}: expected None for equal shares or K numbers, got {prior!r}; see empirical_prior")
    shares = torch.as_tensor(prior, dtype=torch.float64).detach().cpu()
    if shares.shape != (num_classes,) or not bool((shares > 0).all()) or not abs(float(shares.sum()) - 1) < 1e-3:
        got = shares.flatten().numpy().round(4).tolist()
        raise ValueError(f"{name}: expected {num_classes} positive class shares that sum to 1, got {got}")
    return shares / shares.sum()


def empirical_prior(labels: torch.Tensor | Sequence[int], num_classes: int) -> list[float]:
    """Shares of the classes among labels, each with one image added, so that none is 0 (Laplace).

    Args:
        labels: class indices 0 to K - 1.
        num_classes: number of classes K.

    Raises:
        ValueError: when a label is out of range.

    Example:
        >>> empirical_prior([0, 0, 0, 1, 0, 0], 2)
        [0.75, 0.25]
    """
    vector = torch.from_numpy(check_labels(labels, num_classes, len(labels)))
    counts = torch.bincount(vector, minlength=num_classes).double() + 1
    return [float(share) for share in counts / counts.sum()]


def marginal_log_likelihood(log_likelihood: torch.Tensor, prior: Prior | None = None) -> torch.Tensor:
    """log p(x) = log sum_k prior(k) p(x | k) of images of any class [B], float64.

    Args:
        log_likelihood: log p(x | k) in nats [B, K].
        prior: shares of the classes [K]; None for equal ones.

    Example:
        >>> marginal_log_likelihood(torch.tensor([[-3.0, -3.0]])).tolist()
        [-3.0]
    """
    log_prior = check_prior(prior, log_likelihood.shape[1]).log().to(log_likelihood.device)
    return (log_likelihood.double() + log_prior).logsumexp(1)


def bits_per_dimension(
    log_likelihood: torch.Tensor, num_elements: int, *, bin_width: float | None = None
) -> torch.Tensor:
    """Negative log-likelihood in bits per element, of the shape given.

    -(log p(x) + D log w) / (D log 2), where w is the width of an intensity level on the scale of the images: with it
    the density of dequantised images becomes a probability of discrete ones (Theis et al. 2016, section 3.1),
    comparable with what is published for images of as many levels.

    Args:
        log_likelihood: log density in nats.
        num_elements: elements D of one image.
        bin_width: w, 2 / 255 for 8-bit images scaled to [-1, 1]; None if ``log_likelihood`` is already that of
            discrete images, as with a ``dequantization``.

    Example:
        >>> bits_per_dimension(torch.tensor([-math.log(256.0)], dtype=torch.float64), 1).tolist()
        [8.0]
        >>> uniform = torch.tensor(math.log(0.5), dtype=torch.float64)  # on [-1, 1]
        >>> float(bits_per_dimension(uniform, 1, bin_width=2 / 256))
        8.0
    """
    shift = 0.0 if bin_width is None else math.log(bin_width)
    return -(log_likelihood / num_elements + shift) / math.log(2)
