# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""From a batch of labelled images to the task of a class-conditional denoiser."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.engines.utils import PrepareBatch
from monai.networks.schedulers import Scheduler
from monai.utils import CommonKeys

from .._checks import check_findings, check_labels, plain_tensor
from .._lost_values import lost_values
from ..networks.conditioning import Conditioning, image_parameters, make_conditioning, split_conditions
from ..networks.findings import UNKNOWN, make_findings_conditioning
from ..networks.latent_space import LatentSpace, PixelSpace, check_latent_space, encode
from ..networks.schedulers.noise_process import NoiseProcess

__all__ = ["DenoisingPrepareBatch"]


class DenoisingPrepareBatch(PrepareBatch):
    """Noise a batch, drop some labels, and say what the network should predict; for `SupervisedTrainer`.

    Returns the noisy images as the network's input, ``{"target", "timesteps"}`` for `DenoisingLoss`, and the network's
    keyword arguments. Noise levels are spread evenly over the batch, one in each of B equal parts of the schedule,
    which lowers the variance of the loss (Kingma et al. 2021, appendix I.1). A dropped label becomes the null class,
    index K. Where scaling has left next to nothing of the values of all images of the first batch, a warning says so.

    Args:
        scheduler: the scheduler to train with, or an `SDEProcess`.
        num_classes: number of classes K.
        conditioning: how a class reaches the network, see :mod:`monai_diffclf.networks.conditioning`.
        label_dropout: probability of the null class, in [0, 1).
        seed: seed of noise, levels and dropout; ``EpochSeed`` sets a new one every epoch.
        extra_keys: keys of the batch that hold conditions of each image, one row an image, as in MONAI's
            `PrepareBatchExtraInput`; a mapping gives the name of the argument for each key's name.
        latent_space: the space the network works in, None for pixels; images are encoded in every step. Latents that
            are kept (:class:`monai_diffclf.representations.LatentDataset`) are taken for images, without it.
        all_classes: whether the same noisy image goes to the network under each of the K classes, as
            :class:`monai_diffclf.losses.ClassContrastiveLoss` needs it; a dropped label stays the null class alone.
            Targets then also hold ``"own"``, ``"contrasted"`` and ``"labels"``, see there. Of findings one that is
            known is drawn for each image, which goes to the network with it absent and present, the others as
            ``label_dropout`` has left them: two classes to that loss.
        log_snr_range: with ``all_classes``, log-SNR from and to which it is done: every other image gets a level there
            and is seen under all classes, the rest levels of the whole schedule and their own class. None for all
            images and levels.
        num_findings: findings L of each image in place of its class: labels are then states [B, L], 0 absent, 1 present
            or 2 unknown, ``label_dropout`` makes each of them unknown by itself, and ``conditioning`` is one by states,
            see :func:`monai_diffclf.networks.make_findings_conditioning`. None for classes.

    Raises:
        ValueError: when ``label_dropout`` or ``log_snr_range`` is out of range, or a batch's labels or images are not
            valid.

    Example:
        >>> from monai.networks.schedulers import DDPMScheduler
        >>> prepare = DenoisingPrepareBatch(DDPMScheduler(100), num_classes=2, label_dropout=0.0)
        >>> batch = {"image": torch.zeros(4, 1, 8, 8), "label": torch.tensor([0, 1, 1, 0])}
        >>> noisy, targets, _, kwargs = prepare(batch)
        >>> noisy.shape, sorted(targets), sorted(kwargs), kwargs["class_labels"]
        (torch.Size([4, 1, 8, 8]), ['target', 'timesteps'], ['class_labels', 'timesteps'], tensor([0, 1, 1, 0]))
    """

    def __init__(
        self,
        scheduler: Scheduler | NoiseProcess,
        num_classes: int = 2,
        *,
        conditioning: str | Conditioning = "class_labels",
        label_dropout: float = 0.1,
        seed: int = 0,
        extra_keys: Sequence[str] | Mapping[str, str] = (),
        latent_space: LatentSpace | None = None,
        all_classes: bool = False,
        log_snr_range: Sequence[float] | None = None,
        num_findings: int | None = None,
    ) -> None:
        if not 0 <= label_dropout < 1:
            raise ValueError(f"label_dropout: expected a probability in [0, 1), got {label_dropout!r}")
        self.process = NoiseProcess.of(scheduler)
        self.num_classes, self.num_findings = num_classes, num_findings
        if num_findings is None:
            self.conditioning = make_conditioning(conditioning, num_classes)
        else:
            self.conditioning = make_findings_conditioning(conditioning, num_findings)
        self.label_dropout = label_dropout
        self.generator = torch.Generator().manual_seed(seed)
        self.extra_keys = dict(
            extra_keys if isinstance(extra_keys, Mapping) else zip(extra_keys, extra_keys, strict=True)
        )
        self.latent_space = check_latent_space(latent_space)
        self.all_classes = bool(all_classes)
        self.levels = None if log_snr_range is None else _levels_within(self.process, log_snr_range)
        self._looked = False

    def set_random_state(self, seed: int) -> DenoisingPrepareBatch:
        """Start the random numbers anew (MONAI's name)."""
        self.generator.manual_seed(seed)
        return self

    def __call__(
        self,
        batchdata: Mapping[str, Any],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor], tuple[()], dict[str, Any]]:
        """See the class."""
        images = plain_tensor(torch.as_tensor(batchdata[CommonKeys.IMAGE])).float()
        if not bool(torch.isfinite(images).all()):
            raise ValueError("image: expected finite values, got NaN or infinity in a training batch")
        if not self._looked:
            _warn_of_lost_values(images)
            self._looked = True
        if not isinstance(self.latent_space, PixelSpace):
            images = encode(self.latent_space, images.to(device=device, non_blocking=non_blocking))
        given, labels = self._labels(batchdata[CommonKeys.LABEL], len(images))
        part = torch.randperm(len(images), generator=self.generator)
        offset = torch.rand(len(images), generator=self.generator, dtype=torch.float64)
        contrasted = self._askable(given, labels) & self.all_classes
        levels = (part + offset) / len(images)
        if self.all_classes and self.levels is not None:
            within = torch.arange(len(images)) % 2 == 0
            contrasted &= within
            levels = self._levels(part, offset, within)
        timesteps = self.process.timesteps(levels)
        # Random numbers are made on the CPU, so that a seed means the same on every device.
        noise = torch.randn(images.shape, generator=self.generator)
        images, noise, timesteps = (
            tensor.to(device=device, non_blocking=non_blocking, **kwargs if tensor.is_floating_point() else {})
            for tensor in (images, noise, timesteps)
        )
        targets = {"target": self.process.target(images, noise, timesteps), "timesteps": timesteps}
        noisy = self.process.add_noise(images, noise, timesteps)
        image: torch.Tensor | None = None
        if self.all_classes:
            if self.num_findings is None:
                image, labels, marks = _rows(labels, contrasted, self.num_classes)
            else:
                image, labels, marks = self._finding_rows(given, labels, contrasted)
            image, *others = (tensor.to(noisy.device) for tensor in (image, *marks.values()))
            noisy, targets = noisy[image], {name: tensor[image] for name, tensor in targets.items()}
            targets |= dict(zip(marks, others, strict=True))
        conditions = self._conditions(batchdata, labels.to(noisy.device), image)
        return noisy, targets, (), {"timesteps": targets["timesteps"], **conditions}

    def _labels(self, given: Any, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Classes [B] or states of findings [B, L]: as given, and some of them null or unknown."""
        if self.num_findings is None:
            checked, null = check_labels(given, self.num_classes, count, name="label"), self.num_classes
        else:
            checked, null = check_findings(given, self.num_findings, count, name="label"), UNKNOWN
        labels = torch.from_numpy(checked)
        hidden = torch.rand(labels.shape, generator=self.generator) < self.label_dropout
        return labels, torch.where(hidden, null, labels)

    def _askable(self, given: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Images [B] that may be seen under all classes: not of the null class, or with a finding that is known."""
        return labels != self.num_classes if self.num_findings is None else (given != UNKNOWN).any(1)

    def _finding_rows(
        self, given: torch.Tensor, states: torch.Tensor, contrasted: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
        """A row for each image, and of those contrasted one with a known finding absent and one with it present.

        The finding is one that is known in the image's label, whether it was dropped or not: what was dropped are the
        others, and the question is asked as the classifier will ask it.

        Returns:
            image [R] and states [R, L] of each row, and which rows are which.
        """
        place = torch.rand(given.shape, generator=self.generator).masked_fill(given == UNKNOWN, -1).argmax(1)
        image, value, marks = _rows(given.gather(1, place[:, None])[:, 0], contrasted, 2)
        states, two = states[image], contrasted[image]
        states[two, place[image][two]] = value[two]
        return image, states, marks

    def _levels(self, part: torch.Tensor, offset: torch.Tensor, within: torch.Tensor) -> torch.Tensor:
        """Levels [B]: of those within the range spread evenly over it, of the others over the whole schedule."""
        levels = torch.empty_like(offset)
        first, last = self.levels or (0.0, 1.0)
        for chosen, start, end in ((within, first, last), (~within, 0.0, 1.0)):
            rank = part[chosen].argsort().argsort()
            levels[chosen] = start + (end - start) * (rank + offset[chosen]) / max(len(rank), 1)
        return levels

    def _conditions(
        self, batchdata: Mapping[str, Any], labels: torch.Tensor, image: torch.Tensor | None
    ) -> dict[str, Any]:
        """The network's arguments for labels [R] and what the image of each row [R] brings along."""
        extra = {name: torch.as_tensor(batchdata[key]).to(labels.device) for name, key in self.extra_keys.items()}
        images = len(batchdata[CommonKeys.IMAGE])
        rows, _ = split_conditions({name: plain_tensor(value) for name, value in extra.items()}, images)
        if image is not None:
            rows = {name: value[image] for name, value in rows.items()}
        taken = [name for name in image_parameters(self.conditioning) if name in rows]
        own = self.conditioning(labels, **{name: rows.pop(name) for name in taken})
        return {**own, **rows}


def _warn_of_lost_values(images: torch.Tensor) -> None:
    """Say that a training would see black and white alone, or one grey: nothing else shows it before it is over."""
    if len(images) and all(lost := [lost_values(image) for image in images]):
        warnings.warn(
            f"image: expected images with values from black to white, got a batch of {len(images)} without, such as: "
            f"{lost[0]}; set the scaling (scale#a_min and scale#a_max) to the values of the files",
            stacklevel=3,
        )


def _rows(
    labels: torch.Tensor, contrasted: torch.Tensor, num_classes: int
) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    """A row for each image and class that is asked for: K of those contrasted, else one.

    Returns:
        image and label of each row [R], and which rows are which, as `ClassContrastiveLoss` takes them.
    """
    counts = torch.where(contrasted, num_classes, 1)
    first = counts.cumsum(0) - counts
    image = torch.repeat_interleave(torch.arange(len(labels)), counts)
    place = torch.arange(len(image)) - first[image]
    marks = {
        "own": torch.where(contrasted, first + labels, first),
        "contrasted": first[contrasted, None] + torch.arange(num_classes),
        "labels": labels[contrasted],
    }
    return image, torch.where(contrasted[image], place, labels[image]), marks


def _levels_within(process: NoiseProcess, log_snr_range: Sequence[float]) -> tuple[float, float]:
    """The part of the schedule, from level to level, whose log-SNR is in a range.

    Raises:
        ValueError: when the range is none, or has no level of the schedule in it.
    """
    low, high = (float(value) for value in log_snr_range)
    levels = (torch.arange(10_000, dtype=torch.float64) + 0.5) / 10_000
    log_snr = process.log_snr(process.timesteps(levels))
    inside = levels[(log_snr >= low) & (log_snr <= high)]
    if not len(inside):
        raise ValueError(
            f"log_snr_range: expected two ascending numbers from {float(log_snr.min()):.3g} to "
            f"{float(log_snr.max()):.3g}, got {list(log_snr_range)}"
        )
    return float(inside[0]), float(inside[-1])
