# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""How typical an image is of those the model was validated on, from its errors and from the image itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from .._checks import check_integer
from .._patients import patient_codes
from ..classification import DenoisingErrors
from ..classification.draw_weights import band_edges
from .gaussian_part import Features, GaussianPart, cross_fit, largest_score
from .image_statistics import image_statistics, latent_statistics

__all__ = ["Typicality", "fit_typicality"]

MIN_IMAGES = 20
ERRORS = "errors"
LATENTS = "latents"
_SMALLEST_ERROR = 1e-12  # of an exact denoiser; its logarithm must be finite

_ARRAYS = ("log_snr", "edges", "features", "predicted", "groups", "scores")


@dataclass(frozen=True, eq=False)
class Typicality:
    """What in-distribution images look like; made by :func:`fit_typicality`.

    An image is described in several parts: its log errors under its best class (the smallest mean error), averaged in J
    bands of the log-SNR; and, if fitted with images, the parts of
    :func:`monai_diffclf.uncertainty.image_statistics`; and, if fitted with latents, the means and variances of their
    channels. In each part its squared Mahalanobis distance from known images is taken (Lee et al. 2018), so
    that errors that are too small count as those that are too large (Nalisnick et al. 2019, typicality). The score is
    that of the part in which it is farthest off, in units of the validation images: an image of another kind may look
    quite usual in most of what describes it.

    Args:
        log_snr: log-SNR of each draw of the fit [N].
        edges: log-SNR at which one band ends and the next begins [J - 1].
        features: log errors of the validation images [n, J].
        predicted: best class of the validation images [n].
        groups: number of the patient of each validation image [n].
        scores: scores of the validation images, each under a fit without its fold [n].
        parts: name of each part to what is known of it; ``"errors"`` is always among them.
        provenance: what made the errors, see :func:`monai_diffclf.inferers.provenance`.
        num_classes: classes of the errors of the fit; None where it is not known, of a dictionary from before.
    """

    log_snr: NDArray[np.float64]
    edges: NDArray[np.float64]
    features: NDArray[np.float64]
    predicted: NDArray[np.int64]
    groups: NDArray[np.int64]
    scores: NDArray[np.float64]
    parts: Mapping[str, GaussianPart]
    provenance: dict[str, Any] = field(default_factory=dict)
    num_classes: int | None = None

    @property
    def num_images(self) -> int:
        """Number of validation images n."""
        return len(self.scores)

    @property
    def num_patients(self) -> int:
        """Number of validation patients P; an image without a patient is one."""
        return len(np.unique(self.groups))

    @property
    def needs_images(self) -> bool:
        """Whether it was fitted with images, and so needs them."""
        return bool(set(self.parts) - {ERRORS, LATENTS})

    @property
    def needs_latents(self) -> bool:
        """Whether it was fitted with latents, and so needs them."""
        return LATENTS in self.parts

    def describe(self, errors: DenoisingErrors | torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Log errors in bands [B, J], float64, and best class [B] of images.

        Args:
            errors: errors of the classes and levels of the fit; as a tensor [B, K, N] they are taken to be of these
                levels.

        Raises:
            ValueError: when the levels or the number of classes are others, or not all draws were evaluated.
        """
        self._check(errors)
        return _describe(_values(errors), self.log_snr, self.edges)

    def score(
        self,
        errors: DenoisingErrors | torch.Tensor,
        images: torch.Tensor | None = None,
        latents: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """How far each image is from the validation images [B], float64; large is untypical.

        In each part 1 is the median of the validation images and e their 95 % quantile; the largest part counts.

        Args:
            errors: errors as :meth:`describe` takes them; raises as it does.
            images: the images as the network sees them [B, C, *spatial], if fitted with images; not used otherwise.
            latents: their latents [B, c, *grid], if fitted with latents; not used otherwise.

        Raises:
            ValueError: when images or latents are needed and missing, or do not fit the errors.
        """
        features: dict[str, torch.Tensor] = {ERRORS: self.describe(errors)[0]}
        if self.needs_images:
            features |= image_statistics(_needed("images", images, features[ERRORS]))
        if self.needs_latents:
            features |= latent_statistics(_needed("latents", latents, features[ERRORS]))
        return largest_score(self.parts, {name: values.to(features[ERRORS]) for name, values in features.items()})

    def p_value(
        self,
        errors: DenoisingErrors | torch.Tensor,
        images: torch.Tensor | None = None,
        latents: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Share of patients as untypical as each image, were it of the distribution of the validation images [B].

        (1 + a) / (P + 1) of P validation patients, where a is the sum over the patients of the share of their images
        that score as high, the scores cross-fitted; where patients are not known, each image is one. Among
        in-distribution images of new patients it is at most p in a share p of them, up to the cross-fitting.

        Args:
            errors: errors as :meth:`describe` takes them, or scores [B] that :meth:`score` gave.
            images: as for :meth:`score`; not used with scores.
            latents: likewise.
        """
        is_scores = isinstance(errors, torch.Tensor) and errors.ndim == 1
        scores = cast(torch.Tensor, errors).double() if is_scores else self.score(errors, images, latents)
        order = np.argsort(self.scores)
        share = 1 / np.unique(self.groups, return_counts=True)[1][np.unique(self.groups, return_inverse=True)[1]]
        # How many patients score as high as the i-th smallest score and those above it; none above the largest.
        as_high = np.append(np.cumsum(share[order][::-1])[::-1], 0.0)
        place = torch.searchsorted(torch.as_tensor(self.scores[order], device=scores.device), scores.contiguous())
        return (1 + torch.as_tensor(as_high, device=scores.device)[place]) / (self.num_patients + 1)

    def to_dict(self) -> dict[str, Any]:
        """As plain numbers, for a JSON file; features and scores to seven digits."""
        values = {name: getattr(self, name).tolist() for name in _ARRAYS}
        for name in ("features", "scores"):
            values[name] = np.vectorize(lambda x: float(f"{x:.7g}"))(getattr(self, name)).tolist()
        parts = {name: part.to_dict() for name, part in self.parts.items()}
        known = {} if self.num_classes is None else {"num_classes": self.num_classes}
        return {**values, **known, "parts": parts, "provenance": dict(self.provenance)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Typicality:
        """From what `to_dict` gave, also before there were parts: then of the errors alone.

        Files were once fitted with error maps, which inferers now weight and smooth in another way: the maps are left
        out, and the errors in bands, which such a file holds too, are fitted again.

        Raises:
            ValueError: when something is missing or does not fit the rest.
        """
        if missing := set(_ARRAYS) - values.keys():
            raise ValueError(f"values: expected what Typicality.to_dict gives, {sorted(missing)} missing")
        integers = ("predicted", "groups")
        arrays = {name: np.asarray(values[name], dtype=np.int64 if name in integers else float) for name in _ARRAYS}
        n, bands = len(arrays["scores"]), len(arrays["edges"]) + 1
        for name, shape in {"features": (n, bands), "predicted": (n,), "groups": (n,)}.items():
            if arrays[name].shape != shape:
                raise ValueError(f"{name}: expected the shape {list(shape)}, got {list(arrays[name].shape)}")
        if "parts" in values:
            parts = {name: GaussianPart.from_dict(part) for name, part in values["parts"].items()}
            if ERRORS not in parts or len(parts[ERRORS].mean) != bands:
                raise ValueError(f"parts: expected {ERRORS!r} with {bands} features among them, got {sorted(parts)}")
        else:
            parts, arrays["scores"] = cross_fit({ERRORS: torch.from_numpy(arrays["features"])}, arrays["groups"])
        classes = values.get("num_classes")
        return cls(
            **arrays,
            parts=parts,
            provenance=dict(values.get("provenance", {})),
            num_classes=None if classes is None else int(classes),
        )

    def _check(self, errors: DenoisingErrors | torch.Tensor) -> None:
        values, draws = _values(errors), len(self.log_snr)
        if values.ndim != 3 or values.shape[2] != draws:
            raise ValueError(
                f"errors: expected the shape [image, class, {draws}], the {draws} draws of the fit, got "
                f"{list(values.shape)}; fit anew for another number of draws"
            )
        if self.num_classes not in (None, values.shape[1]):
            raise ValueError(
                f"errors: expected those of {self.num_classes} classes, as in the fit, got {values.shape[1]}; is this "
                "the fit of another model?"
            )
        if isinstance(errors, DenoisingErrors):
            gap = float(np.abs(errors.log_snr.double().cpu().numpy() - self.log_snr).max())
            if gap > 1e-3:
                raise ValueError(
                    f"errors: expected the noise levels of the fit, got log-SNRs that differ by up to {gap:.3g}; "
                    "fit anew for other levels"
                )
        _check_evaluated(values)


def fit_typicality(
    errors: DenoisingErrors,
    *,
    num_bands: int = 8,
    images: torch.Tensor | Features | None = None,
    latents: torch.Tensor | Features | None = None,
    training: torch.Tensor | Features | None = None,
    groups: ArrayLike | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Typicality:
    """Learn from validation images what in-distribution images look like.

    Args:
        errors: errors of at least 20 images that the network was not trained on, all draws evaluated.
        num_bands: bands of the log-SNR, J; each holds about equally many draws.
        images: these images as the network sees them [n, C, *spatial], or what
            :func:`monai_diffclf.uncertainty.image_statistics` made of them; None describes images by their errors
            alone, to which blurred ones, for one, look usual.
        latents: their latents [n, c, *grid] where the network works on those of a representation, or what
            :func:`monai_diffclf.uncertainty.latent_statistics` made of them.
        training: what these functions made of images that the network was trained on [m, S of each part], or these
            images. Some hundred more images say much better what is usual: a part that is here is fitted to both.
            Scores are measured on the validation images alone. Leave out near-duplicates of these, and latents of an
            encoder that was trained on these images, in which they look more usual than others of their kind.
        groups: patient of each image [n]: images of one patient are left out together when their scores are
            cross-fitted. An image of an unknown one (None, NaN or empty) is alone.
        provenance: what made the errors, see :func:`monai_diffclf.inferers.provenance`.

    Raises:
        ValueError: when there are fewer than 20 images or patients, draws were not evaluated, an error is infinite or
            features of training images are others than those of the validation images.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> values = torch.rand(60, 2, 9) + torch.rand(60, 1, 1)
        >>> errors = DenoisingErrors(values, torch.arange(9), torch.linspace(4, -4, 9))
        >>> typicality = fit_typicality(errors[:50], num_bands=3)
        >>> foreign = DenoisingErrors(10 * values, torch.arange(9), torch.linspace(4, -4, 9))
        >>> bool(typicality.p_value(foreign[50:]).max() < 0.05 < typicality.p_value(errors[50:]).mean())
        True
    """
    num_bands = check_integer(num_bands, "num_bands")
    if len(errors) < MIN_IMAGES:
        raise ValueError(f"errors: expected at least {MIN_IMAGES} images to fit on, got {len(errors)}")
    _check_evaluated(errors.values)
    codes = patient_codes(groups, len(errors), "groups")
    if len(np.unique(codes)) < MIN_IMAGES:
        raise ValueError(f"groups: expected at least {MIN_IMAGES} patients to fit on, got {len(np.unique(codes))}")
    edges = band_edges(errors.log_snr, num_bands).astype(np.float64)
    log_snr = errors.log_snr.double().cpu().numpy()
    features, predicted = (x.cpu() for x in _describe(errors.values, log_snr, edges))
    described: dict[str, torch.Tensor] = {ERRORS: features}
    if images is not None:
        described |= image_statistics(images) if isinstance(images, torch.Tensor) else dict(images)
    if latents is not None:
        described |= latent_statistics(latents) if isinstance(latents, torch.Tensor) else dict(latents)
    for name, values in described.items():
        if len(values) != len(errors):
            raise ValueError(f"{name}: expected those of the same {len(errors)} images, got {len(values)}")
    more = image_statistics(training) if isinstance(training, torch.Tensor) else training
    parts, scores = cross_fit(described, codes, _further(more, described))
    return Typicality(
        log_snr=log_snr,
        edges=edges,
        features=features.numpy(),
        predicted=predicted.numpy(),
        groups=codes,
        scores=scores,
        parts=parts,
        provenance=dict(provenance or {}),
        num_classes=errors.num_classes,
    )


def _further(training: Features | None, described: Features) -> Features:
    """Features of training images, where they are of the parts of the validation images."""
    for name, values in (training or {}).items():
        if name == ERRORS or name not in described:
            expected = sorted(set(described) - {ERRORS})
            raise ValueError(f"training: expected parts that the images have too, {expected}, got {name!r}")
        if values.ndim != 2 or values.shape[1] != described[name].shape[1]:
            raise ValueError(
                f"training: expected {described[name].shape[1]} features of {name} an image, as the validation images "
                f"have, got the shape {list(values.shape)}"
            )
        if not bool(torch.isfinite(values).all()):
            raise ValueError(f"training: expected finite features of {name}, got NaN or infinity")
    return training or {}


def _values(errors: DenoisingErrors | torch.Tensor) -> torch.Tensor:
    return errors.values if isinstance(errors, DenoisingErrors) else errors


def _check_evaluated(values: torch.Tensor) -> None:
    missing = int(torch.isnan(values).any(1).any(1).sum())
    if missing:
        raise ValueError(
            f"errors: expected all draws of all classes, but {missing} of {len(values)} images lack some; compute "
            "them without a stopping rule, or with compute_errors()"
        )
    if not bool(torch.isfinite(values).all()) or bool((values < 0).any()):
        raise ValueError("errors: expected finite squared errors, got others; check the images and the network")


def _describe(values: torch.Tensor, log_snr: NDArray[Any], edges: NDArray[Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean log error of the best class in each band [B, J], and that class [B]."""
    values = values.detach().double()
    best = values.mean(2).argmin(1)
    logs = values[torch.arange(len(values), device=values.device), best].clamp(min=_SMALLEST_ERROR).log()
    band = np.searchsorted(edges, log_snr, side="left")
    share = (band[:, None] == np.arange(len(edges) + 1)).astype(np.float64)
    return logs @ torch.as_tensor(share / share.sum(0), device=values.device), best


def _needed(name: str, values: torch.Tensor | None, features: torch.Tensor) -> torch.Tensor:
    """What a fit with images or latents needs."""
    if values is None:
        raise ValueError(
            f"{name}: expected the {name} of the errors, as the typicality was fitted with {name}, got None"
        )
    if len(values) != len(features):
        raise ValueError(f"{name}: expected those of the same {len(features)} images, got {len(values)}")
    return values
