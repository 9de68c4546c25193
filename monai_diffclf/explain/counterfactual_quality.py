# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""How good counterfactuals are: do they flip the class, change little, in the right place, and look real.

Most functions give one number an image, so that `bootstrap_interval` can say how far a mean is to be trusted.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from monai.metrics import FIDMetric, SSIMMetric
from numpy.typing import ArrayLike, NDArray

from ..metrics import Interval, bootstrap_interval
from .counterfactual_result import Counterfactuals
from .masks import dilate_mask

__all__ = [
    "counterfactual_quality",
    "energy_inside",
    "flip_rate",
    "frechet_distance",
    "l1_distance",
    "sparsity",
    "structural_similarity",
]


def flip_rate(flipped: ArrayLike, *, weights: ArrayLike | None = None) -> NDArray[np.float64] | float:
    """Validity: the share of counterfactuals that a classifier takes for their target class.

    Args:
        flipped: whether it does [N].
        weights: how often each image counts [R, N], as `bootstrap_interval` gives them.

    Returns:
        the share, or one for each row of ``weights`` [R].

    Raises:
        ValueError: when there is no image, or a value is not 0 or 1.

    Example:
        >>> flip_rate([True, True, False, True])
        0.75
    """
    array = np.asarray(flipped, dtype=np.float64)
    if array.ndim != 1 or len(array) == 0 or not np.isin(array, (0, 1)).all():
        raise ValueError(f"flipped: expected one of True and False for each image, [N], got {list(array.shape)} values")
    return _mean(array, weights)


def l1_distance(images: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Proximity: mean of |images - others| over channels and pixels [B], in the images' units.

    Of image and factual it is the identity drift, `Counterfactuals.drift`.

    Args:
        images: images [B, C, *spatial].
        others: images of the same shape.

    Raises:
        ValueError: when the shapes differ.

    Example:
        >>> l1_distance(torch.zeros(1, 1, 2, 2), torch.tensor([[[[1.0, 0.0], [0.0, 1.0]]]])).item()
        0.5
    """
    _same_shape(images, others)
    return (images - others).abs().flatten(1).mean(1)


def structural_similarity(images: torch.Tensor, others: torch.Tensor, *, data_range: float = 2.0) -> torch.Tensor:
    """Proximity: structural similarity index [B] (Wang et al. 2004), by `monai.metrics.SSIMMetric`.

    Gaussian window of 11 pixels, or the largest odd number that an image smaller than that has room for.

    Args:
        images: images [B, C, *spatial], 2D or 3D.
        others: images of the same shape.
        data_range: highest minus lowest possible value; 2 for images in [-1, 1].

    Raises:
        ValueError: when the shapes differ, or the range is not positive.

    Example:
        >>> image = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
        >>> round(structural_similarity(image, image).item(), 6)
        1.0
    """
    _same_shape(images, others)
    if not data_range > 0:
        raise ValueError(f"data_range: expected a positive number, got {data_range!r}")
    window = min(11, *((size - 1) // 2 * 2 + 1 for size in images.shape[2:]))
    metric = SSIMMetric(images.ndim - 2, data_range=data_range, win_size=window, reduction="none")
    similarity = cast(torch.Tensor, metric(images, others))
    return similarity.reshape(len(images), -1).mean(1)


def sparsity(images: torch.Tensor, others: torch.Tensor, *, tolerance: float = 0.05) -> torch.Tensor:
    """Sparsity: the share of pixels that were left alone [B]; 1 where nothing changed.

    Args:
        images: images [B, C, *spatial].
        others: images of the same shape.
        tolerance: largest |change|, in any channel, of a pixel that counts as left alone, in the images' units.

    Raises:
        ValueError: when the shapes differ, or the tolerance is negative.

    Example:
        >>> sparsity(torch.zeros(1, 1, 2, 2), torch.tensor([[[[1.0, 0.0], [0.04, 0.0]]]])).item()
        0.75
    """
    _same_shape(images, others)
    if not tolerance >= 0:
        raise ValueError(f"tolerance: expected 0 or more, got {tolerance!r}")
    return ((images - others).abs().amax(1) <= tolerance).flatten(1).double().mean(1)


def energy_inside(differences: torch.Tensor, masks: torch.Tensor, *, dilation: float = 2.0) -> torch.Tensor:
    """Localisation: the share of the squared change that lies inside a dilated mask [B]; 0 where nothing changed.

    Args:
        differences: signed differences [B, C, *spatial], such as `Counterfactuals.difference`.
        masks: masks of where the change belongs [B, 1, *spatial]; what is not 0 is inside.
        dilation: distance by which masks are grown, in pixels.

    Raises:
        ValueError: when the shapes do not fit, or a mask is empty.

    Example:
        >>> difference = torch.tensor([[[[2.0, 0.0, 0.0, 1.0]]]])
        >>> energy_inside(difference, torch.tensor([[[[1, 0, 0, 0]]]]), dilation=1).item()
        0.8
    """
    if differences.ndim not in (4, 5) or masks.shape != (len(differences), 1, *differences.shape[2:]):
        raise ValueError(
            f"masks: expected one channel for each difference, {list(differences.shape)} without its channels, got "
            f"{list(masks.shape)}"
        )
    if bool((empty := ~(masks != 0).flatten(1).any(1)).any()):
        rows = empty.nonzero().flatten().tolist()[:10]
        raise ValueError(
            f"masks: expected a place for each change, got an empty mask for image(s) {rows}; leave them out"
        )
    energy = differences.double().square()
    inside = (energy * dilate_mask(masks, dilation).to(energy.device)).flatten(1).sum(1)
    return inside / energy.flatten(1).sum(1).clamp(min=torch.finfo(torch.float64).tiny)


def frechet_distance(features: torch.Tensor, reference: torch.Tensor) -> float:
    """Realism: Frechet distance between two sets of features (Heusel et al. 2017), by `monai.metrics.FIDMetric`.

    |mu_a - mu_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)) with means mu and covariances S. Any network's features do, such
    as the baseline's before its last layer; distances are comparable within the same features only. Few images bias it
    upwards: compare sets of the same size, and take real images against real images for scale.

    Args:
        features: features of the counterfactuals [n, D].
        reference: features of real images of the target class [m, D].

    Raises:
        ValueError: when the shapes do not fit, a set has fewer than 2 images, or a value is not finite.

    Example:
        >>> features = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]])
        >>> round(frechet_distance(features, features + torch.tensor([3.0, 0.0])), 3)
        9.0
    """
    if features.ndim != 2 or reference.ndim != 2 or features.shape[1] != reference.shape[1]:
        raise ValueError(
            f"features: expected [n, D] and [m, D], got {list(features.shape)} and {list(reference.shape)}"
        )
    if min(len(features), len(reference)) < 2:
        raise ValueError(f"features: expected at least 2 images in both sets, got {len(features)} and {len(reference)}")
    if not bool(torch.isfinite(features).all() and torch.isfinite(reference).all()):
        raise ValueError("features: expected finite values, got NaN or infinity")
    a, b = features.detach().cpu().double(), reference.detach().cpu().double()
    if a.shape[1] == 1:  # FIDMetric drops the axes of a single covariance
        return float((a.mean() - b.mean()) ** 2 + (a.std() - b.std()) ** 2)
    return max(0.0, float(FIDMetric()(a, b)))


def counterfactual_quality(
    pairs: Counterfactuals,
    *,
    masks: torch.Tensor | None = None,
    dilation: float = 2.0,
    data_range: float = 2.0,
    tolerance: float = 0.05,
    **options: Any,
) -> dict[str, Interval]:
    """Metrics of some counterfactuals, with bootstrap intervals over the images.

    ``flip_rate`` and ``flip_rate_baseline`` where a classifier judged; ``l1``, ``ssim`` and ``sparsity`` between image
    and counterfactual; ``drift``, of the factual from the image; ``drift_ratio``, mean drift over mean effect: how much
    of what one sees is the editing; with masks ``energy_inside`` of the difference and ``effect_inside`` of factual
    minus counterfactual, over the images whose mask is not empty.

    Args:
        pairs: the counterfactuals.
        masks: where the change belongs [B, 1, *spatial], or None.
        dilation: see `energy_inside`.
        data_range: see `structural_similarity`.
        tolerance: see `sparsity`.
        options: further arguments of `bootstrap_interval`: ``num_resamples``, ``confidence``, ``seed``, ``groups`` (the
            latter not together with masks of which some are empty).

    Raises:
        ValueError: when the shapes do not fit.

    Example:
        >>> image, changed = torch.zeros(3, 1, 16, 16), torch.zeros(3, 1, 16, 16)
        >>> changed[..., 4:8, 4:8] = 1
        >>> pairs = Counterfactuals(image, image, changed, torch.zeros(3).long(), torch.ones(3).long(),
        ...     drifted=torch.zeros(3).bool(), guidance=torch.ones(3), flipped=torch.tensor([True, True, False]))
        >>> quality = counterfactual_quality(pairs, masks=changed, num_resamples=100)
        >>> round(quality["flip_rate"].value, 3), quality["sparsity"].value, quality["energy_inside"].value
        (0.667, 0.9375, 1.0)
    """
    results: dict[str, Interval] = {}
    for name, flips in (("flip_rate", pairs.flipped), ("flip_rate_baseline", pairs.flipped_baseline)):
        if flips is not None:
            results[name] = bootstrap_interval(flip_rate, flips.cpu().numpy(), **options)
    effect = l1_distance(pairs.factual, pairs.counterfactual)
    columns = {
        "l1": l1_distance(pairs.image, pairs.counterfactual),
        "ssim": structural_similarity(pairs.image, pairs.counterfactual, data_range=data_range),
        "sparsity": sparsity(pairs.image, pairs.counterfactual, tolerance=tolerance),
        "drift": pairs.drift,
    }
    for name, column in columns.items():
        results[name] = bootstrap_interval(_mean, _numpy(column), **options)
    results["drift_ratio"] = bootstrap_interval(_ratio, _numpy(pairs.drift), _numpy(effect), **options)
    if masks is not None and bool((some := (masks != 0).flatten(1).any(1).to(pairs.image.device)).any()):
        where = masks.to(pairs.image.device)[some]
        for name, change in (("energy_inside", pairs.difference), ("effect_inside", pairs.effect)):
            shares = energy_inside(change[some], where, dilation=dilation)
            results[name] = bootstrap_interval(_mean, _numpy(shares), **options)
    return results


def _mean(values: NDArray[np.float64], weights: ArrayLike | None = None) -> NDArray[np.float64] | float:
    if weights is None:
        return float(values.mean())
    rows = np.asarray(weights, dtype=np.float64)
    means: NDArray[np.float64] = rows @ values / rows.sum(1)
    return means


def _ratio(
    above: NDArray[np.float64], below: NDArray[np.float64], weights: ArrayLike | None = None
) -> NDArray[np.float64] | float:
    ratio: NDArray[np.float64] | float = _mean(above, weights) / np.maximum(_mean(below, weights), 1e-12)
    return ratio


def _numpy(column: torch.Tensor) -> NDArray[np.float64]:
    array: NDArray[np.float64] = column.detach().cpu().double().numpy()
    return array


def _same_shape(images: torch.Tensor, others: torch.Tensor) -> None:
    if images.ndim not in (4, 5) or images.shape != others.shape:
        raise ValueError(
            f"others: expected the images' shape, [B, C, *spatial], 2D or 3D, got {list(others.shape)} for images of "
            f"shape {list(images.shape)}"
        )
