# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What all of our inferers have in common, and what engines and handlers may rely on."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import Inferer

from ..classification import Classification, StoppingRule
from ..networks.conditioning import Conditioning
from ..networks.schedulers import NoiseProcess

__all__ = ["ClassifierInferer"]


class ClassifierInferer(Inferer):
    """An inferer from images and a network to class probabilities, and on request to a `Classification`."""

    process: NoiseProcess
    conditioning: Conditioning
    num_classes: int
    seed: int
    stopping: StoppingRule | None = None

    def __call__(self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        """Class probabilities [B, K] of images [B, C, *spatial]. Further arguments go to the network at every call."""
        if args:
            raise ValueError(f"args: expected keyword arguments for the network only, got {len(args)} positional ones")
        return self.classify(inputs, network, **kwargs).probabilities

    @abstractmethod
    def classify(
        self, images: torch.Tensor, network: Callable[..., Any], *, error_maps: bool = False, **kwargs: Any
    ) -> Classification:
        """Classify a batch of images [B, C, *spatial]."""

    @abstractmethod
    def decide(self, values: torch.Tensor, num_elements: int) -> Classification:
        """Classify from stored values [n, K, N], without a network."""

    @property
    @abstractmethod
    def num_estimates(self) -> int:
        """Values of each image and class, N."""
