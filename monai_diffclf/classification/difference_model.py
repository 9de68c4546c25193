# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What the draws to come will probably say: a model of the difference of two classes over the noise levels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from scipy.special import gammaln, stdtr

from .denoising_errors import DenoisingErrors
from .draw_weights import band_edges
from .forecast import Forecast
from .rules import draw_scores

__all__ = ["DifferenceModel"]

DEGREES = (2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 20.0, 40.0, 100.0)


@dataclass(frozen=True)
class DifferenceModel:
    """A Gaussian model of the difference between two classes of an image, band by band of the noise levels.

    In band j of the log-SNR the draws of an image scatter around its own mean there: x_n = m_j + noise, noise ~ N(0,
    s^2 v_j). The means of an image go together, m ~ N(0, s^2 C), and its scale s is its own, nu / s^2 ~ chi^2(nu). So
    the sum of the draws to come, given those made, has a Student t distribution in closed form, whichever bands they
    fall into: the model knows that levels are stratified. It is symmetric in the two classes: which of them is more
    frequent has no influence.

    Args:
        edges: log-SNR between the bands [J - 1], ascending.
        noise: v, variance of a draw around the image's mean in each band [J].
        covariance: C, covariance of the means of the bands [J, J].
        degrees: nu, degrees of freedom of the scale; 0 for an unknown scale.

    Raises:
        ValueError: when the shapes do not fit or a variance is not positive.
    """

    edges: Sequence[float]
    noise: Sequence[float]
    covariance: Sequence[Sequence[float]]
    degrees: float

    def __post_init__(self) -> None:
        # Lists, as they come from JSON, would leave it without a hash.
        for name in ("edges", "noise"):
            object.__setattr__(self, name, tuple(map(float, getattr(self, name))))
        object.__setattr__(self, "covariance", tuple(tuple(map(float, row)) for row in self.covariance))
        object.__setattr__(self, "_hash", hash((self.edges, self.noise, self.covariance, self.degrees)))
        bands = len(self.noise)
        if len(self.edges) != bands - 1 or np.shape(self.covariance) != (bands, bands):
            raise ValueError(
                f"noise: expected J bands with J - 1 edges and a covariance [J, J], got {bands}, {len(self.edges)} and "
                f"{list(np.shape(self.covariance))}"
            )
        if not (min(self.noise) > 0 and np.diag(self.covariance).min() >= 0 and self.degrees >= 0):
            raise ValueError("noise, covariance, degrees: expected variances above 0 and degrees of at least 0")

    def __hash__(self) -> int:
        return self._hash  # type: ignore[attr-defined, no-any-return]

    @classmethod
    def prior(cls, strength: float = 0.6) -> DifferenceModel:
        """A model from published figures, for a network without validation errors: one band, unknown scale.

        Args:
            strength: root mean square over images of mean / standard deviation of a draw's difference: 0.56 to 0.92 in
                the curves of Favero et al. (2025, figure 3); smaller is more careful.

        Example:
            >>> model = DifferenceModel.prior()
            >>> x = torch.tensor([[1.0, 1.2, 0.8, 1.1, 0.9], [1.0, -1.0, 1.0, -0.9, 0.2]])
            >>> chance = model.chance_to_lose(x, torch.ones(50), torch.zeros(50))
            >>> bool(chance[0] < 0.02), bool(chance[1] > 0.1)
            (True, True)
        """
        if not strength > 0:
            raise ValueError(f"strength: expected a positive number, got {strength}")
        return cls(edges=(), noise=(1.0,), covariance=((strength**2,),), degrees=0.0)

    @classmethod
    def fit(cls, errors: DenoisingErrors, rule: str = "vote", *, num_bands: int | None = None) -> DifferenceModel:
        """Fit to the errors of validation images by expectation maximisation, all pairs of classes together.

        Args:
            errors: errors of validation images [n, K, N], all draws made, at least 2 a band.
            rule: the rule whose draws are modelled: ``"vote"`` or ``"mean"``.
            num_bands: bands of the log-SNR J, each with the same number of draws; None for one to every 16 draws, but
                8 to 32 of them.

        Raises:
            ValueError: when there are fewer than 8 images or 2 draws a band, or errors are missing.
        """
        if num_bands is None:
            num_bands = min(max(errors.num_draws // 16, 8), 32)
        if len(errors) < 8 or errors.num_draws < 2 * num_bands or not bool(errors.evaluated.all()):
            raise ValueError(
                f"errors: expected at least 8 images and {2 * num_bands} draws, all evaluated; got {len(errors)} "
                f"images and {errors.num_draws} draws"
            )
        log_snr = errors.log_snr.double().cpu().numpy()
        edges = band_edges(errors.log_snr, num_bands)
        scores = draw_scores(errors, rule).cpu().numpy()
        first, second = np.triu_indices(errors.num_classes, 1)
        x = (scores[:, first] - scores[:, second]).reshape(-1, errors.num_draws)
        band = np.searchsorted(edges, log_snr)
        counts = np.bincount(band, minlength=len(edges) + 1)
        means = np.stack([x[:, band == j].mean(1) for j in range(len(counts))], 1)
        scatter = np.stack([x[:, band == j].var(1) for j in range(len(counts))], 1) * counts
        noise, covariance, degrees = _fit_moments(means, scatter, counts)
        return cls(tuple(edges.tolist()), tuple(noise.tolist()), tuple(map(tuple, covariance.tolist())), degrees)

    def chance_to_lose(self, x: torch.Tensor, weights: torch.Tensor, log_snr: torch.Tensor) -> torch.Tensor:
        """Probability that the total of all N draws will not be positive, given the first n of them [M], float64.

        Args:
            x: leader minus rival in the draws made so far [M, n].
            weights: weight of every draw in the total [N].
            log_snr: log-SNR of every draw [N].
        """
        lead, degrees = self.forecast(weights, log_snr).to(x.device).lead(x.double())
        chance = torch.from_numpy(stdtr(degrees, -lead.cpu().numpy())).to(x.device)
        return chance.nan_to_num(nan=1.0)

    def forecast(self, weights: torch.Tensor, log_snr: torch.Tensor, *, choose: bool = False) -> Forecast:
        """What the model makes of a set of draws, see :class:`Forecast`; on the CPU.

        Args:
            weights: weight of every draw in the total [N].
            log_snr: log-SNR of every draw [N].
            choose: in the order in which they tell most, instead of as they come.
        """
        levels = (vector.detach().double().cpu().numpy().tobytes() for vector in (weights, log_snr))
        return _forecast(self, *levels, choose)

    def to_dict(self) -> dict[str, Any]:
        """As plain numbers, for a JSON file."""
        return {
            "edges": list(self.edges),
            "noise": list(self.noise),
            "covariance": [list(row) for row in self.covariance],
            "degrees": self.degrees,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DifferenceModel:
        """From what `to_dict` gave; other keys are ignored."""
        if missing := {"edges", "noise", "covariance", "degrees"} - values.keys():
            raise ValueError(f"values: expected edges, noise, covariance and degrees; {sorted(missing)} missing")
        covariance = tuple(tuple(map(float, row)) for row in values["covariance"])
        return cls(
            tuple(map(float, values["edges"])), tuple(map(float, values["noise"])), covariance, float(values["degrees"])
        )


@lru_cache(maxsize=8)
def _forecast(model: DifferenceModel, weights: bytes, log_snr: bytes, choose: bool) -> Forecast:
    """Worked out once for a set of draws, not for every batch of images: a function of its arguments alone."""
    return Forecast.of(model, np.frombuffer(weights), np.frombuffer(log_snr), choose=choose)


def _fit_moments(
    means: np.ndarray[Any, Any], scatter: np.ndarray[Any, Any], counts: np.ndarray[Any, Any], steps: int = 40
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], float]:
    """Noise [J], covariance [J, J] and degrees of freedom from the images' means and scatter [n, J]."""
    draws = int(counts.sum())
    tiny = 1e-12 * float((scatter.sum() + (means**2 @ counts).sum()) / (len(means) * draws)) + 1e-300
    weight, degrees = np.ones(len(means)), 4.0
    noise, covariance = np.ones(len(counts)), np.eye(len(counts))
    for _ in range(steps):
        noise = np.maximum((weight[:, None] * scatter).mean(0) / np.maximum(counts - 1, 1), tiny)
        second = (weight[:, None] * means).T @ means / len(means) - np.diag(noise / counts)
        value, vector = np.linalg.eigh(second)
        covariance = (vector * value.clip(min=tiny)) @ vector.T
        total = covariance + np.diag(noise / counts)
        squares = (scatter / noise).sum(1) + np.einsum("ni,ij,nj->n", means, np.linalg.inv(total), means)
        determinant = np.linalg.slogdet(total)[1] + ((counts - 1) * np.log(noise)).sum()
        likelihood = [_log_likelihood(squares, determinant, nu, draws) for nu in DEGREES]
        degrees = DEGREES[int(np.argmax(likelihood))]
        weight = (degrees + draws) / (degrees + squares)
    return noise, covariance, degrees


def _log_likelihood(squares: np.ndarray[Any, Any], determinant: float, degrees: float, draws: int) -> float:
    """Log density of a multivariate t distribution, summed over the images, up to a constant."""
    constant = gammaln((degrees + draws) / 2) - gammaln(degrees / 2) - draws / 2 * math.log(degrees)
    return float((constant - determinant / 2 - (degrees + draws) / 2 * np.log1p(squares / degrees)).sum())
