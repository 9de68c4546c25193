"""What a method is: settings, ``fit`` and ``predict``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.evidence.data import Images


class Prediction(NamedTuple):
    """What a method says of N images.

    Args:
        probabilities: of each class [N, K].
        unlikeness: the larger, the less like training images [N]; None where a method has no such score.
    """

    probabilities: NDArray[np.float64]
    unlikeness: NDArray[np.float64] | None = None


class Fitted(Protocol):
    """A fitted method. ``facts`` are its costs: seconds of training, parameters, network evaluations an image."""

    facts: dict[str, Any]

    def predict(self, images: Images) -> Prediction:
        """Probabilities and unlikeness of images."""
        ...


class Method(Protocol):
    """A method before it has seen images. ``settings`` are all that it was told, as a JSON value."""

    settings: dict[str, Any]

    def fit(self, train: Images, validation: Images, seed: int, folder: Path) -> Fitted:
        """Fit to training images; validation images may choose an epoch or a regularisation. Files go to a folder."""
        ...


def as_tensor(images: Images) -> torch.Tensor:
    """Images as float32 [N, C, H, W] in [-1, 1], as bundles scale them.

    Example:
        >>> pixels = np.array([0, 255], np.uint8).reshape(1, 1, 2, 1)
        >>> none = np.array([""])
        >>> as_tensor(Images(pixels, np.array([0]), none, none)).flatten().tolist()
        [-1.0, 1.0]
    """
    return torch.from_numpy(images.pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
