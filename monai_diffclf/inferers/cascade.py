# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""An inferer of two classifiers: a cheap one answers where it is sure, a diffusion classifier the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .._checks import check_images, plain_tensor
from ..classification.cascade import CascadeClassification, Combine, join_cascade
from ..networks.conditioning import split_conditions
from .classifier import ClassifierInferer
from .softmax_classifier import SoftmaxClassifierInferer

__all__ = ["CascadeInferer", "FitImages"]


@dataclass(frozen=True)
class FitImages:
    """Makes images of another size: cuts off what was padded, around the middle, then resizes with antialiasing.

    Args:
        crop: size of the images without padding.
        size: size that they get.

    Example:
        >>> FitImages(crop=(28, 28), size=(14, 14))(torch.zeros(2, 1, 32, 32)).shape
        torch.Size([2, 1, 14, 14])
    """

    crop: Sequence[int]
    size: Sequence[int]

    def __post_init__(self) -> None:
        object.__setattr__(self, "crop", tuple(map(int, self.crop)))
        object.__setattr__(self, "size", tuple(map(int, self.size)))

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Images [B, C, *crop plus padding] -> [B, C, *size]."""
        if len(self.crop) != images.ndim - 2 or any(a > b for a, b in zip(self.crop, images.shape[2:], strict=True)):
            raise ValueError(f"images: expected at least {list(self.crop)} pixels, got {list(images.shape[2:])}")
        for axis, size in enumerate(self.crop, 2):
            images = images.narrow(axis, (images.shape[axis] - size) // 2, size)
        if self.size == self.crop or len(images) == 0:
            return images.new_zeros(0, images.shape[1], *self.size) if len(images) == 0 else images
        if images.ndim == 4:
            return torch.nn.functional.interpolate(images, self.size, mode="bilinear", antialias=True)
        return torch.nn.functional.interpolate(images, self.size, mode="area")


class CascadeInferer(ClassifierInferer):
    """A cheap softmax classifier answers where its largest probability is above a threshold, another one the rest.

    Images of which error maps are asked for all go to the second, which explains its own answer. The threshold comes
    from validation images, see :func:`monai_diffclf.classification.fit_cascade`. With ``combine`` a deferred image gets
    the probabilities of both, at no further cost; with a threshold of 1 every image does, which is a plain ensemble.

    Args:
        second: the inferer for what is deferred, such as a `DiffusionClassifierInferer`; its network is the one that
            the cascade is called with.
        first_network: the network of the cheap classifier in eval mode: images -> logits [B, K].
        threshold: from 0, at which the first answers all, to 1, at which it answers none.
        first: the inferer of the cheap classifier; None for a `SoftmaxClassifierInferer` of as many classes.
        prepare: makes the first's images [B, C, *spatial] of the second's, such as a resize; None for the same.
        combine: makes the probabilities of a deferred image of those of both, such as an
            :class:`monai_diffclf.uncertainty.Ensemble`; None takes the second's.

    Raises:
        TypeError: when an inferer is of the wrong kind.
        ValueError: when the threshold is out of range or the numbers of classes differ.

    Example:
        >>> from monai.networks.schedulers import DDPMScheduler
        >>> from monai_diffclf.inferers import DiffusionClassifierInferer
        >>> class Denoiser(torch.nn.Module):  # knows that class k is the constant image k
        ...     def forward(self, x, timesteps, context=None, class_labels=None):
        ...         return class_labels.view(-1, 1, 1, 1).expand_as(x).float()
        >>> class Cheap(torch.nn.Module):  # sure of dark images only
        ...     def forward(self, x):
        ...         return torch.stack([5 - 5 * x.mean((1, 2, 3)), torch.zeros(len(x))], 1)
        >>> scheduler = DDPMScheduler(num_train_timesteps=100, schedule="cosine", prediction_type="sample")
        >>> inferer = CascadeInferer(DiffusionClassifierInferer(scheduler, num_draws=5), Cheap().eval(), 0.9)
        >>> result = inferer.classify(torch.arange(2.0).view(2, 1, 1, 1).expand(2, 1, 8, 8), Denoiser().eval())
        >>> result.predicted.tolist(), result.deferred.tolist(), result.network_evaluations.tolist()
        ([0, 1], [False, True], [1, 11])
    """

    def __init__(
        self,
        second: ClassifierInferer,
        first_network: torch.nn.Module,
        threshold: float,
        *,
        first: SoftmaxClassifierInferer | None = None,
        prepare: Callable[[torch.Tensor], torch.Tensor] | None = None,
        combine: Combine | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(second, ClassifierInferer) or isinstance(second, CascadeInferer):
            raise TypeError(f"second: expected an inferer of this package, no cascade, got {type(second).__name__}")
        if first is not None and not isinstance(first, SoftmaxClassifierInferer):
            raise TypeError(f"first: expected None or a SoftmaxClassifierInferer, got {type(first).__name__}")
        if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 <= threshold <= 1:
            raise ValueError(f"threshold: expected a probability from 0 to 1, got {threshold!r}")
        self.first = SoftmaxClassifierInferer(second.num_classes) if first is None else first
        if self.first.num_classes != second.num_classes:
            raise ValueError(
                f"first: expected {second.num_classes} classes, as the second has, got {self.first.num_classes}"
            )
        self.second, self.first_network, self.threshold = second, first_network, float(threshold)
        self.prepare, self.combine = prepare, combine
        self.num_classes, self.seed, self.batch_size = second.num_classes, second.seed, second.batch_size
        self.latent_space, self.stopping, self.amp_dtype = second.latent_space, second.stopping, second.amp_dtype

    @property
    def num_estimates(self) -> int:
        """Values of each image and class: the first's logit, and the second's."""
        return 1 + self.second.num_estimates

    def classify(
        self, images: torch.Tensor, network: Callable[..., Any], *, error_maps: bool = False, **kwargs: Any
    ) -> CascadeClassification:
        """Classify a batch of images.

        Args:
            images: images [B, C, *spatial], scaled as both networks were trained.
            network: the second classifier's network.
            error_maps: also return its error maps, for which every image goes to it.
            kwargs: further arguments for its network: tensors with one row an image, and what all calls share.

        Raises:
            ValueError: as the two inferers.
        """
        # A tensor with metadata keeps it in what is computed from it.
        images = plain_tensor(check_images(images, network))
        with torch.no_grad():
            first = self.first.classify(images if self.prepare is None else self.prepare(images), self.first_network)
        deferred = torch.ones_like(first.decided) if error_maps else self._unsure(first.probabilities)
        second = None
        if error_maps or bool(deferred.any()):  # of an empty batch there are maps as well
            rows, shared = split_conditions(kwargs, len(images))
            own = {name: value[deferred.to(value.device)] for name, value in rows.items()}
            second = self.second.classify(images[deferred], network, error_maps=error_maps, **own, **shared)
        return join_cascade(first, second, deferred, self.second.num_estimates, self.combine)

    def decide(self, values: torch.Tensor, num_elements: int) -> CascadeClassification:
        """Classify from stored values [n, K, 1 + N], without a network: deferred is what the second has values of."""
        first = self.first.decide(values[..., :1], 1)
        deferred = ~torch.isnan(values[..., 1:]).flatten(1).all(1)
        second = self.second.decide(values[deferred][..., 1:], num_elements) if bool(deferred.any()) else None
        return join_cascade(first, second, deferred, self.second.num_estimates, self.combine)

    def _unsure(self, probabilities: torch.Tensor) -> torch.Tensor:
        return probabilities.amax(1) <= self.threshold
