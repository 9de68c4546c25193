# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Which images to label next: strategies of active learning, on what a classification says of images without label."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import pairwise_distances

from .._checks import check_integer
from ..classification import DenoisingErrors
from ..classification.draw_weights import band_edges
from ..keys import UncertaintyKeys

__all__ = ["CANDIDATES", "STRATEGIES", "error_features", "k_centre", "select_images"]

STRATEGIES: dict[str, str] = {
    "vote_entropy": "Entropy of the votes less what more draws would settle, largest first",
    "margin": "The two most probable classes are close to each other",
    "typicality": "Least like the images that the model knows",
    "diversity": "Among the most uncertain, far from what has a label and from each other",
    "random": "Any image, all alike",
}
"""Strategies by name, and what they choose."""

CANDIDATES = 4
"""Diversity looks at this many times as many of the most uncertain images as are wanted."""

FEWEST_CANDIDATES = 20


def select_images(
    strategy: str,
    number: int,
    *,
    uncertainty: Mapping[str, ArrayLike] | None = None,
    ood_score: ArrayLike | None = None,
    features: ArrayLike | None = None,
    known: ArrayLike | None = None,
    seed: int = 0,
) -> NDArray[np.int64]:
    """Choose images to label next, the most wanted first.

    * ``vote_entropy``: largest ``entropy_remaining``: the votes' entropy without the part that is due to the number of
      draws, ``entropy_monte_carlo``, see :func:`monai_diffclf.classification.vote_uncertainty`.
    * ``margin``: smallest ``probability_margin`` (Scheffer et al. 2001).
    * ``typicality``: largest score of unlikeness, see :class:`monai_diffclf.uncertainty.Typicality`.
    * ``diversity``: greedy k-centre (Sener and Savarese 2018, algorithm 1) on the features, among the
      `CANDIDATES` x ``number`` images, 20 at least, with the largest ``entropy_remaining``; centres at the start are
      the features of labelled images.
    * ``random``: each image with the same chance.

    Images that are equally wanted are chosen in the order of their rows.

    Args:
        strategy: one of `STRATEGIES`.
        number: how many; all where there are fewer.
        uncertainty: named uncertainties [N] of the images without label.
        ood_score: unlikeness [N].
        features: features [N, F], in units in which distances mean something.
        known: features [L, F] of images with a label.
        seed: of ``random``; for the others of no meaning.

    Returns:
        rows [number], int64.

    Raises:
        ValueError: when the strategy is unknown, what it needs is not there or shapes differ.

    Example:
        >>> sure = {"entropy_remaining": [0.1, 0.6, 0.5, 0.2], "probability_margin": [0.9, 0.1, 0.05, 0.7]}
        >>> select_images("vote_entropy", 2, uncertainty=sure).tolist()
        [1, 2]
        >>> select_images("margin", 2, uncertainty=sure).tolist()
        [2, 1]
        >>> select_images("diversity", 2, uncertainty=sure, features=[[0.0], [4.0], [4.0], [1.0]]).tolist()
        [1, 0]
    """
    if strategy not in STRATEGIES:
        raise ValueError(f"strategy: expected one of {', '.join(STRATEGIES)}, got {strategy!r}")
    number = check_integer(number, "number")
    if strategy == "random":
        sizes = [np.asarray(each) for each in (*(uncertainty or {}).values(), ood_score, features) if each is not None]
        if not sizes:
            raise ValueError("uncertainty: expected something [N] of the images, to know how many there are, got None")
        return np.random.default_rng(seed).permutation(len(sizes[0]))[:number].astype(np.int64)
    if strategy == "typicality":
        return _largest(_finite("ood_score", ood_score))[:number]
    if strategy == "margin":
        return _largest(-_measure(uncertainty, UncertaintyKeys.PROBABILITY_MARGIN))[:number]
    wanted = _largest(_measure(uncertainty, UncertaintyKeys.ENTROPY_REMAINING))
    if strategy == "vote_entropy":
        return wanted[:number]
    values = _finite("features", features, ndim=2)
    if len(values) != len(wanted):
        raise ValueError(f"features: expected a row for each of {len(wanted)} images, got {len(values)}")
    candidates = wanted[: max(CANDIDATES * number, FEWEST_CANDIDATES)]
    return candidates[k_centre(values[candidates], number, known=known)]


def error_features(errors: DenoisingErrors, num_bands: int = 8) -> NDArray[np.float64]:
    """How an image is denoised, as features: mean log error of each class in bands of the log-SNR [B, K num_bands].

    Args:
        errors: errors [B, K, N], all draws evaluated.
        num_bands: bands, each with about equally many draws; at most one a draw.

    Raises:
        ValueError: when errors are not finite.

    Example:
        >>> import torch
        >>> errors = DenoisingErrors(torch.rand(3, 2, 9), torch.arange(9), torch.linspace(4, -4, 9))
        >>> error_features(errors, 4).shape
        (3, 8)
    """
    log_snr = errors.log_snr.double().cpu()
    edges = band_edges(log_snr, min(num_bands, len(log_snr)))
    band = np.searchsorted(edges, log_snr.numpy(), side="left")
    share = (band[:, None] == np.unique(band)).astype(np.float64)
    logs = np.log(np.clip(errors.values.double().cpu().numpy(), 1e-12, None)) @ (share / share.sum(0))
    return _finite("errors", logs.reshape(len(logs), -1), ndim=2)


def k_centre(features: ArrayLike, number: int, *, known: ArrayLike | None = None) -> NDArray[np.int64]:
    """Greedy k-centre (Gonzalez 1985): each next row is the one farthest from all chosen and known ones.

    Args:
        features: features [N, F].
        number: how many rows; all where there are fewer.
        known: features [L, F] of what counts as chosen already; without it the first row is chosen first.

    Returns:
        rows in the order in which they were chosen.

    Raises:
        ValueError: when a value is not finite or shapes differ.

    Example:
        >>> k_centre([[0.0], [1.0], [10.0]], 2).tolist(), k_centre([[0.0], [1.0], [10.0]], 1, known=[[9.0]]).tolist()
        ([0, 2], [0])
    """
    values = _finite("features", features, ndim=2)
    centres = np.empty((0, values.shape[1])) if known is None else np.asarray(known, dtype=float)
    if len(centres) and centres.shape[1:] != values.shape[1:]:
        raise ValueError(f"known: expected {values.shape[1]} features a row, got the shape {list(centres.shape)}")
    if len(centres):
        distance = pairwise_distances(values, _finite("known", centres, ndim=2)).min(1)
    else:
        distance = np.full(len(values), np.inf)
    chosen: list[int] = []
    for _ in range(min(number, len(values))):
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, pairwise_distances(values, values[chosen[-1]][None])[:, 0])
        distance[chosen] = -1.0  # equal rows are at distance 0 of each other, and still to be chosen once each
    return np.asarray(chosen, dtype=np.int64)


def _largest(values: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.argsort(-values, kind="stable").astype(np.int64)


def _measure(uncertainty: Mapping[str, Any] | None, name: str) -> NDArray[np.float64]:
    if uncertainty is None or str(name) not in uncertainty:
        known = "None" if uncertainty is None else sorted(uncertainty)
        raise ValueError(f"uncertainty: expected {str(name)!r} among the measures, got {known}")
    return _finite(f"uncertainty[{str(name)!r}]", uncertainty[str(name)])


def _finite(name: str, values: Any, ndim: int = 1) -> NDArray[np.float64]:
    if values is None:
        raise ValueError(f"{name}: this strategy needs it, got None")
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != ndim or not np.isfinite(array).all():
        raise ValueError(f"{name}: expected finite numbers {['[N]', '[N, F]'][ndim - 1]}, got {list(array.shape)}")
    return array
