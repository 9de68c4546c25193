"""The floor: logistic regression and ExtraTrees on the means of 16 x 16 fields; unlikeness by pixel statistics."""

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
from benchmarks.evidence.methods.linear import class_distances
from monai_diffclf.uncertainty import image_statistics


class PixelMethod:
    """A classifier of scikit-learn on few pixels, as `monai_diffclf.recipe.pixel_floor` has them."""

    def __init__(self, kind: str, pixels: int = 16) -> None:
        self.settings: dict[str, Any] = {"kind": kind, "pixels": pixels, "class_weight": "balanced"}
        self.settings["unlikeness"] = "distance of image_statistics"

    def fit(self, train: Images, validation: Images, seed: int, folder: Path) -> FittedPixels:
        """Fit to training images; validation is not used."""
        start = time.perf_counter()
        if self.settings["kind"] == "extra_trees":
            model: Any = ExtraTreesClassifier(300, class_weight="balanced", random_state=seed)
        else:
            model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, class_weight="balanced"))
        model.fit(_fields(train, self.settings["pixels"]), train.labels)
        seconds = time.perf_counter() - start
        statistics = _statistics(train)
        scale = StandardScaler().fit(statistics)
        distances = class_distances(scale.transform(statistics), train.labels)
        return FittedPixels(model, self.settings["pixels"], seconds, lambda x: distances(scale.transform(x)))


class FittedPixels:
    """See `PixelMethod`; unlikeness is the Mahalanobis distance of `image_statistics` to the nearest class mean."""

    def __init__(self, model: Any, pixels: int, seconds: float, distances: Any) -> None:
        self.model, self.pixels, self.distances = model, pixels, distances
        self.facts: dict[str, Any] = {"training_seconds": round(seconds, 2), "evaluations": 0, "parameters": None}

    def predict(self, images: Images) -> Prediction:
        """Probabilities and distances."""
        p = self.model.predict_proba(_fields(images, self.pixels)).astype(np.float64)
        return Prediction(p, self.distances(_statistics(images)))


def _fields(images: Images, pixels: int) -> Any:
    small = torch.nn.functional.adaptive_avg_pool2d(as_tensor(images), pixels)
    return small.flatten(1).numpy()


def _statistics(images: Images) -> Any:
    """All statistics of values, detail and places [N, S], those of the colour images with colour."""
    parts = [image_statistics(part)["everything"] for part in as_tensor(images).split(128)]
    return torch.cat(parts).numpy()
