# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What a model of the differences makes of a set of draws: the best order, and the total of all after any of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from .denoising_errors import DenoisingErrors
from .draw_weights import Weighting, draw_weights
from .rules import mean_errors

if TYPE_CHECKING:
    from .difference_model import DifferenceModel

__all__ = ["Forecast"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Forecast:
    """The total of all N draws, forecast after each of them; depends on the draws' levels and weights only.

    Under a :class:`DifferenceModel` the differences x_1 ... x_N of an image, in the order in which they are made, are
    jointly Gaussian up to the image's scale s. With the Cholesky factor L of their covariance, x = L z, z is white, and
    the weighted total is w^T x = a^T z with a = L^T w. After n draws its mean is the sum of the first n a_i z_i, its
    variance s^2 times the sum of the other a_i^2, and the sum of the first n z_i^2 says how large s is: the total has a
    Student t distribution with nu + n degrees of freedom.

    Args:
        order: the draws, first to last [N], int64.
        whiten: L^-1, lower triangular [N, N].
        gain: a, how far each whitened draw moves the total [N].
        share: weight of each draw in the mean forecast after n draws, row n - 1 [N, N].
        spread: variance of the total that is left after n draws, in units of s^2, number n - 1 [N].
        degrees: nu, degrees of freedom of the scale.
    """

    order: torch.Tensor
    whiten: torch.Tensor
    gain: torch.Tensor
    share: torch.Tensor
    spread: Sequence[float]
    degrees: float

    @classmethod
    def of(cls, model: DifferenceModel, weights: Array, log_snr: Array, *, choose: bool) -> Forecast:
        """Work it out, draw by draw.

        Args:
            model: the model of the differences.
            weights: weight of each draw in the total [N].
            log_snr: log-SNR of each draw [N].
            choose: take next the draw that leaves the total the least variance, the first of those that are as good;
                else as they come.
        """
        count = len(weights)
        band = np.searchsorted(np.asarray(model.edges), log_snr)
        noise, covariance = np.asarray(model.noise)[band], np.array(model.covariance, dtype=np.float64)
        # Of the means of the bands [J]: their covariance given the draws so far, and their weight in the draws to come.
        to_come = np.bincount(band, weights, minlength=len(covariance))
        means = np.zeros((len(covariance), count))  # their forecast, as a function of the draws made
        left = np.ones(count, dtype=bool)
        order, gain, whiten = np.arange(count), np.zeros(count), np.zeros((count, count))
        for n in range(count):
            variance = covariance.diagonal().clip(min=0.0)[band] + noise
            # Covariance of every draw with the total, given those made; its square over the variance is what it tells.
            with_total = (covariance @ to_come)[band] + weights * noise
            if choose:
                order[n] = np.argmax(np.where(left, with_total**2 / variance, -1.0))
            i, scale = order[n], np.sqrt(variance[order[n]])
            j = band[i]
            whiten[n, :n], whiten[n, n] = -means[j, :n] / scale, 1 / scale
            gain[n] = with_total[i] / scale
            column = covariance[:, j] / scale
            means[:, : n + 1] += np.outer(column, whiten[n, : n + 1])
            covariance -= np.outer(column, column)
            to_come[j] -= weights[i]
            left[i] = False
        spread = np.append(np.cumsum(gain[::-1] ** 2)[::-1], 0.0)[1:]
        share = np.cumsum(gain[:, None] * whiten, 0)
        return cls(
            torch.from_numpy(order),
            torch.from_numpy(whiten),
            torch.from_numpy(gain),
            torch.from_numpy(share),
            spread.tolist(),
            float(model.degrees),
        )

    def to(self, device: torch.device | str) -> Forecast:
        """The same on another device; the order stays on the CPU."""
        return replace(self, whiten=self.whiten.to(device), gain=self.gain.to(device), share=self.share.to(device))

    def totals(self, scores: torch.Tensor) -> torch.Tensor:
        """Mean of the total of all draws, given the first n [..., n] -> [...], float64; exact after all of them.

        It is linear: the total forecast for a difference of two classes is the difference of their totals.
        """
        made = scores.shape[-1]
        return scores @ self.share[made - 1, :made]

    def lead(self, x: torch.Tensor) -> tuple[torch.Tensor, float]:
        """The total's mean in units of its scale, given the first n differences [M, n] -> [M], and its degrees.

        The total is not positive with the probability of Student's t distribution, with these degrees, below minus it.
        NaN where all differences are 0 and nothing is known of their scale.
        """
        made = x.shape[1]
        z = x @ self.whiten[:made, :made].T
        total, degrees, left = z @ self.gain[:made], self.degrees + made, self.spread[made - 1]
        if left == 0:
            return torch.where(total > 0, torch.inf, -torch.inf), degrees
        return total / z.square().sum(1).add(self.degrees).mul(left / degrees).sqrt(), degrees

    def mean_errors(self, errors: DenoisingErrors, weighting: Weighting) -> torch.Tensor:
        """Mean error of each class over all draws [B, K], see :meth:`PredictiveCurtailment.mean_errors`.

        Raises:
            ValueError: when other draws were made than the first ones of this order.
        """
        order, weights = self.order.to(errors.values.device), draw_weights(errors, weighting)
        made = errors.evaluated[:, :, order]
        if bool((made[:, :, 1:] & ~made[:, :, :-1]).any()):
            raise ValueError("errors: expected the draws that this rule makes first, some are missing")
        means, count = mean_errors(errors, weighting), made.sum(2)
        most = count.amax(1)
        for number in most.unique().tolist():
            if 0 < number < len(order):
                images, log_snr = most == number, errors.log_snr[order].double()
                nearest = (log_snr[:, None] - log_snr[:number]).abs().argmin(1)
                stands_for = torch.arange(number, device=order.device)[:, None] == nearest
                values = errors.values[images][:, :, order[:number]].double()
                means[images] = self._means(values, count[images], stands_for.double() @ weights[order])
        return means

    def _means(self, values: torch.Tensor, count: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        """The same for images of which n draws were made [b, K], from those [b, K, n], in their order.

        Args:
            values: the errors.
            count: draws made for each class [b, K].
            level: weight of each draw in the leader's mean over all levels [n].
        """
        totals = torch.where(count == len(level), self.totals(-values), -torch.inf)
        best = values[torch.arange(len(values), device=values.device), totals.argmax(1)]
        behind = totals.amax(1, keepdim=True) - totals
        # A class given up earlier is compared with the leader on the draws that both have.
        for number in count[count < len(level)].unique().tolist():
            leads = values[:, :, :number] - best[:, None, :number]
            behind = torch.where(count == number, self.totals(leads) if number else torch.inf, behind)
        return (best @ level)[:, None].add(behind) / len(self.order)
