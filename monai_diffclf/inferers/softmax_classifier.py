# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""An ordinary classifier, such as a ResNet, as an inferer of the kind that ours are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from .._checks import check_images, check_integer
from ..classification.result import LogitClassification
from ..classification.vote_statistics import probability_uncertainty
from ..networks.denoiser import check_refusal
from ..networks.latent_space import PixelSpace
from .classifier import ClassifierInferer

__all__ = ["SoftmaxClassifierInferer"]


class SoftmaxClassifierInferer(ClassifierInferer):
    """Class probabilities of a network that gives one logit a class: p(k | x) = softmax(network(x))_k.

    With it a baseline goes through the same engine, tables and commands as a diffusion classifier. It has one network
    evaluation an image, no error maps, and no random numbers.

    Args:
        num_classes: classes K.

    Raises:
        ValueError: when there are fewer than two.

    Example:
        >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3)).eval()
        >>> SoftmaxClassifierInferer(3)(torch.zeros(2, 1, 2, 2), network).shape
        torch.Size([2, 3])
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes, self.seed, self.batch_size = check_integer(num_classes, "num_classes", 2), 0, None
        self.latent_space = PixelSpace()

    @property
    def num_estimates(self) -> int:
        """One value of each image and class."""
        return 1

    def classify(
        self, images: torch.Tensor, network: Callable[..., Any], *, error_maps: bool = False, **kwargs: Any
    ) -> LogitClassification:
        """Classify a batch of images [B, C, *spatial].

        Args:
            images: the images, scaled as the network was trained.
            network: the network in eval mode: images -> logits [B, K].
            error_maps: must be False.
            kwargs: further arguments for the network.

        Raises:
            ValueError: when error maps are asked for, the network is in training mode, or gives anything but finite
                logits [B, K].
        """
        if error_maps:
            raise ValueError("error_maps: expected False, as a network that gives logits has none")
        images = check_images(images, network)
        expected = (len(images), self.num_classes)
        logits = _logits(network, images, kwargs) if len(images) else images.new_zeros(expected)
        if not isinstance(logits, torch.Tensor) or tuple(logits.shape) != expected:
            got = list(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
            raise ValueError(f"network: expected one that gives logits {list(expected)}, got {got}")
        return self.decide(logits[..., None], 1)

    def decide(self, values: torch.Tensor, num_elements: int) -> LogitClassification:
        """Classify from logits [n, K, 1], without a network."""
        logits = values[..., 0].float()
        if not bool(logits.isfinite().all()):
            raise ValueError("network: expected finite logits, got NaN or infinite ones")
        probabilities = logits.softmax(dim=1)
        ones = torch.ones(len(logits), dtype=torch.int64, device=logits.device)
        return LogitClassification(
            predicted=probabilities.argmax(dim=1),
            probabilities=probabilities,
            uncertainty=probability_uncertainty(probabilities),
            network_evaluations=ones,
            decided=ones.bool(),
            guarantee="the class is that of the network's one evaluation",
            logits=logits,
        )


@torch.no_grad()
def _logits(network: Callable[..., Any], images: torch.Tensor, kwargs: dict[str, Any]) -> Any:
    try:
        return network(images, **kwargs)
    except RuntimeError as error:
        check_refusal(error, network, images, "images")
        raise
