"""The floor: logistic regression and ExtraTrees on the means of 16 x 16 fields."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.evidence.data import Images, as_tensor
from benchmarks.evidence.method import Prediction


class PixelMethod:
    """A classifier of scikit-learn on few pixels, as `monai_diffclf.recipe.pixel_floor` has them."""

    def __init__(self, kind: str, pixels: int = 16) -> None:
        self.settings: dict[str, Any] = {"kind": kind, "pixels": pixels, "class_weight": "balanced"}

    def fit(self, train: Images, validation: Images, seed: int, folder: Path) -> FittedPixels:
        """Fit to training images; validation is not used."""
        start = time.perf_counter()
        if self.settings["kind"] == "extra_trees":
            model: Any = ExtraTreesClassifier(300, class_weight="balanced", random_state=seed)
        else:
            model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, class_weight="balanced"))
        model.fit(_fields(train, self.settings["pixels"]), train.labels)
        return FittedPixels(model, self.settings["pixels"], time.perf_counter() - start)


class FittedPixels:
    """See `PixelMethod`."""

    def __init__(self, model: Any, pixels: int, seconds: float) -> None:
        self.model, self.pixels = model, pixels
        self.facts: dict[str, Any] = {"training_seconds": round(seconds, 2), "evaluations": 0, "parameters": None}

    def predict(self, images: Images) -> Prediction:
        """Probabilities; no score of unlikeness."""
        return Prediction(self.model.predict_proba(_fields(images, self.pixels)).astype(np.float64))


def _fields(images: Images, pixels: int) -> Any:
    small = torch.nn.functional.adaptive_avg_pool2d(as_tensor(images), pixels)
    return small.flatten(1).numpy()
