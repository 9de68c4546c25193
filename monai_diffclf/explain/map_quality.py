# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""How good a map is: against a mask, against a classifier, and against itself.

All functions take maps [B, *spatial] in which a larger value means more evidence for the class, from any method, and
give one number an image [B], float64, so that :func:`monai_diffclf.metrics.bootstrap_interval` can be asked for their
mean.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.integrate import trapezoid
from scipy.ndimage import gaussian_filter
from scipy.stats import rankdata
from sklearn.metrics import average_precision_score
from torch import nn

from .._checks import check_integer, check_labels

__all__ = [
    "FaithfulnessAUC",
    "deletion_insertion",
    "map_average_precision",
    "map_iou",
    "map_rank_correlation",
    "pointing_game",
    "randomise_weights",
]

FloatArray = NDArray[np.float64]
Network = TypeVar("Network", bound=nn.Module)


class FaithfulnessAUC(NamedTuple):
    """Areas under the deletion and insertion curves [B] each, in the unit of the score."""

    deletion: FloatArray
    insertion: FloatArray


def pointing_game(maps: ArrayLike | torch.Tensor, masks: ArrayLike | torch.Tensor) -> FloatArray:
    """Whether the highest pixel of a map lies in the mask: 1 or 0 [B] (Zhang et al. 2018, section 4.2).

    Where several pixels share the highest value, the share of them that lies in the mask, so that a constant map earns
    what a random point would. No tolerance around the mask: dilate the mask for one.

    Args:
        maps: maps [B, *spatial].
        masks: masks [B, *spatial]; what is not 0 is inside.

    Raises:
        ValueError: when the shapes differ, a map is not finite, or a mask is empty or full.

    Example:
        >>> pointing_game([[[0.1, 0.9], [0.2, 0.3]]], [[[0, 1], [0, 1]]]).tolist()
        [1.0]
    """
    flat, inside = _pairs(maps, masks)
    highest = flat == flat.max(1, keepdims=True)
    return np.asarray((highest & inside).sum(1) / highest.sum(1))


def map_average_precision(maps: ArrayLike | torch.Tensor, masks: ArrayLike | torch.Tensor) -> FloatArray:
    """Average precision of a map as a detector of the mask's pixels [B], in (0, 1] (scikit-learn's).

    A map at random has about the share of pixels that the mask covers.

    Args:
        maps: maps [B, *spatial].
        masks: masks [B, *spatial]; what is not 0 is inside.

    Raises:
        ValueError: when the shapes differ, a map is not finite, or a mask is empty or full.

    Example:
        >>> map_average_precision([[[0.1, 0.9], [0.2, 0.3]]], [[[0, 1], [0, 1]]]).tolist()
        [1.0]
    """
    flat, inside = _pairs(maps, masks)
    return np.asarray([average_precision_score(m, row) for row, m in zip(flat, inside, strict=True)], dtype=np.float64)


def map_iou(
    maps: ArrayLike | torch.Tensor, masks: ArrayLike | torch.Tensor, *, fraction: float | None = None
) -> FloatArray:
    """Intersection over union of the mask and the highest pixels of a map [B], in [0, 1].

    Args:
        maps: maps [B, *spatial].
        masks: masks [B, *spatial]; what is not 0 is inside.
        fraction: share of the image's pixels that is taken, in (0, 1), with all that are level with the last of them;
            None takes for every map the threshold that fits its mask best: what the map could give at most.

    Raises:
        ValueError: when ``fraction`` is out of range, the shapes differ, a map is not finite, or a mask is empty or
            full.

    Example:
        >>> maps, masks = [[[0.1, 0.9], [0.2, 0.3]]], [[[0, 1], [0, 1]]]
        >>> map_iou(maps, masks).tolist(), map_iou(maps, masks, fraction=0.25).tolist()
        ([1.0], [0.5])
    """
    if fraction is not None and not 0 < fraction < 1:
        raise ValueError(f"fraction: expected a number between 0 and 1, or None for the best, got {fraction!r}")
    flat, inside = _pairs(maps, masks)
    order = np.argsort(-flat, axis=1, kind="stable")
    values, hits = np.take_along_axis(flat, order, 1), np.take_along_axis(inside, order, 1).cumsum(1)
    taken = np.arange(1, flat.shape[1] + 1)
    iou = hits / (taken + inside.sum(1, keepdims=True) - hits)
    # Pixels of equal value are above a threshold together or not at all.
    last = np.ones_like(inside)
    last[:, :-1] = values[:, :-1] != values[:, 1:]
    if fraction is None:
        return np.asarray(np.where(last, iou, 0.0).max(1))
    count = max(1, round(fraction * flat.shape[1]))
    chosen = (last & (taken >= count)).argmax(1)
    return np.asarray(iou[np.arange(len(iou)), chosen])


def deletion_insertion(
    images: torch.Tensor,
    maps: torch.Tensor,
    classify: Callable[[torch.Tensor], torch.Tensor],
    *,
    classes: torch.Tensor,
    steps: int = 16,
    baseline: str = "blur",
) -> FaithfulnessAUC:
    """Areas under the curves of the class's score as pixels go or come, the highest of the map first.

    Petsiuk et al. (2018), section 3.2: deletion replaces the image's pixels by a baseline without evidence (a small
    area is good: the evidence was found first), insertion puts them into the baseline (a large area is good).

    Args:
        images: images [B, C, *spatial].
        maps: maps [B, *spatial], larger for more evidence of the class.
        classify: from images [n, C, *spatial] to scores [n, K], such as probabilities.
        classes: class that each map explains [B].
        steps: steps from the first pixel to the last, at least 2.
        baseline: ``"blur"`` (Gaussian of an eighth of the shortest side) or ``"mean"`` (of each image and channel).

    Raises:
        ValueError: when an argument is unknown or out of range, or shapes do not fit.

    Example:
        >>> image = torch.zeros(1, 1, 8, 8)
        >>> image[..., 2, 3] = 1.0
        >>> def brightest(x):
        ...     top = x.flatten(1).amax(1)
        ...     return torch.stack([1 - top, top], 1)
        >>> one = torch.tensor([1])
        >>> areas = deletion_insertion(image, image[:, 0], brightest, classes=one, steps=8, baseline="mean")
        >>> bool(areas.deletion[0] < 0.2), bool(areas.insertion[0] > 0.8)
        (True, True)
    """
    if images.ndim not in (4, 5) or maps.shape != (len(images), *images.shape[2:]):
        raise ValueError(f"maps: expected [B, *spatial] of the images {list(images.shape)}, got {list(maps.shape)}")
    label = torch.from_numpy(check_labels(classes, None, len(images), name="classes")).to(images.device)[:, None]
    steps = check_integer(steps, "steps", 2)
    empty = _without_evidence(images, baseline)
    flat = maps.detach().flatten(1).to(images.device)
    if not bool(torch.isfinite(flat).all()):
        raise ValueError("maps: expected finite values, got NaN or infinity")
    rank = flat.argsort(dim=1, descending=True, stable=True).argsort(dim=1).reshape(maps.shape)[:, None]

    def score(changed: torch.Tensor) -> FloatArray:
        found = classify(changed).detach().to(label.device).gather(1, label)[:, 0]
        return np.asarray(found.double().cpu().numpy())

    areas = []
    for before, after in ((images, empty), (empty, images)):
        chosen = (rank < round(step * flat.shape[1] / steps) for step in range(steps + 1))
        curve = np.stack([score(torch.where(mask, after, before)) for mask in chosen])
        areas.append(np.asarray(trapezoid(curve, dx=1 / steps, axis=0)))
    return FaithfulnessAUC(*areas)


def _without_evidence(images: torch.Tensor, baseline: str) -> torch.Tensor:
    """What deleted pixels become [B, C, *spatial]."""
    spatial = images.shape[2:]
    if baseline == "mean":
        return images.flatten(2).mean(2).reshape(*images.shape[:2], *[1] * len(spatial)).expand_as(images)
    if baseline == "blur":
        sigma = (0, 0, *[min(spatial) / 8] * len(spatial))
        return torch.from_numpy(gaussian_filter(images.detach().cpu().numpy(), sigma)).to(images)
    raise ValueError(f"baseline: expected 'blur' or 'mean', got {baseline!r}")


def map_rank_correlation(maps_a: ArrayLike | torch.Tensor, maps_b: ArrayLike | torch.Tensor) -> FloatArray:
    """Spearman's rank correlation of two maps of the same image [B], in [-1, 1]; 0 where a map is constant.

    Of maps made with two seeds it is their repeatability: 1 is best. Of the maps of a network and of one with random
    weights (:func:`randomise_weights`) it is the sanity check of Adebayo et al. (2018): near 0 is best, as near 1 means
    that the map shows the image, not what the network has learned.

    Args:
        maps_a: maps [B, *spatial].
        maps_b: maps [B, *spatial].

    Raises:
        ValueError: when the shapes differ or a map is not finite.

    Example:
        >>> map_rank_correlation([[[1.0, 2.0], [3.0, 4.0]]], [[[1.0, 4.0], [9.0, 16.0]]]).round(6).tolist()
        [1.0]
    """
    a, b = _rows("maps_a", maps_a), _rows("maps_b", maps_b)
    first, second = list(np.shape(maps_a)), list(np.shape(maps_b))
    if first != second:
        raise ValueError(f"maps_b: expected the shape of maps_a, {first}, got {second}")
    ranks = [rankdata(rows, axis=1) for rows in (a, b)]
    a, b = (rank - rank.mean(1, keepdims=True) for rank in ranks)
    size = np.sqrt((a**2).sum(1) * (b**2).sum(1))
    return np.asarray(np.where(size > 0, (a * b).sum(1) / np.where(size > 0, size, 1.0), 0.0))


def randomise_weights(network: Network, generator: torch.Generator) -> Network:
    """A copy of a network that has learned nothing: the elements of each weight in random order.

    Each weight keeps its distribution, so that activations stay in range; buffers are kept.

    Args:
        network: the network; left as it is.
        generator: CPU generator of the orders.

    Example:
        >>> layer = nn.Linear(4, 4)
        >>> other = randomise_weights(layer, torch.Generator().manual_seed(0))
        >>> torch.equal(other.weight, layer.weight)
        False
        >>> torch.equal(other.weight.flatten().sort().values, layer.weight.flatten().sort().values)
        True
    """
    randomised = copy.deepcopy(network)
    # einops layers forget their mode when they are copied.
    for module, original in zip(randomised.modules(), network.modules(), strict=True):
        module.training = original.training
    with torch.no_grad():
        for weight in randomised.parameters():
            order = torch.randperm(weight.numel(), generator=generator).to(weight.device)
            weight.copy_(weight.flatten()[order].view_as(weight))
    return randomised


def _rows(name: str, maps: ArrayLike | torch.Tensor) -> FloatArray:
    """Maps as rows [B, pixels], float64."""
    array = np.asarray(maps.detach().cpu() if isinstance(maps, torch.Tensor) else maps, dtype=np.float64)
    if array.ndim not in (3, 4) or 0 in array.shape[1:]:
        raise ValueError(f"{name}: expected [B, H, W] or [B, H, W, D], got {list(array.shape)}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: expected finite values, got NaN or infinity")
    return array.reshape(len(array), -1)


def _pairs(maps: ArrayLike | torch.Tensor, masks: ArrayLike | torch.Tensor) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Maps and masks as rows [B, pixels], checked."""
    flat, inside = _rows("maps", maps), _rows("masks", masks) != 0
    if np.shape(masks) != np.shape(maps):
        raise ValueError(f"masks: expected the shape of the maps, {list(np.shape(maps))}, got {list(np.shape(masks))}")
    if unusable := np.flatnonzero(inside.all(1) | ~inside.any(1)).tolist():
        raise ValueError(
            f"masks: expected pixels inside and outside of every mask, but those of images {unusable[:10]} are empty "
            "or full; leave such images out"
        )
    return flat, inside
