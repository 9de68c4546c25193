# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""How much each draw counts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .denoising_errors import DenoisingErrors

__all__ = ["LevelWeights", "Weighting", "draw_weights"]

WEIGHTINGS = ("uniform", "elbo", "min_snr")


@dataclass(frozen=True)
class LevelWeights:
    """Weights learned for the noise levels of one network: constant within each of J bands of the log-SNR.

    A weight changes what is summed: a classifier with learned weights is another classifier than the one without, and
    is named so. Learn them with :func:`monai_diffclf.classification.fit_level_weights` on images of patients that are
    neither trained nor tested on.

    Args:
        edges: log-SNR at which one band ends and the next begins [J - 1], ascending.
        weights: weight of each band [J], not negative, not all zero.
        trained: whether they were learned with the network, in its training: then they are part of the model, and the
            classifier is not another one.

    Raises:
        ValueError: when the lengths do not fit or a weight is negative.

    Example:
        >>> weights = LevelWeights(edges=(0.0,), weights=(1.0, 3.0))
        >>> weights.at(torch.tensor([-5.0, 5.0])).tolist()
        [1.0, 3.0]
    """

    edges: Sequence[float]
    weights: Sequence[float]
    trained: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        edges, weights = list(self.edges), list(self.weights)
        if len(weights) != len(edges) + 1:
            raise ValueError(
                f"weights: expected one a band, {len(edges) + 1} with {len(edges)} edges between, got {len(weights)}"
            )
        if not all(math.isfinite(w) and w >= 0 for w in weights) or not sum(weights) > 0:
            raise ValueError(f"weights: expected numbers of at least 0, not all 0, got {weights}")
        if not all(a < b for a, b in pairwise(edges)):
            raise ValueError(f"edges: expected ascending log-SNR values, got {edges}")

    def at(self, log_snr: torch.Tensor) -> torch.Tensor:
        """Weight of each draw [N], float64, from its log-SNR [N]."""
        edges = torch.tensor(list(self.edges), dtype=torch.float64, device=log_snr.device)
        table = torch.tensor(list(self.weights), dtype=torch.float64, device=log_snr.device)
        return table[torch.bucketize(log_snr.double(), edges)]

    def to_dict(self) -> dict[str, list[float]]:
        """As plain numbers, for a JSON file."""
        return {"edges": [float(x) for x in self.edges], "weights": [float(x) for x in self.weights]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LevelWeights:
        """From what `to_dict` gave; other keys are ignored."""
        if missing := {"edges", "weights"} - values.keys():
            raise ValueError(f"values: expected edges and weights, {sorted(missing)} missing")
        return cls(tuple(map(float, values["edges"])), tuple(map(float, values["weights"])))


def band_edges(log_snr: torch.Tensor, num_bands: int) -> NDArray[Any]:
    """Edges between bands with about equally many draws each, at most ``num_bands`` of them, none empty [J - 1]."""
    values = log_snr.double().cpu().numpy()
    edges = np.unique(np.quantile(values, np.arange(1, num_bands) / num_bands, method="inverted_cdf"))
    return np.asarray(edges[edges < values.max()])


Weighting = str | torch.Tensor | LevelWeights


def draw_weights(errors: DenoisingErrors, weighting: Weighting = "uniform", *, gamma: float = 5.0) -> torch.Tensor:
    """Weight of each draw's error in the mean [N], float64, times ``errors.importance`` where there is one.

    * ``"uniform"``: 1. All levels of the schedule count alike, as in the released code of Favero et al. (2025).
    * ``"elbo"``: -d lambda / dt, the weight under which the mean is the negative log-likelihood's bound
      (Kingma et al. 2021, equation 18). With the exact denoiser it gives the exact posterior.
    * ``"min_snr"``: min(SNR, gamma) / SNR (Hang et al. 2023, section 3.4).
    * :class:`LevelWeights`: learned for the network's noise levels.
    * a tensor [N]: the weight of each draw.

    Args:
        errors: the errors; their ``log_snr`` is used, and ``log_snr_rate`` by the ELBO.
        weighting: one of the above.
        gamma: limit of the min-SNR weight.

    Raises:
        ValueError: when ``weighting`` is unknown, has not one weight a draw or a negative one, or ``log_snr_rate`` is
            needed and missing; when learned weights count none of the draws.

    Example:
        >>> e = DenoisingErrors(torch.rand(1, 2, 3), torch.arange(3), torch.tensor([5.0, 0.0, -5.0]))
        >>> draw_weights(e, "min_snr").tolist()[1:]
        [1.0, 1.0]
    """
    check_weighting(weighting, errors.num_draws)
    weights = _base_weights(errors, weighting, gamma)
    return weights if errors.importance is None else weights * errors.importance.double()


def _base_weights(errors: DenoisingErrors, weighting: Weighting, gamma: float) -> torch.Tensor:
    log_snr = errors.log_snr.double()
    if isinstance(weighting, LevelWeights):
        check_levels_count(weighting, log_snr)
        return weighting.at(log_snr)
    if isinstance(weighting, torch.Tensor):
        return weighting.to(log_snr)
    if weighting == "uniform":
        return torch.ones_like(log_snr)
    if weighting == "min_snr":
        if not gamma > 0:
            raise ValueError(f"gamma: expected a positive number, got {gamma}")
        return torch.exp((math.log(gamma) - log_snr).clamp(max=0.0))
    if errors.log_snr_rate is None:
        raise ValueError("weighting 'elbo' needs errors.log_snr_rate; these errors were stored without it")
    return errors.log_snr_rate.double()


def check_levels_count(weighting: Weighting, log_snr: torch.Tensor) -> None:
    """Refuse learned weights that count none of some draws: every class would have the same error, 0.

    Raises:
        ValueError: saying at which log-SNR they count.
    """
    if not isinstance(weighting, LevelWeights) or not len(log_snr) or bool((weighting.at(log_snr) > 0).any()):
        return
    counts = [n for n, weight in enumerate(weighting.weights) if weight > 0]
    ends = [-math.inf, *weighting.edges, math.inf]
    raise ValueError(
        f"weighting: expected a draw at a log-SNR that its learned weights count, {ends[counts[0]]:.3g} to "
        f"{ends[counts[-1] + 1]:.3g}, got {len(log_snr)} at {float(log_snr.min()):.3g} to {float(log_snr.max()):.3g}; "
        "make more draws, give noise_levels in that range, or weight all draws alike (uniform)"
    )


def check_weighting(weighting: Any, num_draws: int, *, name: str = "weighting") -> None:
    """Refuse a weighting that no classifier of ``num_draws`` draws can have, before any draw is made.

    Raises:
        ValueError: when it is unknown, or has not one weight a draw or a negative one.
    """
    if isinstance(weighting, torch.Tensor):
        if tuple(weighting.shape) != (num_draws,):
            raise ValueError(f"{name}: expected one weight a draw, [{num_draws}], got {list(weighting.shape)}")
        if not bool((torch.isfinite(weighting) & (weighting >= 0)).all()) or not float(weighting.sum()) > 0:
            raise ValueError(f"{name}: expected finite weights of at least 0, not all 0")
    elif not isinstance(weighting, LevelWeights) and weighting not in WEIGHTINGS:
        raise ValueError(f"{name}: expected one of {list(WEIGHTINGS)}, LevelWeights or a tensor, got {weighting!r}")
