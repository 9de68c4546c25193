# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Where in an image one class explains it better than the others."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from matplotlib import colormaps
from scipy.ndimage import gaussian_filter, zoom

__all__ = ["class_difference", "overlay"]


def class_difference(error_maps: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """How much better a class denoises each pixel than the best of the other classes [B, *spatial].

    d(u) = min_{j != k} m_j(u) - m_k(u) with m the mean squared epsilon error of a pixel: positive where class k fits
    better. Summed over pixels it is, for two classes, the difference of the mean errors that the mean rule decides by.

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
    if error_maps.ndim < 3 or error_maps.shape[1] < 2:
        raise ValueError(f"error_maps: expected [B, K, *spatial] with K of at least 2, got {list(error_maps.shape)}")
    if classes.shape != error_maps.shape[:1]:
        raise ValueError(f"classes: expected one class an image, [{len(error_maps)}], got {list(classes.shape)}")
    index = classes.to(error_maps.device).long().reshape(-1, *[1] * (error_maps.ndim - 1))
    own = error_maps.take_along_dim(index, dim=1).squeeze(1)
    others = error_maps.scatter(1, index.expand(-1, 1, *error_maps.shape[2:]), torch.inf)
    return others.min(dim=1).values - own


def overlay(
    image: npt.NDArray[Any], difference: npt.NDArray[Any], *, smooth: float = 1.0, size: int = 224
) -> npt.NDArray[np.float64]:
    """Paint a difference map over an image: red where the class fits better, blue where another does.

    Single pixels of the map are noisy; it is smoothed, and its opacity follows its size, so that the image shows where
    there is no evidence. The scale is the map's own largest value: compare places within a picture, not pictures.

    Args:
        image: grey or colour image [C, H, W] in [0, 1].
        difference: map [H, W] from `class_difference`.
        smooth: standard deviation of the smoothing in pixels.
        size: the picture's longer side is at least this many pixels.

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
    smoothed = zoom(gaussian_filter(difference.astype(np.float64), smooth), factor, order=1)
    scaled = smoothed / max(float(np.abs(smoothed).max()), 1e-12)
    colour = colormaps["coolwarm"]((scaled + 1) / 2)[..., :3]
    opacity = 0.7 * np.abs(scaled)[..., None]
    blended: npt.NDArray[np.float64] = (1 - opacity) * rgb + opacity * colour
    return blended
