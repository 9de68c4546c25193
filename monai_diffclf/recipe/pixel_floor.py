# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What simple classifiers reach on a few pixels: the floor that a diffusion model should be above."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from .._checks import plain_tensor
from ..image_io import ReadImage
from ..metrics.statistics import class_recall, roc_auc

__all__ = ["METRICS", "PIXELS", "Floor", "PixelClassifiers", "pixel_floor"]

PIXELS, VOXELS = 16, 8  # along each side of an image, of a volume
METRICS = ("macro_auc", "accuracy", "balanced_accuracy")
_TREES = 300
Items = Sequence[Mapping[str, Any]]
Reader = Callable[[Mapping[str, Any]], torch.Tensor]
Floor = dict[str, dict[str, float | None]]
"""Classifier -> ``macro_auc``, ``accuracy``, ``balanced_accuracy``; None where the images lack a class."""


def pixel_floor(
    train_items: Items,
    judged_items: Items,
    classes: Sequence[str],
    *,
    read: Reader | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Floor:
    """How well logistic regression and ExtraTrees tell the classes apart by the means of 16 x 16 fields of an image.

    Of a volume they are those of 8 x 8 x 8 blocks.

    Args:
        train_items: datalist to learn from, as `monai_diffclf.data.load_datalist` gives it.
        judged_items: datalist to judge them on; that no patient is in both is for the split to see to.
        classes: names of the classes in the order of their labels.
        read: makes an image ``[C, H, W]`` or ``[C, X, Y, Z]`` of an item; None reads grey images and crops the centre
            to a square.
        seed: seed of ExtraTrees.
        progress: whether to show a progress bar.

    Raises:
        ValueError: when an image cannot be read, or training holds images of one class only.

    Example:
        >>> items = [{"image": np.full((20, 20), 200 * k, np.uint8), "label": k} for k in (0, 1) for _ in range(3)]
        >>> pixel_floor(items, items, ["dark", "bright"])["logistic_regression"]
        {'macro_auc': 1.0, 'accuracy': 1.0, 'balanced_accuracy': 1.0}
    """
    fitted = PixelClassifiers.fit(train_items, classes, read=read, seed=seed, progress=progress)
    return fitted.judge(judged_items, progress=progress)


@dataclass(frozen=True)
class PixelClassifiers:
    """Logistic regression and ExtraTrees, fitted; see `pixel_floor`.

    Args:
        models: name -> fitted classifier of scikit-learn.
        num_classes: number of classes K.
        read: makes an image of an item.
        pixels: into how many fields each side of the images was divided.
    """

    models: Mapping[str, Any]
    num_classes: int
    read: Reader
    pixels: int = PIXELS

    @classmethod
    def fit(
        cls,
        items: Items,
        classes: Sequence[str],
        *,
        read: Reader | None = None,
        seed: int = 0,
        progress: bool = False,
    ) -> PixelClassifiers:
        """Fit both to a datalist, every class with the same weight; see `pixel_floor`."""
        reader = _read_grey if read is None else read
        fields, labels = _all_fields(items, reader, progress, "floor, training"), _labels(items)
        pixels = fields.reshape(len(fields), -1)
        if len(np.unique(labels)) < 2:
            raise ValueError(f"train_items: expected images of two or more classes, got {len(items)} of one")
        models = {
            "logistic_regression": make_pipeline(
                StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=1000)
            ),
            "extra_trees": ExtraTreesClassifier(_TREES, min_samples_leaf=2, class_weight="balanced", random_state=seed),
        }
        fitted = {name: model.fit(pixels, labels) for name, model in models.items()}
        return cls(fitted, len(classes), reader, fields.shape[-1])

    def judge(self, items: Items, *, progress: bool = False) -> Floor:
        """Metrics of both on other images."""
        fields, labels = _all_fields(items, self.read, progress, "floor, judging"), _labels(items)
        pixels = fields.reshape(len(fields), -1)
        found: Floor = {}
        for name, model in self.models.items():
            probabilities = np.zeros((len(items), self.num_classes))
            probabilities[:, model.classes_] = model.predict_proba(pixels)
            found[name] = _metrics(labels, probabilities)
        return found


def _metrics(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> dict[str, float | None]:
    """As `monai_diffclf.metrics.classification_metrics` has them, without intervals."""
    num_classes, called = probabilities.shape[1], probabilities.argmax(1)
    accuracy = float((called == labels).mean())
    if len(np.unique(labels)) < num_classes:
        return {"macro_auc": None, "accuracy": accuracy, "balanced_accuracy": None}
    rivals = range(num_classes) if num_classes > 2 else [1]
    auc = np.mean([roc_auc(labels == k, probabilities[:, k]) for k in rivals])
    return dict(zip(METRICS, (float(auc), accuracy, float(class_recall(labels, called).mean())), strict=True))


def _labels(items: Items) -> NDArray[np.int64]:
    if any(np.ndim(item["label"]) for item in items):
        raise ValueError("label: expected one class an image, got several findings, to which none is fitted")
    return np.array([int(item["label"]) for item in items], dtype=np.int64)


def _all_fields(items: Items, read: Reader, progress: bool, what: str) -> NDArray[np.float32]:
    """The fields of each image [n, C, 16, 16], or [n, C, 8, 8, 8]."""
    bar: Iterable[Mapping[str, Any]] = tqdm(items, desc=what, unit="image", disable=not progress)
    return np.stack([_fields(read(item)) for item in bar])


def shrunk(items: Items, read: Reader, *, progress: bool = False) -> list[dict[str, Any]]:
    """Items with their images as the classifiers see them, see `_fields`, read once."""
    bar: Iterable[Mapping[str, Any]] = tqdm(items, desc="floor", unit="image", disable=not progress)
    return [{"image": torch.from_numpy(_fields(read(item))), "label": item["label"]} for item in bar]


def _fields(image: torch.Tensor) -> NDArray[np.float32]:
    """Means over 16 x 16 fields [C, 16, 16], of a volume over 8 x 8 x 8 blocks [C, 8, 8, 8]."""
    pixels = plain_tensor(image).float()
    if pixels.ndim == 4:
        return np.asarray(torch.nn.functional.adaptive_avg_pool3d(pixels, VOXELS).numpy())
    if pixels.ndim != 3:
        raise ValueError(f"read: expected images [C, H, W] or [C, X, Y, Z], got {list(pixels.shape)}")
    return np.asarray(torch.nn.functional.adaptive_avg_pool2d(pixels, PIXELS).numpy())


def _read_grey(item: Mapping[str, Any]) -> torch.Tensor:
    return ReadImage(4 * PIXELS, resize=True)(item["image"], name=str(item.get("key", "")))
