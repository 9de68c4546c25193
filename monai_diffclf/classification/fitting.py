# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Learn from validation errors which noise levels discriminate, and which deserve most draws."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.model_selection import StratifiedGroupKFold

from .._checks import check_folds, check_labels
from .._patients import patient_codes
from .denoising_errors import DenoisingErrors, check_errors
from .draw_weights import LevelWeights, Weighting, band_edges, draw_weights
from .level_sampling import LevelSampling
from .rules import draw_scores

__all__ = ["fit_level_sampling", "fit_level_weights"]

NUM_BANDS = (4, 8, 16)
SMOOTHING = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0)


def _bands(errors: DenoisingErrors, num_bands: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Edges of bands of the log-SNR with equally many draws [J - 1], ascending, and each draw's band [N]."""
    edges = band_edges(errors.log_snr, num_bands)
    return edges, np.searchsorted(edges, errors.log_snr.double().cpu().numpy())


def _wins(scores: NDArray[Any], labels: NDArray[Any], band: NDArray[Any]) -> NDArray[Any]:
    """True class minus every other class, mean over the draws of each band [n, K - 1, J]."""
    images, classes, _ = scores.shape
    true = scores[np.arange(images), labels]
    others = scores[np.arange(classes) != labels[:, None]].reshape(images, classes - 1, -1)
    lead = true[:, None] - others
    return np.stack([lead[:, :, band == j].mean(2) for j in range(band.max() + 1)], 2)


def _loss(weights: NDArray[Any], wins: NDArray[Any], images: NDArray[Any]) -> tuple[float, NDArray[Any]]:
    """Cross-entropy of softmax over classes, weighted by image, and its gradient [J]."""
    margin = -(wins @ weights)
    top = np.maximum(margin.max(1, initial=0.0), 0.0)
    odds = np.exp(margin - top[:, None])
    total = np.exp(-top) + odds.sum(1)
    gradient = -((odds / total[:, None])[:, :, None] * wins).sum(1)
    return float(images @ (np.log(total) + top)), images @ gradient


def _balance(labels: NDArray[Any]) -> NDArray[Any]:
    """Weights of the images [n] under which classes count alike; they sum to 1."""
    values, index, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return np.asarray(1 / (counts[index] * len(values)))


def _fit(wins: NDArray[Any], labels: NDArray[Any], smoothing: float) -> NDArray[Any]:
    """Weights of the bands [J], not negative; smoothing draws neighbours together, in the end all to one value."""
    images, bands = _balance(labels), wins.shape[2]
    equal = minimize(
        lambda s: _loss(np.full(bands, s[0]), wins, images)[0], [1.0], bounds=[(1e-6, None)], method="L-BFGS-B"
    ).x[0]

    def objective(w: NDArray[Any]) -> tuple[float, NDArray[Any]]:
        loss, gradient = _loss(w * equal, wins, images)
        strength = smoothing * bands / len(labels)
        step = np.diff(w)
        pull = np.concatenate([[0.0], step]) - np.concatenate([step, [0.0]])
        return loss + strength * float((step**2).sum()), gradient * equal + 2 * strength * pull

    weights = minimize(objective, np.ones(bands), jac=True, bounds=[(0, None)] * bands, method="L-BFGS-B").x
    return np.asarray(weights * equal)


def fit_level_weights(
    errors: DenoisingErrors,
    labels: torch.Tensor,
    rule: str = "mean",
    *,
    patients: Sequence[str | None] | None = None,
    num_folds: int = 5,
    seed: int = 0,
) -> LevelWeights:
    """Learn weights of the noise levels that tell the classes apart best.

    Logistic regression on the classes' differences in bands of the log-SNR, without intercept, so that no class is
    favoured; classes count alike; weights are not negative and smooth: differences of neighbours are penalised. The
    number of bands and the penalty have the smallest cross-entropy in cross-validation by patient. To judge the gain,
    fit within each fold of another cross-validation, or test on other images.

    Args:
        errors: errors of validation images [n, K, N], all draws made. Their patients must not be in the training set.
        labels: class of each image [n].
        rule: ``"mean"`` or ``"vote"``: for which of them the weights are.
        patients: patient of each image [n], kept together in a fold. One that is not known (None, NaN or empty)
            is alone.
        num_folds: folds of the cross-validation.
        seed: seed of the folds.

    Returns:
        the weights, with mean 1 over the draws.

    Raises:
        TypeError: when ``errors`` is no `DenoisingErrors`.
        ValueError: when labels or patients do not fit the images, or errors are missing or infinite.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> labels = torch.arange(60) % 2
        >>> values = torch.rand(60, 2, 32, generator=generator)
        >>> values[torch.arange(60), labels, :16] -= 0.1  # only the first draws tell the classes apart
        >>> errors = DenoisingErrors(values, torch.arange(32), torch.linspace(8, -8, 32))
        >>> low, high = fit_level_weights(errors, labels).at(torch.tensor([-7.0, 7.0]))
        >>> bool(high > 2 * low)
        True
    """
    check_errors(errors, complete=True)
    y = check_labels(labels, errors.num_classes, len(errors))
    groups = patient_codes(patients, len(y))
    check_folds(num_folds, min(len(np.unique(groups)), int(np.bincount(y, minlength=1).max())))
    scores = draw_scores(errors, rule).cpu().numpy()
    scores = scores / np.sqrt((scores - scores.mean(1, keepdims=True)).var() + 1e-300)
    folds = list(_folds(y, groups, num_folds, seed))
    losses: dict[tuple[int, float], float] = {}
    for num_bands in NUM_BANDS:
        wins = _wins(scores, y, _bands(errors, min(num_bands, errors.num_draws))[1])
        for smoothing in SMOOTHING:
            fits = [(_fit(wins[fit], y[fit], smoothing), held) for fit, held in folds]
            held_out = [_loss(w, wins[held], _balance(y[held]))[0] for w, held in fits]
            losses[num_bands, smoothing] = float(np.mean(held_out))
    num_bands, smoothing = min(losses, key=lambda settings: losses[settings])
    edges, band = _bands(errors, min(num_bands, errors.num_draws))
    weights = _fit(_wins(scores, y, band), y, smoothing)
    weights = weights / weights[band].mean()
    return LevelWeights(tuple(edges.tolist()), tuple(weights.tolist()))


def _folds(
    labels: NDArray[Any], groups: NDArray[Any], num_folds: int, seed: int
) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Indices to fit on and indices held out; classes spread evenly, patients kept together."""
    splitter = StratifiedGroupKFold(num_folds, shuffle=True, random_state=seed)
    return iter(splitter.split(labels, labels, groups))


def fit_level_sampling(
    errors: DenoisingErrors,
    rule: str = "mean",
    *,
    weighting: Weighting = "uniform",
    mirrored: DenoisingErrors | None = None,
    num_parts: int = 8,
    smallest: float = 0.25,
    seed: int = 0,
) -> LevelSampling:
    """Choose where in the schedule to make draws, and where to mirror their noise.

    The variance of the weighted sum of n draws is sum_j v_j p_j / n_j over the parts j of the schedule, with n_j draws
    there; it is smallest for n_j proportional to sqrt(v_j), v_j the variance of a draw's difference between classes
    around the image's own mean (Neyman 1934). Noise is mirrored where this lowers v_j for certain: where the whole 95 %
    interval of the ratio of the variances of a mirrored pair and of two independent draws is below 1.

    Args:
        errors: errors of validation images [n, K, N], stratified uniform levels, all draws made.
        rule: ``"mean"`` or ``"vote"``: whose variance counts.
        weighting: weights of the draws, see :func:`monai_diffclf.classification.draw_weights`.
        mirrored: errors of such images with mirrored noise everywhere, draws 2i and 2i + 1 being a pair [n, K, M], from
            ``noise_levels=LevelSampling([1] * num_parts, [True] * num_parts)``; None to mirror nowhere.
        num_parts: equal parts of the schedule J.
        smallest: least density of a part, in (0, 1]; also keeps levels with few differences in sight.
        seed: seed of the bootstrap over images.

    Raises:
        ValueError: when there are fewer than 2 draws a part.

    Example:
        >>> values = torch.rand(20, 2, 64, generator=torch.Generator().manual_seed(0))
        >>> values[:, :, :32] *= 3  # differences vary three times as much at the first half of the levels
        >>> errors = DenoisingErrors(values, torch.arange(64), torch.linspace(8, -8, 64))
        >>> [round(x, 1) for x in fit_level_sampling(errors, num_parts=2).density]
        [1.5, 0.5]
    """
    variance = _part_variances(errors, rule, weighting, num_parts).mean(0)
    antithetic = np.zeros(num_parts, dtype=bool)
    if mirrored is not None:
        single = _part_variances(mirrored, rule, weighting, num_parts)
        paired = _part_variances(mirrored, rule, weighting, num_parts, paired=True)
        index = np.random.default_rng(seed).integers(0, len(single), (2000, len(single)))
        ratio = 2 * paired[index].mean(1) / np.maximum(single[index].mean(1), 1e-300)
        antithetic = np.quantile(ratio, 0.975, axis=0) < 1
        gain = 2 * paired.mean(0) / np.maximum(single.mean(0), 1e-300)
        variance = np.where(antithetic, variance * gain, variance)
    density = np.sqrt(variance)
    density = np.maximum(density / density.mean(), smallest)
    return LevelSampling(tuple((density / density.mean()).tolist()), tuple(antithetic.tolist()))


def _part_variances(
    errors: DenoisingErrors, rule: str, weighting: Weighting, num_parts: int, *, paired: bool = False
) -> NDArray[Any]:
    """Variance of a draw's difference (or a pair's mean) around the image's own mean in each part [n, J]."""
    scores = draw_scores(errors, rule).cpu().numpy() * draw_weights(errors, weighting).cpu().numpy()
    log_snr = errors.log_snr.double().cpu().numpy()
    first, second = np.triu_indices(errors.num_classes, 1)
    x = scores[:, first] - scores[:, second]
    if paired:
        even = 2 * (errors.num_draws // 2)
        x, log_snr = x[:, :, :even].reshape(*x.shape[:2], -1, 2).mean(3), log_snr[:even:2]
    # Uniform levels: the part of a draw follows from its rank.
    part = np.argsort(np.argsort(-log_snr, kind="stable")) * num_parts // len(log_snr)
    if len(log_snr) < 2 * num_parts:
        raise ValueError(f"errors: expected at least {2 * num_parts} draws for {num_parts} parts, got {len(log_snr)}")
    ends = np.searchsorted(np.sort(part), np.arange(num_parts + 1))
    order = np.argsort(part, kind="stable")
    return np.stack([x[:, :, order[a:b]].var(2, ddof=1).mean(1) for a, b in pairwise(ends)], 1)
