"""The floor: closed forms on images made by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from monai_diffclf.metrics import classification_metrics
from monai_diffclf.recipe import PixelClassifiers, pixel_floor
from monai_diffclf.recipe.pixel_floor import _metrics, shrunk

PERFECT = {"macro_auc": 1.0, "accuracy": 1.0, "balanced_accuracy": 1.0}


def corners(count: int, seed: int, classes: int = 3) -> list[dict]:
    """Class k has its bright square in corner k."""
    rng = np.random.default_rng(seed)
    items = []
    for n in range(count):
        image = rng.integers(0, 40, (32, 32), dtype=np.uint8)
        row, column = divmod(n % classes, 2)
        image[16 * row : 16 * row + 16, 16 * column : 16 * column + 16] += 200
        items.append({"image": image, "label": n % classes, "key": str(n)})
    return items


def test_easy_classes_are_told_apart():
    floor = pixel_floor(corners(60, 0), corners(30, 1), ["a", "b", "c"])
    assert floor == {"logistic_regression": PERFECT, "extra_trees": PERFECT}


def test_noise_is_not():
    rng = np.random.default_rng(0)
    items = [{"image": rng.integers(0, 255, (32, 32), dtype=np.uint8), "label": n % 2} for n in range(400)]
    floor = pixel_floor(items[:200], items[200:], ["a", "b"])
    assert all(0.35 < values["macro_auc"] < 0.65 for values in floor.values())


def test_the_seed_decides():
    items = corners(60, 0)
    rng = np.random.default_rng(1)
    for item in items:
        item["label"] = int(rng.integers(3))
    one, same, other = (pixel_floor(items[:40], items[40:], ["a", "b", "c"], seed=seed) for seed in (0, 0, 1))
    assert one == same and one["extra_trees"] != other["extra_trees"]
    assert one["logistic_regression"] == other["logistic_regression"]


def test_colour_is_seen():
    """Classes that differ in colour alone: grey they are equal."""
    rng = np.random.default_rng(0)
    items = []
    for n in range(40):
        image = np.full((3, 16, 16), 0.5) + rng.normal(0, 0.01, (3, 16, 16))
        image[n % 2 * 2] += 0.2
        items.append({"image": image, "label": n % 2})
    read = {
        "colour": lambda item: torch.from_numpy(item["image"]),
        "grey": lambda item: torch.from_numpy(item["image"]).mean(0, keepdim=True),
    }
    found = {name: pixel_floor(items[:20], items[20:], ["a", "b"], read=each) for name, each in read.items()}
    assert found["colour"]["logistic_regression"] == PERFECT
    assert found["grey"]["logistic_regression"]["macro_auc"] < 0.9


def test_volumes_are_seen_by_blocks():
    """Class 1 has a bright block off the middle slice; a plane of the volume would not show it."""
    rng = np.random.default_rng(0)
    items = []
    for n in range(60):
        volume = torch.from_numpy(rng.random((1, 16, 16, 24), dtype=np.float32))
        volume[:, 2:6, 2:6, 18:22] += 3 * (n % 2)
        items.append({"image": volume, "label": n % 2})
    fitted = PixelClassifiers.fit(items[:40], ["a", "b"], read=lambda item: item["image"])
    assert fitted.judge(items[40:]) == {"logistic_regression": PERFECT, "extra_trees": PERFECT}
    assert fitted.pixels == 8 and fitted.models["extra_trees"].n_features_in_ == 8**3
    small = shrunk(items, lambda item: item["image"])
    assert PixelClassifiers.fit(small, ["a", "b"], read=lambda item: item["image"]).pixels == 8


@pytest.mark.parametrize("classes", [2, 4])
def test_metrics_are_those_of_the_results(classes):
    rng = np.random.default_rng(classes)
    labels = rng.integers(classes, size=80)
    probabilities = rng.dirichlet(np.ones(classes), 80)
    expected = classification_metrics(labels, probabilities, num_resamples=10)
    for name, other in (("macro_auc", "auc"), ("accuracy",) * 2, ("balanced_accuracy",) * 2):
        assert _metrics(labels, probabilities)[name] == pytest.approx(expected[other]["value"])


def test_no_auc_where_a_class_is_absent():
    fitted = PixelClassifiers.fit(corners(60, 0), ["a", "b", "c"])
    judged = fitted.judge([item for item in corners(30, 1) if item["label"] < 2])
    assert judged["extra_trees"] == {"macro_auc": None, "accuracy": 1.0, "balanced_accuracy": None}


def test_refusals():
    with pytest.raises(ValueError, match="two or more classes, got 20 of one"):
        pixel_floor([item for item in corners(60, 0) if item["label"] == 1], corners(3, 0), ["a", "b", "c"])
    with pytest.raises(ValueError, match=r"images \[C, H, W\]"):
        pixel_floor(corners(6, 0), corners(3, 0), ["a", "b", "c"], read=lambda item: torch.zeros(4, 4))
