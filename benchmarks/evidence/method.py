"""What a method is: settings, ``fit`` and ``predict``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
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
