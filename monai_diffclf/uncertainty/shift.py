# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Whether a set of images differs from those a model was validated and calibrated on."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.covariance import LedoitWolf

from .._patients import patient_codes
from ..classification import DenoisingErrors
from .typicality import Typicality

__all__ = ["ShiftTest", "shift_test", "warn_if_shifted"]

_CHUNK_ELEMENTS = 4_000_000  # permutations are made in chunks of this many numbers, 32 MB
SHIFT_ADVICE = (
    "Probabilities, prediction sets and out-of-distribution scores fitted on validation may be off: check some images "
    "by eye, fit them anew on labelled images of this site, and adjust the class shares."
)


@dataclass(frozen=True)
class ShiftTest:
    """Result of a two-sample test of images against the validation images.

    Args:
        statistic: the squared distance between the two sets that was tested.
        p_value: chance of a distance as large, were both sets from one distribution.
        detected: whether ``p_value`` is at most the level that was asked for.
        num_images: number of images tested.
        message: the result in words, and where the sets differ most.
    """

    statistic: float
    p_value: float
    detected: bool
    num_images: int
    message: str


def shift_test(
    typicality: Typicality,
    errors: DenoisingErrors | torch.Tensor,
    *,
    alpha: float = 0.01,
    groups: ArrayLike | None = None,
    num_permutations: int = 999,
    seed: int = 0,
    class_names: Sequence[str] | None = None,
) -> ShiftTest:
    """Two-sample permutation test: do the errors under the best class differ from those of the validation images?

    The images of both sets are described by their log errors in bands of the log-SNR (see :class:`Typicality`) and by
    the logarithm of their distance from the centre, so that scattered outliers count too. The statistic is Hotelling's:
    the squared distance of the sets' means in units of the pooled covariance, times n m / (n + m); summed over the
    images predicted as each class, where a shift shows that the mix of classes hides, and over all images, where a
    change of that mix shows. Which image came from which set is permuted, whole patients at a time. The p-value is
    exact whatever the distribution: in a share alpha of unshifted sets at most a shift is detected by mistake.

    Args:
        typicality: what was learned from the validation images.
        errors: errors of the images to test, of the same levels.
        alpha: level of the test.
        groups: patient of each image [B], None, NaN or empty where unknown; without it, images of one patient count
            as independent, and the p-value is too small. Those of the validation images were given to
            :func:`fit_typicality`.
        num_permutations: number of permutations; the smallest p-value is 1 / (num_permutations + 1).
        seed: seed of the permutations.
        class_names: names of the classes [K] for the message; None numbers them.

    Raises:
        ValueError: when there is no image, the errors do not fit, or ``alpha`` cannot be reached.

    Example:
        >>> from monai_diffclf.uncertainty import fit_typicality
        >>> _ = torch.manual_seed(0)
        >>> values, log_snr = torch.rand(160, 2, 9) + torch.rand(160, 1, 1), torch.linspace(4, -4, 9)
        >>> errors = DenoisingErrors(values, torch.arange(9), log_snr)
        >>> shifted = DenoisingErrors(values[80:] * 1.5, torch.arange(9), log_snr)
        >>> typicality = fit_typicality(errors[:80], num_bands=3)
        >>> shift_test(typicality, errors[80:]).detected, shift_test(typicality, shifted).detected
        (False, True)
    """
    if not (isinstance(alpha, (int, float)) and 0 < alpha < 1):
        raise ValueError(f"alpha: expected a number between 0 and 1, such as 0.01, got {alpha!r}")
    if num_permutations + 1 < 1 / alpha:
        raise ValueError(
            f"num_permutations: expected at least {int(np.ceil(1 / alpha)) - 1} for alpha {alpha}, "
            f"got {num_permutations}"
        )
    described, best = (x.cpu().numpy() for x in typicality.describe(errors))
    if not len(described):
        raise ValueError("errors: expected at least one image, got none")
    features, classes = np.vstack([typicality.features, described]), np.r_[typicality.predicted, best]
    new_codes = patient_codes(groups, len(described), "groups") + typicality.groups.max() + 1
    is_new = np.r_[np.zeros(typicality.num_images), np.ones(len(described))]
    everyone = np.ones(len(classes), dtype=bool)
    strata = [everyone, *(classes == k for k in np.unique(classes))]
    parts = [(members, _standardised(features[members])) for members in strata if members.sum() > 2]
    codes = np.r_[typicality.groups, new_codes]
    drawn = _permuted_statistics(parts, is_new, codes, num_permutations, np.random.default_rng(seed))
    statistic = _statistics(parts, is_new[None])[0]
    # Permutations that give back the same sets differ by rounding only.
    p_value = float((1 + (drawn >= statistic * (1 - 1e-9)).sum()) / (num_permutations + 1))
    detected = p_value <= alpha
    message = (
        f"The denoising errors of these {len(described)} images "
        f"{'differ' if detected else 'do not differ detectably'} from those of the {typicality.num_images} validation "
        f"images (p = {p_value:.3g}, level {alpha:g}). "
        f"{_largest_difference(typicality, described, best, class_names)}"
    )
    return ShiftTest(float(statistic), p_value, detected, len(described), message)


def warn_if_shifted(
    typicality: Typicality,
    errors: DenoisingErrors | torch.Tensor,
    *,
    alpha: float = 0.01,
    groups: ArrayLike | None = None,
) -> ShiftTest:
    """:func:`shift_test`, with a `UserWarning` that says what to do when a shift is detected."""
    result = shift_test(typicality, errors, alpha=alpha, groups=groups)
    if result.detected:
        warnings.warn(f"{result.message} {SHIFT_ADVICE}", UserWarning, stacklevel=2)
    return result


Part = tuple[NDArray[np.bool_], NDArray[np.float64]]


def _standardised(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Features of unit covariance and mean 0, and the log distance from the centre, likewise [n, J + 1]."""
    scale = features.std(0)
    scaled = (features - features.mean(0)) / np.where(scale > 0, scale, 1.0)
    white = scaled @ np.linalg.cholesky(LedoitWolf().fit(scaled).precision_)
    distance = np.log((white**2).sum(1) + 1e-12)
    spread = distance.std()
    return np.column_stack([white, (distance - distance.mean()) / (spread if spread > 0 else 1.0)])


def _permuted_statistics(
    parts: Sequence[Part],
    is_new: NDArray[np.float64],
    codes: NDArray[np.int64],
    num_permutations: int,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """The statistic with the sets of the patients permuted [num_permutations]."""
    patients = np.zeros(int(codes.max()) + 1)
    patients[codes] = is_new
    chunk = max(1, _CHUNK_ELEMENTS // len(codes))
    drawn = []
    for start in range(0, num_permutations, chunk):
        rows = min(chunk, num_permutations - start)
        permuted = rng.permuted(np.broadcast_to(patients, (rows, len(patients))), axis=1)
        drawn.append(_statistics(parts, permuted[:, codes]))
    return np.concatenate(drawn)


def _statistics(parts: Sequence[Part], is_new: NDArray[np.float64]) -> NDArray[np.float64]:
    """Hotelling's distance of the two sets, summed over the parts, for each row of ``is_new`` [R, n]."""
    total = np.zeros(len(is_new))
    for members, z in parts:
        chosen = is_new[:, members]
        new, size = chosen.sum(1), len(z)
        sums = chosen @ z
        difference = sums / np.maximum(new, 1)[:, None] - (z.sum(0) - sums) / np.maximum(size - new, 1)[:, None]
        # A part that lies in one set alone says nothing: its factor is 0.
        total += new * (size - new) / size * (difference**2).sum(1)
    return total


def _largest_difference(
    typicality: Typicality, features: NDArray[np.float64], best: NDArray[np.int64], names: Sequence[str] | None
) -> str:
    """Where the images differ most from the validation images, in words."""
    found = []
    for k in np.intersect1d(best, typicality.predicted):
        old, new = typicality.features[typicality.predicted == k], features[best == k]
        spread = typicality.features.std(0)
        change = (new.mean(0) - old.mean(0)) / np.where(spread > 0, spread, 1.0)
        noise = np.sqrt(1 / len(old) + 1 / len(new))
        band = int(np.abs(change).argmax())
        found.append((abs(change[band]) / noise, k, band, change[band], len(new)))
    if not found:
        return "None of them was predicted as a class that validation images were predicted as."
    _, k, band, change, count = max(found)
    name = f"class {k}" if names is None or k >= len(names) else str(names[k])
    limits = [typicality.log_snr.min(), *typicality.edges, typicality.log_snr.max()]
    return (
        f"Largest difference: {count} images predicted as {name}, errors at log-SNR {limits[band]:.1f} to "
        f"{limits[band + 1]:.1f} are {abs(change):.2f} standard deviations {'larger' if change > 0 else 'smaller'}."
    )
