"""What the comparisons change: subsets, wrong labels, a planted mark; see `corruptions` for test images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.evidence.corruptions import corrupt
from benchmarks.evidence.data import Images
from benchmarks.evidence.protocol import protocol

__all__ = [
    "FEW_DRAWS",
    "KNOWING_TRAINING",
    "PRECONDITIONED",
    "SHIPPED",
    "change_test",
    "change_training",
    "mark",
    "subset",
    "trained_as",
    "wrong_labels",
]

FEW_DRAWS = "few_draws"  # what one draw says, and how many a stopping rule takes
PRECONDITIONED = "preconditioned"  # a longer training, of a network past which fine noise is led
SHIPPED = "shipped"  # the weights that the bundle ships since, other than those of the first comparison
KNOWING_TRAINING = "other_kinds/training"  # typicality is fitted to training images too


def trained_as(condition: str) -> str:
    """The condition of the training whose model is tested: the others change the test, or what is asked, alone.

    Example:
        >>> trained_as("corruption/noise/0.08"), trained_as("learning_curve/0.05"), trained_as("longer/few_draws")
        ('primary', 'learning_curve/0.05', 'longer')
    """
    kind, _, value = condition.partition("/")
    if value == FEW_DRAWS:
        return kind
    return "primary" if kind in ("corruption", "other_kinds", FEW_DRAWS) else condition


def change_training(condition: str, train: Images, validation: Images, seed: int) -> tuple[Images, Images]:
    """Training and validation images of a condition.

    Raises:
        ValueError: for an unknown condition.
    """
    kind, _, value = condition.partition("/")
    if condition in ("primary", "longer", PRECONDITIONED, SHIPPED):
        return train, validation
    if kind == "learning_curve":
        return train.take(subset(train, float(value), seed)), validation
    if kind == "label_noise":
        return train.with_labels(wrong_labels(train.labels, float(value), seed)), validation
    if condition == "shortcut":
        return tuple(part.with_pixels(mark(part.pixels, corners(part.labels, seed))) for part in (train, validation))  # type: ignore[return-value]
    raise ValueError(
        "condition: expected primary, longer, preconditioned, shipped, learning_curve/F, label_noise/S or shortcut, "
        f"got {condition!r}"
    )


def change_test(condition: str, test: Images) -> Images:
    """Test images of a condition: corrupted, or with the mark of the next class."""
    kind, *rest = condition.split("/")
    if kind == "corruption":
        return test.with_pixels(corrupt(test.pixels, rest[0], float(rest[1])))
    if condition == "shortcut":
        return test.with_pixels(mark(test.pixels, (test.labels + 1) % (int(test.labels.max()) + 1)))
    return test


def subset(images: Images, fraction: float, seed: int, least: int = 2) -> NDArray[np.int64]:
    """Rows of a fraction of the images: groups drawn within classes; smaller fractions are subsets of larger ones.

    Args:
        images: all training images.
        fraction: in (0, 1].
        seed: of the order in which groups are drawn.
        least: images of a class at least.

    Raises:
        ValueError: for a fraction out of range.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction: expected a number above 0 and at most 1, got {fraction}")
    rng = np.random.default_rng(seed)
    groups, codes = np.unique(images.groups, return_inverse=True)
    place = rng.permutation(len(groups))[codes.reshape(-1)]
    chosen: list[int] = []
    for label in np.unique(images.labels):
        rows = np.flatnonzero(images.labels == label)
        wanted = max(least, round(fraction * len(rows)))
        ordered = rows[np.argsort(place[rows], kind="stable")]
        last = place[ordered[min(wanted, len(ordered)) - 1]]
        chosen += ordered[place[ordered] <= last].tolist()
    return np.sort(np.asarray(chosen, dtype=np.int64))


def wrong_labels(labels: NDArray[np.int64], share: float, seed: int) -> NDArray[np.int64]:
    """Labels of which a share, drawn at random, are another class, each of the others equally likely.

    Example:
        >>> labels = np.zeros(100, np.int64); labels[50:] = 1
        >>> int((wrong_labels(labels, 0.2, seed=0) != labels).sum())
        20
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share: expected a number from 0 to 1, got {share}")
    rng = np.random.default_rng([seed, 1])
    classes = int(labels.max()) + 1
    rows = rng.permutation(len(labels))[: round(share * len(labels))]
    changed = labels.copy()
    changed[rows] = (labels[rows] + rng.integers(1, classes, len(rows))) % classes
    return changed


def corners(labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """The corner of each image's mark: that of its class, for a share of 5 % that of another class."""
    return wrong_labels(labels, 1 - protocol()["shortcut"]["share"], seed)


def mark(pixels: NDArray[np.uint8], corner: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Images [N, H, W, C] with a white square in a corner: 0 upper left, 1 upper right, 2 lower left, 3 lower right."""
    settings = protocol()["shortcut"]
    height, width = pixels.shape[1:3]
    side, margin = max(1, round(settings["side"] * width)), max(1, round(settings["margin"] * width))
    changed = pixels.copy()
    for number, place in enumerate(corner.tolist()):
        top = margin if place < 2 else height - margin - side
        left = margin if place % 2 == 0 else width - margin - side
        changed[number, top : top + side, left : left + side] = round(255 * settings["value"])
    return changed
