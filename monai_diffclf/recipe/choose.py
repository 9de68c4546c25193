# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Which settings fit a data set, and why: a function of what was seen, measured in benchmarks/accuracy/recipe.py."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from .beware import data_warnings, refuse_unfit
from .image_size import choose_image_size
from .images_seen import ImagesSeen
from .network_settings import (
    ADAPTATION,
    COMPONENTS,
    augmentation_configs,
    augmentation_settings,
    decision_settings,
    latent_configs,
    latent_settings,
    network_settings,
    representation_settings,
)
from .step_time import StepTime

__all__ = ["EncoderChoice", "Recipe", "choose_recipe", "recipe_unseen"]

# Steps for 1,440 training images of up to six classes.
STEPS, STEPS_IMAGES, STEPS_CLASSES = 800, 1440, 6
FEWEST_STEPS, MOST_STEPS, TOO_FEW_STEPS = 400, 4000, 200
BATCH, SMALLEST_BATCH = 32, 8
VALIDATIONS = 2
# The same on an encoder's features: steps for 2,000 training images.
ENCODED_STEPS, ENCODED_IMAGES, ENCODED_BATCH, VIEWS = 600, 2000, 64, 5
FEWEST_ENCODED_STEPS, MOST_ENCODED_STEPS, ENCODED_VALIDATIONS = 400, 2000, 4
# Network evaluations that a training step costs for each image: one forward, about two backward.
STEP_EVALUATIONS = 3
# What the validations, and the evaluation afterwards, may cost, as shares of the training's steps.
VALIDATION_SHARE, EVALUATION_SHARE = 0.2, 0.45
VALIDATION_DRAWS, DRAWS = (3, 9), (9, 51)


@dataclass(frozen=True)
class EncoderChoice:
    """A pretrained encoder to work on the features of.

    Args:
        name: as `monai_diffclf.representations.make_encoder` takes it.
        grid: the cells that it makes of an image of the size worked at.
        adapt: whether it is fine-tuned on the training images first.
        latents: channels of the latents, where it is an autoencoder's, which can be decoded; None for features.
        layers: the layers whose maps are joined; None for the encoder's own choice.
        components: principal components of a cell, at most as many as the features have directions.
    """

    name: str
    grid: tuple[int, ...]
    adapt: bool = False
    latents: int | None = None
    layers: tuple[str, ...] | None = None
    components: int = COMPONENTS


@dataclass(frozen=True)
class Recipe:
    """Settings of a bundle for a data set.

    Args:
        image_size: height and width that the network works at.
        channels: 1 or 3.
        settings: id in the bundle's configurations -> value.
        configs: what else a configuration file has otherwise, as `monai_diffclf.bundle.BundleSettings` takes it.
        reasons: why, a sentence each.
        warnings: what to beware of, a sentence each.
        steps: steps of the training; 0 where no images were seen.
        validation_evaluations: network evaluations of all validations during the training.
        evaluations: network evaluations of the evaluation afterwards; None where they cannot be told.
        encodings: images and views that are encoded before the training's steps.
        adaptations: images by which an encoder is fine-tuned before that, every epoch counted.
        judged_encodings: images that are encoded in the evaluation.
    """

    image_size: tuple[int, int]
    channels: int
    settings: dict[str, Any]
    configs: dict[str, dict[str, Any]]
    reasons: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    steps: int = 0
    validation_evaluations: int = 0
    evaluations: int | None = None
    encodings: int = 0
    adaptations: int = 0
    judged_encodings: int = 0

    def training_seconds(self, time: StepTime) -> float:
        """How long the training takes, by what was measured, with all that comes before its steps."""
        return self.before_seconds(time) + self.steps * time.step + self.validation_evaluations * time.evaluation

    def before_seconds(self, time: StepTime) -> float:
        """How long the stages before the first step take: the adaptation of an encoder, and encoding."""
        return self.encodings * time.encoding + self.adaptations * time.adaptation

    def evaluation_seconds(self, time: StepTime) -> float | None:
        """How long the evaluation on validation and test takes; None where it cannot be told."""
        if self.evaluations is None:
            return None
        return self.evaluations * time.evaluation + self.judged_encodings * time.encoding

    def to_dict(self) -> dict[str, Any]:
        """All of it in values for JSON."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def choose_recipe(
    seen: ImagesSeen,
    minutes: float | None = None,
    *,
    time: StepTime | None = None,
    image_size: Sequence[int] | int | None = None,
    method: str = "diffusion",
    encoder: EncoderChoice | None = None,
) -> Recipe:
    """Choose settings by size, channels and number of the images; the same for the same images on every machine.

    Args:
        seen: what `look_at` found.
        minutes: how long the training may take on this machine; None chooses its steps by the number of images.
        time: what `measure_steps` found, needed with `minutes`.
        image_size: height and width (or one number for both) to work at; None chooses them.
        method: of a bundle; for others than "diffusion" size, augmentation and number of steps are chosen, and the rest
            is the template's.
        encoder: the encoder that method "representation" needs.

    Raises:
        ValueError: when a class has too few images to learn from, or none to validate on; when images are too small;
            when an argument is out of range.

    Example:
        >>> seen = ImagesSeen(("a", "b"), {"train": (720, 720), "validation": (90, 90), "test": (90, 90)})
        >>> recipe = choose_recipe(seen)
        >>> recipe.image_size, recipe.steps, recipe.settings["denoiser#levels"]
        ((64, 64), 810, 2)
    """
    refuse_unfit(seen)
    size, size_reason, size_warnings = choose_image_size(
        seen, image_size, encoder=None if encoder is None else encoder.name
    )
    images, num_classes = seen.count("train"), len(seen.classes)
    if encoder is not None:  # so many vectors, less their mean, have no more directions
        cells = images * math.prod(encoder.grid)
        encoder = replace(encoder, components=max(1, min(encoder.components, cells - 1)))
    largest = BATCH if encoder is None else ENCODED_BATCH
    batch = largest if images >= 4 * largest else max(SMALLEST_BATCH, images // 4)
    per_epoch = max(1, images // batch)
    wanted, why = _steps(images, num_classes) if encoder is None else _encoded_steps(images)
    start = replace(recipe_unseen(seen.channels, size, method=method, encoder=encoder), reasons=())
    recipe = _with_epochs(start, seen, batch, per_epoch, math.ceil(wanted / per_epoch), method)
    if minutes is not None:
        epochs = _epochs_within(minutes, time, recipe, per_epoch)
        recipe = _with_epochs(start, seen, batch, per_epoch, epochs, method)
        why = f"as many as fit into {minutes:g} minutes on this machine"
        if time is not None and recipe.training_seconds(time) > 66 * minutes:
            why = f"one epoch, the least, although it takes longer than {minutes:g} minutes on this machine"
    counts = seen.images["train"]
    uneven = f", although there are {min(counts)} to {max(counts)} of each" if max(counts) > 1.5 * min(counts) else ""
    reasons = (
        size_reason,
        "1 channel: all images are grey." if seen.channels == 1 else "3 channels: the images are in colour.",
        *_reasons(size, seen.channels, method, encoder),
        f"{recipe.steps} steps of {batch} images ({recipe.settings['max_epochs']} epochs), {why}; every class is drawn "
        f"equally often{uneven}.",
        *([] if encoder is None else [_encoding_reason(recipe)]),
        *_draws_reasons(recipe, batch, method),
    )
    few = (
        [f"{recipe.steps} steps are few: expect a poor model, good for a trial; allow more minutes."]
        if recipe.steps < TOO_FEW_STEPS
        else []
    )
    return replace(recipe, reasons=reasons, warnings=(*data_warnings(seen), *size_warnings, *few))


def recipe_unseen(
    channels: int, image_size: Sequence[int], *, method: str = "diffusion", encoder: EncoderChoice | None = None
) -> Recipe:
    """What can be chosen before there are images: network, rule and augmentation.

    Args:
        channels: 1 or 3.
        image_size: height and width.
        method: as for `choose_recipe`.
        encoder: likewise.

    Raises:
        ValueError: when one of method "representation" and encoder comes without the other.
    """
    if (method == "representation") != (encoder is not None):
        raise ValueError(f"encoder: expected one with method 'representation' and only there, got method {method!r}")
    size = (int(image_size[0]), int(image_size[1]))
    settings = augmentation_settings()[0]
    if method == "diffusion":
        settings = {**network_settings(size, channels)[0], **decision_settings()[0], **settings}
    elif encoder is not None:
        settings = {**_encoded(encoder)[0], **settings}
    reasons = (
        f"{size[0]} x {size[1]} px and {channels} channel(s), as asked for.",
        *_reasons(size, channels, method, encoder),
    )
    configs = augmentation_configs(size)
    if encoder is not None and encoder.latents is not None:
        configs |= latent_configs()
    return Recipe(image_size=size, channels=channels, settings=settings, configs=configs, reasons=reasons)


def _reasons(size: tuple[int, int], channels: int, method: str, encoder: EncoderChoice | None) -> list[str]:
    own = [network_settings(size, channels)[1], decision_settings()[1]] if method == "diffusion" else []
    own += [] if encoder is None else _encoded(encoder)[1]
    return [*own, augmentation_settings()[1]]


def _encoded(encoder: EncoderChoice) -> tuple[dict[str, Any], list[str]]:
    if encoder.latents is not None:
        return latent_settings(encoder.name, encoder.grid, encoder.latents)
    return representation_settings(
        encoder.name, encoder.grid, adapt=encoder.adapt, layers=encoder.layers, components=encoder.components
    )


def _encoded_steps(images: int) -> tuple[int, str]:
    """Steps on an encoder's features, and why: more images get more, by the square root."""
    steps = ENCODED_STEPS * math.sqrt(images / ENCODED_IMAGES)
    return round(min(max(steps, FEWEST_ENCODED_STEPS), MOST_ENCODED_STEPS)), (
        f"by the number of training images, {images}"
    )


def _encoding_reason(recipe: Recipe) -> str:
    return (
        f"Each training image is encoded as it is and as {recipe.settings['views']} augmented views before the first "
        f"step, {recipe.encodings:,} encodings with the validation images; what is encoded is kept on disk."
    )


def _steps(images: int, num_classes: int) -> tuple[int, str]:
    """Steps of the training, and why: more images, and more than six classes, get more, by the square root."""
    steps = STEPS * math.sqrt(images / STEPS_IMAGES) * math.sqrt(max(1.0, num_classes / STEPS_CLASSES))
    more = f" and the number of classes, {num_classes}" if num_classes > STEPS_CLASSES else ""
    return round(min(max(steps, FEWEST_STEPS), MOST_STEPS)), f"by the number of training images, {images}{more}"


def _epochs_within(minutes: float, time: StepTime | None, recipe: Recipe, per_epoch: int) -> int:
    if not (math.isfinite(minutes) and minutes > 0):
        raise ValueError(f"minutes: expected a positive number, got {minutes}")
    if time is None:
        raise ValueError("time: expected what measure_steps found, by which minutes are counted, got None")
    before = recipe.before_seconds(time)
    steps = recipe.steps * max(0.0, 60 * minutes - before) / (recipe.training_seconds(time) - before)
    return max(1, int(steps / per_epoch))


def _with_epochs(recipe: Recipe, seen: ImagesSeen, batch: int, per_epoch: int, epochs: int, method: str) -> Recipe:
    """What follows from the number of epochs: warm-up, validations and draws."""
    count = ENCODED_VALIDATIONS if method == "representation" else VALIDATIONS
    steps, interval = epochs * per_epoch, math.ceil(epochs / count)
    validations = math.ceil(epochs / interval)
    settings: dict[str, Any] = {"max_epochs": epochs, "batch_size": batch, "val_interval": interval}
    settings["warmup_steps"] = min(100, max(1, steps // 8))
    validated, judged = seen.count("validation"), seen.count("validation") + seen.count("test")
    val_draws, draws = 1, 1
    noised = method in ("diffusion", "representation")
    if noised:
        validated, judged = validated * len(seen.classes), judged * len(seen.classes)
        spent = STEP_EVALUATIONS * steps * batch
        val_draws = _draws(VALIDATION_SHARE * spent / (validations * validated), VALIDATION_DRAWS)
        draws = _draws(EVALUATION_SHARE * spent / judged, DRAWS)
        settings |= {"learning_rate": 1e-3, "val_draws": val_draws, "num_draws": draws}
    work = _encoding_work(recipe, seen) if method == "representation" else {}
    settings |= {"views": VIEWS} if work else {}
    return replace(
        recipe,
        settings={**settings, **recipe.settings},
        steps=steps,
        validation_evaluations=validations * validated * val_draws if method != "score" else 0,
        evaluations=judged * draws if method != "score" else None,
        **work,
    )


def _encoding_work(recipe: Recipe, seen: ImagesSeen) -> dict[str, Any]:
    """Images that an encoder sees: to fit its space, for the index of training images, and as views."""
    images, validated = seen.count("train"), seen.count("validation")
    adapted = "adaptation" in recipe.settings
    return {
        "encodings": images * (2 + VIEWS) + validated,
        "adaptations": images * int(ADAPTATION["epochs"]) if adapted else 0,
        "judged_encodings": validated + seen.count("test"),
    }


def _draws(number: float, limits: tuple[int, int]) -> int:
    """An odd number of draws within limits."""
    return min(max(2 * round((number - 1) / 2) + 1, limits[0]), limits[1])


def _draws_reasons(recipe: Recipe, batch: int, method: str) -> list[str]:
    interval = recipe.settings["val_interval"]
    every = f"Validation after every {interval} epochs" if interval > 1 else "Validation after every epoch"
    if method not in ("diffusion", "representation"):
        return [f"{every}."]
    spent = STEP_EVALUATIONS * recipe.steps * batch
    validation, evaluation = (n / spent for n in (recipe.validation_evaluations, recipe.evaluations or 0))
    return [
        f"{every} with {recipe.settings['val_draws']} noise draws an image: {validation:.1f} times the work of the "
        "training's steps.",
        f"{recipe.settings['num_draws']} noise draws an image in the evaluation: {evaluation:.1f} times that work; "
        "evaluate --draws takes another number.",
    ]
