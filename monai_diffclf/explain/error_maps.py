# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Where in an image one class explains it better than the others.

Maps of errors are additive: their sum over pixels is that of the errors, weighted as the inferer weights its maps, so
that a map says how much each pixel contributed. Smoothing and up-sampling keep that sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from matplotlib import colormaps
from scipy.ndimage import gaussian_filter, zoom

from .._checks import check_labels
from ..networks.map_smoothing import along_axes, smooth_map

__all__ = ["class_difference", "decision_map", "overlay", "rival_class", "smooth_map", "upsample_map"]


def class_difference(error_maps: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """How much better a class denoises each pixel than the best of the other classes [B, *spatial].

    d(u) = min_{j != k} m_j(u) - m_k(u) with m the mean squared epsilon error of a pixel: positive where class k fits
    better. With two classes it is :func:`decision_map`; with more, the best of the others is another one from pixel to
    pixel, so that the sum says nothing.

    Args:
        error_maps: error of each pixel under each class [B, K, *spatial], from `DiffusionClassifierInferer.error_maps`.
        classes: the class k to explain for each image [B].

    Raises:
        ValueError: when the shapes do not fit.

    Example:
        >>> maps = torch.tensor([[[[1.0, 2.0]], [[3.0, 1.0]]]])
        >>> class_difference(maps, torch.tensor([0])).tolist()
        [[[2.0, -1.0]]]
    """
    _check_maps(error_maps)
    index = _index("classes", classes, error_maps)
    own = error_maps.take_along_dim(index, dim=1).squeeze(1)
    others = error_maps.scatter(1, index.expand(-1, 1, *error_maps.shape[2:]), torch.inf)
    return others.min(dim=1).values - own


def decision_map(
    error_maps: torch.Tensor, predicted: torch.Tensor, *, rival: torch.Tensor | None = None
) -> torch.Tensor:
    """How much each pixel contributed to the decision for one class over one other [B, *spatial].

    d(u) = m_j(u) - m_k(u) for the class k and its rival j: positive where k fits better. Exactly additive: the mean
    over pixels is the difference of the mean errors of j and k under the inferer's ``map_weighting``. With
    ``map_weighting=None`` that is ``mean_error[j] - mean_error[k]``, by which the mean rule decides.

    The map is as smooth as the error maps are, see
    :class:`monai_diffclf.inferers.DiffusionClassifierInferer`.

    Args:
        error_maps: error of each pixel under each class [B, K, *spatial], from `DiffusionClassifierInferer.error_maps`.
        predicted: the class k to explain for each image [B].
        rival: the class j to compare it with [B]; None for that of :func:`rival_class`.

    Raises:
        ValueError: when the shapes do not fit, a class does not exist, or a class is its own rival.

    Example:
        >>> maps = torch.tensor([[[[1.0, 2.0]], [[3.0, 1.0]], [[0.0, 9.0]]]])
        >>> decision_map(maps, torch.tensor([0])).tolist()
        [[[2.0, -1.0]]]
        >>> decision_map(maps, torch.tensor([0]), rival=torch.tensor([2])).tolist()
        [[[-1.0, 7.0]]]
    """
    _check_maps(error_maps)
    own = _index("predicted", predicted, error_maps)
    other = _index("rival", rival_class(error_maps, predicted) if rival is None else rival, error_maps)
    if bool((own == other).any()):
        raise ValueError("rival: expected another class than predicted for every image")
    return (error_maps.take_along_dim(other, dim=1) - error_maps.take_along_dim(own, dim=1)).squeeze(1)


def rival_class(error_maps: torch.Tensor, predicted: torch.Tensor) -> torch.Tensor:
    """The class with the smallest mean error among the others than the predicted one [B], on the maps' device.

    Args:
        error_maps: error of each pixel under each class [B, K, *spatial], from `DiffusionClassifierInferer.error_maps`.
        predicted: the predicted class of each image [B].

    Raises:
        ValueError: when the shapes do not fit or a class does not exist.

    Example:
        >>> maps = torch.tensor([[[[1.0, 2.0]], [[3.0, 1.0]], [[0.0, 9.0]]]])
        >>> rival_class(maps, torch.tensor([0])).tolist(), rival_class(maps, torch.tensor([1])).tolist()
        ([1], [0])
    """
    _check_maps(error_maps)
    own = _index("predicted", predicted, error_maps).flatten()[:, None]
    mean = error_maps.flatten(2).mean(2, dtype=torch.float64)
    return mean.scatter(1, own, torch.inf).argmin(1)


def upsample_map(maps: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Enlarge maps to the image's size, keeping their sum: for networks that work in a latent space [B, *size].

    Linear interpolation, scaled so that what each pixel of the map holds is shared out among those of the image.

    Args:
        maps: maps [B, *spatial], 2D or 3D.
        size: the image's spatial size, at least that of the map along each axis.

    Raises:
        ValueError: when the number of axes does not fit, or a size is smaller than the map's.

    Example:
        >>> enlarged = upsample_map(torch.tensor([[[1.0, -3.0], [2.0, 4.0]]]), (7, 8))
        >>> enlarged.shape, round(float(enlarged.sum()), 5)
        (torch.Size([1, 7, 8]), 4.0)
    """
    spatial = tuple(maps.shape[1:])
    if maps.ndim not in (3, 4) or len(size) != len(spatial):
        raise ValueError(f"size: expected one for each spatial axis of maps {list(maps.shape)}, got {list(size)}")
    if any(new < old for new, old in zip(size, spatial, strict=True)):
        raise ValueError(f"size: expected at least the size of the maps, {list(spatial)}, got {list(size)}")
    shares = []
    for old, new in zip(spatial, size, strict=True):
        unit = torch.eye(old, dtype=torch.float64)[None]
        row = torch.nn.functional.interpolate(unit, size=new, mode="linear", align_corners=False)[0].T
        shares.append(row / row.sum(0))
    return along_axes(maps, shares)


def _check_maps(error_maps: torch.Tensor) -> None:
    if error_maps.ndim < 3 or error_maps.shape[1] < 2:
        raise ValueError(f"error_maps: expected [B, K, *spatial] with K of at least 2, got {list(error_maps.shape)}")


def _index(name: str, classes: torch.Tensor, error_maps: torch.Tensor) -> torch.Tensor:
    """Classes [B] as an index along the maps' class axis."""
    index = torch.from_numpy(check_labels(classes, error_maps.shape[1], len(error_maps), name=name))
    return index.to(error_maps.device).reshape(-1, *[1] * (error_maps.ndim - 1))


def overlay(
    image: npt.NDArray[Any],
    difference: npt.NDArray[Any],
    *,
    smooth: float = 0,
    size: int = 224,
    limit: float | None = None,
) -> npt.NDArray[np.float64]:
    """Paint a difference map over an image: red where the class fits better, blue where another does.

    The map's opacity follows its size, so that the image shows where there is no evidence. The scale is the map's own
    largest value: compare places within a picture, not pictures.

    Args:
        image: grey or colour image [C, H, W] in [0, 1].
        difference: map [H, W] from `class_difference` or `decision_map`.
        smooth: standard deviation of a smoothing in pixels, 0 for none: an inferer's maps are smooth already.
        size: the picture's longer side is at least this many pixels.
        limit: the difference that has the full colour, so that pictures of one limit compare; None for the largest.

    Returns:
        RGB picture [H', W', 3] in [0, 1].

    Raises:
        ValueError: when the shapes do not fit.

    Example:
        >>> overlay(np.zeros((1, 28, 28)), np.ones((28, 28))).shape
        (224, 224, 3)
    """
    if image.ndim != 3 or image.shape[0] not in (1, 3) or image.shape[1:] != difference.shape:
        raise ValueError(f"image: expected [1 or 3, H, W] with the map's size {difference.shape}, got {image.shape}")
    factor = max(1, -(-size // max(difference.shape)))
    rgb = np.clip(np.repeat(image, 3 // image.shape[0], axis=0), 0, 1)
    rgb = np.clip(zoom(rgb, (1, factor, factor), order=1), 0, 1).transpose(1, 2, 0)
    values = difference.astype(np.float64)
    smoothed = zoom(gaussian_filter(values, smooth) if smooth else values, factor, order=1)
    full = float(np.abs(smoothed).max()) if limit is None else float(limit)
    scaled = np.clip(smoothed / max(full, 1e-12), -1, 1)
    colour = colormaps["coolwarm"]((scaled + 1) / 2)[..., :3]
    opacity = 0.7 * np.abs(scaled)[..., None]
    blended: npt.NDArray[np.float64] = (1 - opacity) * rgb + opacity * colour
    return blended
