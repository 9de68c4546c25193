# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A loss that also asks a denoiser to tell the classes apart by its errors, as the classifier will."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as functional
from monai.networks.schedulers import Scheduler
from torch import nn

from .._checks import check_integer, check_labels, check_number
from ..networks.schedulers.noise_process import NoiseProcess
from .denoising import DenoisingLoss
from .processes import mean_over_processes, synchronised

__all__ = ["ClassContrastiveLoss"]

# The scale starts softly: where differences are mostly noise, a sharp one is met soonest by making them vanish; what
# tells the classes apart has to grow out of them. In units of the differences, and at least of this part of the error.
_SOFTNESS = 10.0
_SMALLEST = 0.01
_MEMORY = 0.99
# Beyond this log-SNR nothing of an image, or of the noise, is left to tell classes by.
_LIMIT = 10.0


class ClassContrastiveLoss(DenoisingLoss):
    """The denoising loss, and beside it the cross-entropy of the class that the errors of one draw speak for.

    The same noisy image is denoised under all K classes. With e_k the mean squared epsilon error of class k, D the
    number of elements, lambda the log-SNR and y the class of the image, the contrastive term is

        cross-entropy(softmax_k(-s(lambda) (D / 2) e_k), y).

    The scale s is learned, one number for each of ``num_bands`` bands of lambda; (D / 2) e is the error in nats. It
    starts at a tenth of what would give the differences between classes in the first batch a standard deviation of 1,
    and where they are less than a thousandth of the error, as in a network that is not trained, at 1 over 1 % of it.
    The sum is

        denoising + factor x contrastive,

    with the factor chosen so that an image which the errors leave undecided pulls at the network's output ``weight``
    times as strongly as the denoising term does (norm of the gradients, moving average). What is decided pulls less.

    The batches are those of ``DenoisingPrepareBatch(all_classes=True)``; of others it is the `DenoisingLoss`. The scale
    is a parameter: :func:`monai_diffclf.losses.parameter_groups` gives it to the optimizer without weight decay. Over
    several processes its gradient and all that is measured are averaged, so that they agree. A batch with errors that
    are not finite, as where float16 overflows, is not measured.

    Args:
        scheduler: the scheduler the network is trained with, or an `SDEProcess`.
        num_classes: number of classes K.
        weight: strength of the contrastive term, see above: about 3 keeps a model of images one, about 100 suits
            features, of which no images are drawn. 0 for none: then the loss is the `DenoisingLoss`, to the bit, and
            has no parameters.
        denoising_weighting: the weighting of the `DenoisingLoss`.
        gamma: limit of its min-SNR.
        log_snr_range: log-SNR from and to which images are contrasted; None for all of the process.
        num_bands: bands of the log-SNR.
        label_smoothing: smoothing of the class, in [0, 1).

    Raises:
        ValueError: when an argument is out of range.

    Example:
        >>> from monai.networks.schedulers import DDPMScheduler
        >>> loss = ClassContrastiveLoss(DDPMScheduler(10), 2, weight=1.0, label_smoothing=0.0)
        >>> targets = {"target": torch.zeros(2, 1, 4, 4), "timesteps": torch.tensor([5, 5]), "own": torch.tensor([0])}
        >>> targets |= {"contrasted": torch.tensor([[0, 1]]), "labels": torch.tensor([0])}
        >>> right = loss(torch.tensor([0.5, 0.6]).view(2, 1, 1, 1).expand(2, 1, 4, 4), targets)
        >>> wrong = loss(torch.tensor([0.5, 0.4]).view(2, 1, 1, 1).expand(2, 1, 4, 4), targets)
        >>> bool(right < wrong)
        True
    """

    edges: torch.Tensor
    measured: torch.Tensor
    squared_norms: torch.Tensor

    def __init__(
        self,
        scheduler: Scheduler | NoiseProcess,
        num_classes: int,
        *,
        weight: float = 0.0,
        denoising_weighting: str = "min_snr",
        gamma: float = 5.0,
        log_snr_range: Sequence[float] | None = None,
        num_bands: int = 8,
        label_smoothing: float = 0.1,
    ) -> None:
        super().__init__(scheduler, weighting=denoising_weighting, gamma=gamma)
        num_classes, num_bands = check_integer(num_classes, "num_classes", 2), check_integer(num_bands, "num_bands")
        check_number(weight, "weight", "a number of at least 0", lambda strength: 0 <= strength < math.inf)
        check_number(label_smoothing, "label_smoothing", "a number in [0, 1)", lambda share: 0 <= share < 1)
        self.num_classes, self.contrastive_weight, self.label_smoothing = num_classes, float(weight), label_smoothing
        self.num_bands = num_bands
        self.log_snr_range = None if log_snr_range is None else check_range(log_snr_range)
        if not weight:
            return
        low, high = self.log_snr_range or self._whole_range()
        self.log_scale = nn.Parameter(torch.zeros(num_bands))
        self.register_buffer("edges", torch.linspace(low, high, num_bands + 1, dtype=torch.float64))
        self.register_buffer("measured", torch.tensor(False))
        self.register_buffer("squared_norms", torch.zeros(2, dtype=torch.float64))

    def forward(self, prediction: torch.Tensor, targets: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The loss, a scalar.

        Args:
            prediction: what the network predicted [R, C, *spatial], a row for each image and class.
            targets: ``"target"`` [R, C, *spatial] and ``"timesteps"`` [R]; ``"own"`` [B], the row of each image under
                its own class or the null class; ``"contrasted"`` [M, K], rows of the same noisy image under all
                classes; ``"labels"`` [M], their class. As ``DenoisingPrepareBatch(all_classes=True)`` makes them.

        Raises:
            ValueError: when the shapes differ, or a label is no class.
        """
        if "own" not in targets:
            return super().forward(prediction, targets)
        squared, timesteps = self.squared_error(prediction, targets["target"]), targets["timesteps"]
        own, rows, labels = targets["own"], targets["contrasted"], targets["labels"]
        weights = self.weight(timesteps[own]).to(squared)
        denoising = (squared[own] * weights).mean()
        if not self.contrastive_weight:
            return denoising
        if rows.ndim != 2 or rows.shape[1] != self.num_classes or len(labels) != len(rows):
            raise ValueError(
                f"targets: expected rows of contrasted images [M, {self.num_classes}] and their labels [M], got "
                f"{list(rows.shape)} and {list(labels.shape)}"
            )
        classes = check_labels(labels, self.num_classes, len(rows), name="targets['labels']")
        labels = torch.from_numpy(classes).to(squared.device)
        log_snr = self.process.log_snr(timesteps[rows[:, 0]]).to(squared.device)
        if self.log_snr_range is not None:
            inside = (log_snr >= self.log_snr_range[0]) & (log_snr <= self.log_snr_range[1])
            rows, labels, log_snr = rows[inside], labels[inside], log_snr[inside]
        elements = prediction[0].numel()
        factor = self.process.epsilon_factor(timesteps[rows[:, 0]]).to(squared.device)
        nats = squared[rows].double() * (factor * elements / 2)[:, None]
        scale = self._scale(nats.detach(), log_snr)
        logits = (nats.mean(1, keepdim=True) - nats) * scale[:, None]
        terms = functional.cross_entropy(logits, labels, reduction="none", label_smoothing=self.label_smoothing)
        # The sum of none is 0 and has a graph: another process may have images to contrast where this one has none.
        contrastive = terms.sum() / max(len(terms), 1)
        if self.training:
            pull = (scale.detach() * factor * elements / 2)[:, None] / max(len(terms), 1)
            undecided = 1 / self.num_classes - functional.one_hot(labels, self.num_classes).to(pull)
            self._measure_norms(
                torch.stack(
                    [
                        ((weights / len(own)).square() * squared[own]).detach().sum().double(),
                        ((pull * undecided).square() * squared[rows].detach()).sum(),
                    ]
                )
            )
        return denoising + (self.factor * contrastive).to(denoising)

    @property
    def factor(self) -> float:
        """What the contrastive term is multiplied by at present; 0 before the first batch."""
        denoising, contrastive = self.squared_norms.tolist()
        return self.contrastive_weight * math.sqrt(denoising / contrastive) if contrastive > 0 else 0.0

    def learned(self) -> dict[str, Any] | None:
        """Level weights and temperature for the classifier, in plain values; None where nothing is learned.

        The weights have mean 1 over the schedule, and are 0 beyond ``log_snr_range``. With the temperature the mean of
        many draws has the scale of one: s(lambda) = weight / temperature, for draws spread evenly over the range.
        """
        if not self.contrastive_weight or not bool(self.measured):
            return None
        scale, edges = self.log_scale.detach().double().exp().tolist(), self.edges.tolist()
        beyond = [0.0] if self.log_snr_range is not None else []
        inner = edges if self.log_snr_range is not None else edges[1:-1]
        levels = self.process.log_snr(self.process.timesteps((torch.arange(1000, dtype=torch.float64) + 0.5) / 1000))
        table = torch.tensor([*beyond, *scale, *beyond], dtype=torch.float64)
        at = table[torch.bucketize(levels, torch.tensor(inner, dtype=torch.float64))]
        mean = float(at.mean())
        share = float((at > 0).double().mean())
        return {
            "level_weights": {"edges": inner, "weights": (table / mean).tolist()},
            "temperature": share / mean,
            "log_snr": [edges[0], edges[-1]],
        }

    def _whole_range(self) -> tuple[float, float]:
        ends = self.process.log_snr(self.process.timesteps(torch.tensor([0.0, 1 - 1e-6], dtype=torch.float64)))
        high, low = (max(-_LIMIT, min(_LIMIT, float(end))) for end in ends)
        return low, high

    def _band(self, log_snr: torch.Tensor) -> torch.Tensor:
        return torch.bucketize(log_snr, self.edges[1:-1])

    def _scale(self, nats: torch.Tensor, log_snr: torch.Tensor) -> torch.Tensor:
        """s of each contrasted image [M], float64; at the first call of a training it is measured."""
        if self.training and not bool(self.measured):
            self._measure_scale(nats, log_snr)
        return synchronised(self.log_scale)[self._band(log_snr)].double().exp()

    @torch.no_grad()
    def _measure_scale(self, nats: torch.Tensor, log_snr: torch.Tensor) -> None:
        """Start the scale by the differences' size, taken as a quadratic function of the log-SNR, in logarithms."""
        low, high = float(self.edges[0]), float(self.edges[-1])

        def features(log_snr: torch.Tensor) -> torch.Tensor:
            x = ((2 * log_snr - low - high) / (high - low)).clamp(-1, 1)
            return torch.stack([torch.ones_like(x), x, x.square()], dim=1)

        size = torch.maximum(_SOFTNESS * nats.std(1, correction=0), _SMALLEST * nats.mean(1)).clamp(min=1e-30).log()
        rows = features(log_snr)
        sums = mean_over_processes(torch.cat([rows.T @ rows, (rows.T @ size)[:, None]], dim=1))
        # Nothing contrasted in this batch, or an overflow in any process: the next one is measured.
        if not sums[0, 0] > 0 or not bool(torch.isfinite(sums).all()):
            return
        bend = torch.diag(torch.tensor([0.0, 1e-2, 1e-2], dtype=sums.dtype, device=sums.device)) * sums[0, 0]
        coefficients = torch.linalg.solve(sums[:, :3] + bend, sums[:, 3])
        centres = (self.edges[1:] + self.edges[:-1]) / 2
        self.log_scale.copy_(-(features(centres) @ coefficients))
        self.measured.fill_(True)

    @torch.no_grad()
    def _measure_norms(self, squared_norms: torch.Tensor) -> None:
        new = mean_over_processes(squared_norms).to(self.squared_norms)
        # All processes have the same mean, and so skip the same batches.
        if new[1] > 0 and bool(torch.isfinite(new).all()):
            self.squared_norms.lerp_(new, 1 - _MEMORY)  # both start at 0, so that their ratio has no memory of that


def check_range(log_snr_range: Sequence[float]) -> tuple[float, float]:
    """A range of log-SNR, checked.

    Raises:
        ValueError: when it is not two ascending numbers.
    """
    given = list(log_snr_range) if isinstance(log_snr_range, Sequence) and not isinstance(log_snr_range, str) else []
    try:
        values = [float(value) for value in given]
    except (TypeError, ValueError):
        values = []
    if len(values) != 2 or not all(map(math.isfinite, values)) or not values[0] < values[1]:
        raise ValueError(f"log_snr_range: expected None or two ascending numbers, got {given or log_snr_range!r}")
    return values[0], values[1]
