# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Which settings fit a data set, and why: a function of what was seen, measured in benchmarks/accuracy/recipe.py."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .._class_names import shown
from .image_size import choose_image_size
from .images_seen import ImagesSeen
from .step_time import StepTime

__all__ = ["Recipe", "choose_recipe"]

# Images of a class in training: fewer are refused, and fewer than the second number are warned of.
LEAST, FEW = 8, 100
UNBALANCED = 10
# Steps of a training of 1,440 images; more images get more, by the square root of their number.
STEPS, STEPS_IMAGES, FEWEST_STEPS, MOST_STEPS = 800, 1440, 400, 4000
CLASSES = 6  # more classes than these get more steps, by the square root of their number
BATCH = 32
VALIDATIONS = 2
# Network evaluations for each image of a training step: forward once, backward about twice.
STEP_EVALUATIONS = 3
# Shares of the training's evaluations that its validations, and the evaluation afterwards, may take.
VALIDATION_SHARE, EVALUATION_SHARE = 0.2, 0.45
DRAWS, VALIDATION_DRAWS = (9, 51), (3, 9)
# Of the template's augmentation: mirroring may swap what matters, the other two cost more time than they help.
LEFT_OUT = {"train.json": {"augmentation": {"~flip": None, "~brightness": None, "~offset": None}}}


@dataclass(frozen=True)
class Recipe:
    """Settings of a bundle for a data set.

    Args:
        image_size: height and width that the network works at.
        channels: 1 or 3.
        settings: id in the bundle's configurations -> value.
        reasons: why, a sentence each.
        warnings: what to beware of, a sentence each.
        steps: steps of the training.
        validation_evaluations: network evaluations of all validations during the training.
        evaluations: network evaluations of the evaluation afterwards.
        configs: what else a configuration file has otherwise, as `monai_diffclf.bundle.BundleSettings` takes it.
    """

    image_size: tuple[int, int]
    channels: int
    settings: dict[str, Any]
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]
    steps: int
    validation_evaluations: int
    evaluations: int
    configs: dict[str, Any] = field(default_factory=dict)

    def training_seconds(self, time: StepTime) -> float:
        """How long the training takes, by what was measured."""
        return self.steps * time.step + self.validation_evaluations * time.evaluation

    def evaluation_seconds(self, time: StepTime) -> float:
        """How long the evaluation on validation and test takes."""
        return self.evaluations * time.evaluation


def choose_recipe(
    seen: ImagesSeen,
    minutes: float | None = None,
    *,
    time: StepTime | None = None,
    image_size: Sequence[int] | int | None = None,
) -> Recipe:
    """Choose settings by size, channels and number of the images; the same for the same images on every machine.

    Args:
        seen: what `look_at` found.
        minutes: how long the training may take on this machine; None chooses its steps by the number of images.
        time: what `measure_steps` found, needed with `minutes`.
        image_size: height and width (or one number for both) to work at; None chooses them.

    Raises:
        ValueError: when a class has too few images to learn from, or none to validate on; when images are too small;
            when an argument is out of range.

    Example:
        >>> seen = ImagesSeen(("a", "b"), {"train": (720, 720), "validation": (90, 90), "test": (90, 90)})
        >>> recipe = choose_recipe(seen)
        >>> recipe.image_size, recipe.steps, recipe.settings["denoiser#levels"]
        ((64, 64), 810, 2)
    """
    _refuse(seen)
    size, size_reasons, size_warnings = choose_image_size(seen, image_size)
    network, network_reason = _network(size, seen.channels)
    images, num_classes = seen.count("train"), len(seen.classes)
    batch = BATCH if images >= 4 * BATCH else max(LEAST, images // 4)
    per_epoch = max(1, images // batch)
    wanted, steps_reason = _steps(images, num_classes)
    epochs = max(1, math.ceil(wanted / per_epoch))
    recipe = _assemble(seen, size, network, batch, epochs, per_epoch)
    if minutes is not None:
        epochs = _epochs_within(minutes, time, recipe, per_epoch)
        recipe = _assemble(seen, size, network, batch, epochs, per_epoch)
        steps_reason = f"as many as fit into {minutes:g} minutes on this machine"
    settings = recipe.settings
    reasons = [
        *size_reasons,
        "1 channel: all images are grey." if seen.channels == 1 else "3 channels: the images are in colour.",
        network_reason,
        f"{recipe.steps} steps of {batch} images ({epochs} epochs): {steps_reason}.",
        f"Every class is drawn equally often{_shares(seen)}.",
        "Images are turned by up to 6 degrees, moved and scaled a little, and their contrast varies a little; they are "
        "not mirrored, because left and right may matter: where they do not, add augmentation#flip as docs/recipe.md "
        "says.",
        f"Validation after every {settings['val_interval']} epochs with {settings['val_draws']} noise draws an image: "
        "about a fifth of the time.",
        f"{settings['num_draws']} noise draws an image in the evaluation, so that it takes about half as long as the "
        "training; the class with the smallest mean error, low noise weighing less (min-SNR).",
    ]
    warnings = (*_warnings(seen), *size_warnings, *_short(recipe))
    return replace(recipe, reasons=tuple(reasons), warnings=warnings)


def _refuse(seen: ImagesSeen) -> None:
    """What nothing can be learned from."""
    for split in ("train", "validation"):
        if lacking := seen.lacking(split):
            raise ValueError(
                f"data: no image of {_names(lacking)} for {split}; a split by hash takes a tenth each for validation "
                "and test, so that a class needs about 30 images; add some, make split folders, or leave the class out "
                "of --classes"
            )
    few = [(name, n) for name, n in zip(seen.classes, seen.images["train"], strict=True) if n < LEAST]
    if few:
        name, count = min(few, key=lambda each: each[1])
        raise ValueError(
            f"data: expected at least {LEAST} training images of each class, got {count} of {shown(name, 40)!r}; add "
            "some (100 or more are better), or leave the class out of --classes"
        )


def _network(size: tuple[int, int], channels: int) -> tuple[dict[str, Any], str]:
    """The wavelet U-Net that works on about 16 x 16 inside, and why."""
    levels = max(1, round(math.log2(max(size) / 16)))
    inside = tuple(math.ceil(side / 2**levels) for side in size)
    coefficients = channels * 4**levels
    first = 32 if coefficients <= 48 else 64
    widths = [first, 2 * first if first == 32 else 96, 64 if first == 32 else 96]
    if min(inside) < 12:
        widths = widths[:2]
    settings = {
        "denoiser#levels": levels,
        "denoiser#channels": widths,
        "denoiser#attention_levels": [False] * (len(widths) - 1) + [True],
        "denoiser#num_res_blocks": 2,
    }
    return settings, (
        f"{levels} wavelet level(s): the network works on {inside[0]} x {inside[1]} inside, which a CPU can train; "
        f"{', '.join(map(str, widths))} channels, attention at the coarsest."
    )


def _steps(images: int, num_classes: int) -> tuple[int, str]:
    """Steps of the training, and why."""
    steps = STEPS * math.sqrt(images / STEPS_IMAGES) * math.sqrt(max(1.0, num_classes / CLASSES))
    steps = round(min(max(steps, FEWEST_STEPS), MOST_STEPS))
    return steps, f"by the square root of the number of training images, {images}" + (
        f", and of the {num_classes} classes" if num_classes > CLASSES else ""
    )


def _epochs_within(minutes: float, time: StepTime | None, recipe: Recipe, per_epoch: int) -> int:
    if not (math.isfinite(minutes) and minutes > 0):
        raise ValueError(f"minutes: expected a positive number, got {minutes}")
    if time is None:
        raise ValueError("time: expected what measure_steps found, which minutes are counted by, got None")
    seconds = 60 * minutes * recipe.steps * time.step / recipe.training_seconds(time)
    return max(1, round(seconds / (time.step * per_epoch)))


def _assemble(
    seen: ImagesSeen, size: tuple[int, int], network: dict[str, Any], batch: int, epochs: int, per_epoch: int
) -> Recipe:
    """Everything that follows from the number of epochs."""
    steps, num_classes = epochs * per_epoch, len(seen.classes)
    spent = STEP_EVALUATIONS * steps * batch
    validated = seen.count("validation") * num_classes
    interval = math.ceil(epochs / VALIDATIONS)
    validations = math.ceil(epochs / interval)
    val_draws = _draws(VALIDATION_SHARE * spent / validations / validated, *VALIDATION_DRAWS)
    judged = validated + seen.count("test") * num_classes
    draws = _draws(EVALUATION_SHARE * spent / judged, *DRAWS)
    settings = {
        "max_epochs": epochs,
        "batch_size": batch,
        "learning_rate": 1e-3,
        "warmup_steps": min(100, max(1, steps // 8)),
        "val_interval": interval,
        "val_draws": val_draws,
        **network,
        **_augmentation(size),
        "num_draws": draws,
        "rule": "mean",
        "weighting": "min_snr",
        "temperature": 0.05,
    }
    return Recipe(
        image_size=size,
        channels=seen.channels,
        settings=settings,
        reasons=(),
        warnings=(),
        steps=steps,
        validation_evaluations=validations * validated * val_draws,
        evaluations=judged * draws,
        configs=LEFT_OUT,
    )


def _augmentation(size: tuple[int, int]) -> dict[str, Any]:
    """Small changes that are safe whatever an image shows: nothing is mirrored or turned far."""
    return {
        "augmentation#affine#prob": 1.0,
        "augmentation#affine#rotate_range": 0.1,
        "augmentation#affine#scale_range": [0.1, 0.1],
        "augmentation#affine#translate_range": round(0.03 * max(size), 1),
        "augmentation#contrast#prob": 0.5,
        "augmentation#contrast#gamma": [0.8, 1.25],
    }


def _draws(number: float, least: int, most: int) -> int:
    """An odd number of draws within limits."""
    return min(max(2 * round((number - 1) / 2) + 1, least), most)


def _shares(seen: ImagesSeen) -> str:
    counts = seen.images["train"]
    return "" if max(counts) < 1.5 * min(counts) else f", although training has {min(counts)} to {max(counts)} of each"


def _warnings(seen: ImagesSeen) -> list[str]:
    """What to beware of in the data."""
    found = []
    counts = seen.images["train"]
    if min(counts) < FEW:
        name = seen.classes[counts.index(min(counts))]
        found.append(
            f"Few images: {min(counts)} of {shown(name, 40)!r} for training. From fewer than {FEW} a diffusion model "
            "learns little; a simple classifier is likely to be better: compare with the floor."
        )
    if max(counts) >= UNBALANCED * min(counts):
        found.append(
            f"Classes are unbalanced, {max(counts)} to {min(counts)} images: judge by balanced accuracy, and give the "
            "shares where the model is used with --set prior=... when classifying."
        )
    if seen.count("test") == 0:
        found.append("There is no test set: evaluate will ask for one.")
    elif lacking := seen.lacking("test"):
        found.append(f"The test set has no image of {_names(lacking)}: evaluate will refuse it.")
    if seen.patients.get("train") is None:
        found.append(
            "Patients are not known: images of one patient may be in two splits, and results too good. Name them by a "
            "folder for each, --patient-column or --patient-pattern."
        )
    return found


def _short(recipe: Recipe) -> list[str]:
    if recipe.steps >= FEWEST_STEPS // 2:
        return []
    return [f"{recipe.steps} steps are few: expect a poor model, good for a trial only; allow more minutes."]


def _names(names: Sequence[str]) -> str:
    return ", ".join(repr(shown(name, 40)) for name in names)
