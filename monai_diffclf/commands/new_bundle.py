# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""``monai-diffclf new-bundle``: look at images, choose settings, say why and how long, write the bundle."""

from __future__ import annotations

import os
import re
import shlex
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from .._class_names import class_names
from .._text_path import text_path
from ..bundle import Bundle, BundleSettings, open_bundle, write_bundle
from ..bundle.settings import METHODS
from ..recipe import (
    EncoderChoice,
    Floor,
    ImagesSeen,
    Recipe,
    StepTime,
    choose_recipe,
    encoder_precision,
    floor_table,
    look_at,
    measure_steps,
    pixel_floor,
    recipe_unseen,
)
from ..recipe.image_size import ENCODED
from .encoder_choice import choose_encoder
from .options import data_option
from .results import command_options, finish
from .runs import check_outside

__all__ = ["command"]

# The floor is fitted to at most so many training images, spread over all, and judged on as many: it should not take
# longer than a look.
_FLOOR_IMAGES = 3000
_OPTION = re.compile(r"--[a-z]+(?:_[a-z]+)+")


def _data_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """What says how the data set is read; stored in the bundle, so that no later command needs it."""
    for option in reversed(
        (
            click.option("--image-column", metavar="NAME", help="Tables: column of the image files."),
            click.option("--label-column", metavar="NAME", help="Tables: column of the class."),
            click.option("--label-type", type=click.Choice(["name", "index"]), help="Tables: what that column holds."),
            click.option("--split-column", metavar="NAME", help="Tables: column of the split, or hash to make one."),
            click.option("--patient-column", metavar="NAME", help="Tables: column of the patient."),
            click.option("--patient-pattern", metavar="REGEX", help=r"Finds the patient in a file name: '(P\d+)_'."),
            click.option("--allow-shared-patients", metavar="A,B", help="Splits that may have patients in common."),
        )
    ):
        function = option(function)
    return function


@click.command("new-bundle")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@data_option
@click.option("--classes", metavar="A,B", help="Names of the classes, in order; default: as found in the data.")
@click.option("--channels", type=click.Choice(["1", "3"]), help="1 for grey, 3 for colour; default: as found.")
@click.option("--image-size", metavar="N|HxW", help="Size in pixels to work at; default: chosen by the images.")
@click.option("--name", metavar="NAME", help="Name of the bundle; default: that of the folder.")
@click.option("--method", type=click.Choice(METHODS), help="How to classify; default: diffusion.")
@click.option(
    "--encoder",
    metavar="NAME",
    help="Work on the features of this pretrained network, such as efficientnet_lite0: recommended above 96 px.",
)
@click.option(
    "--layers",
    metavar="A,B",
    help="Layers of the encoder whose maps are joined: earlier ones are finer; default: the encoder's own choice.",
)
@click.option("--adapt", is_flag=True, help="Fine-tune the encoder on the training images first.")
@click.option("--minutes", type=float, metavar="M", help="How long the training may take on this machine.")
@_data_options
@click.option("--no-floor", is_flag=True, help="Do not try simple classifiers on the validation images.")
@command_options
def command(
    folder: Path,
    data: str | None,
    classes: str | None,
    channels: str | None,
    image_size: str | None,
    name: str | None,
    method: str | None,
    encoder: str | None,
    layers: str | None,
    adapt: bool,
    minutes: float | None,
    no_floor: bool,
    progress: bool,
    debug: bool,
    **options: str | None,
) -> None:
    """Make a bundle for your own images: look at them, choose settings, say why, and write it to the folder DIR.

    DATA is a folder with a folder for each class, split into train, val and test or not, or a table (CSV). Images for
    testing are counted, never opened. Without DATA, --classes, --channels and --image-size say what will come.
    """
    target = text_path(folder, "DIR")
    _check_free(target)
    given: dict[str, Any] = {key: value for key, value in options.items() if value is not None}
    if shared := given.get("allow_shared_patients"):
        given["allow_shared_patients"] = [part.strip(" '\"[]") for part in shared.split(",")]
    names = None if classes is None else class_names(classes)
    size = None if image_size is None else _read_size(image_size)
    chosen = choose_encoder(method, encoder, layers=layers, adapt=adapt, size=size)
    method = "representation" if chosen else method or "diffusion"
    common: dict[str, Any] = {"name": name or _name_of(target), "method": method}
    if data is None:
        _without_data(target, names, channels, size, common, minutes, given, chosen)
        return
    check_outside("DIR", target, text_path(data, "data"), f"{data}, whose images it is for")
    try:
        seen = look_at(data, classes=names, progress=progress, **given)
    except ValueError as error:  # what reads data names the options of bundles
        raise ValueError(_OPTION.sub(lambda found: found[0].replace("_", "-"), str(error))) from error
    if channels is not None and int(channels) != seen.channels:
        found = "grey" if seen.channels == 1 else "in colour"
        raise ValueError(
            f"--channels: expected {seen.channels}, as the images are {found}, got {channels}; convert them first"
        )
    values = {"dataset_dir": Path(os.path.abspath(text_path(data, "data"))), **given}

    def settings_of(recipe: Recipe) -> BundleSettings:
        return _settings(recipe, list(seen.classes), {**values}, common)

    recipe = choose_recipe(seen, image_size=size, method=method, encoder=chosen)
    with tempfile.TemporaryDirectory() as folder_name:
        path = write_bundle(Path(folder_name) / "trial", settings_of(recipe))
        trial = open_bundle(path, "train.json", progress=False)
        if chosen is not None and chosen.latents is None and (precision := encoder_precision(trial)) is not None:
            values["encoder_amp"] = precision
            trial = open_bundle(path, "train.json", progress=False, encoder_amp=precision)
        floor = None if no_floor else _floor(trial, progress)
        time = measure_steps(trial)
    if minutes is not None:
        recipe = choose_recipe(seen, minutes, time=time, image_size=size, method=method, encoder=chosen)
    path = write_bundle(target, settings_of(recipe))
    _report(path, seen, recipe, floor, time)


def _name_of(target: Path) -> str:
    """A bundle's name from that of its folder, which may hold any characters."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", target.resolve().name)[:80].strip("_.-") or "bundle"


def _check_free(target: Path) -> None:
    """Refuse a folder that holds something before the images are looked at."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        what = "holds something already" if target.is_dir() else "is a file"
        raise ValueError(f"DIR: expected a new or empty folder, but {target} {what}; name another one")


def _read_size(text: str) -> list[int]:
    """``64`` or ``64x48``, height first."""
    parts = text.lower().replace(",", "x").split("x")
    whole = all(part.strip().isascii() and part.strip().isdigit() and int(part) > 0 for part in parts)
    if len(parts) not in (1, 2) or not whole:
        raise ValueError(
            f"--image-size: expected a number of pixels such as 64, or height and width, 64x48, got {text}"
        )
    return [int(part) for part in (parts * 2)[:2]]


def _settings(recipe: Recipe, classes: list[str], values: dict[str, Any], common: dict[str, Any]) -> BundleSettings:
    return BundleSettings(
        classes=classes,
        channels=recipe.channels,
        image_size=list(recipe.image_size),
        values={**recipe.settings, **values},
        configs=recipe.configs,
        **common,
    )


def _without_data(
    target: Path,
    classes: list[str] | None,
    channels: str | None,
    size: list[int] | None,
    common: dict[str, Any],
    minutes: float | None,
    options: dict[str, Any],
    encoder: EncoderChoice | None,
) -> None:
    """A bundle for images that are not there yet."""
    size = [ENCODED, ENCODED] if size is None and encoder is not None else size
    wanted = {"--classes": classes, "--channels": channels, "--image-size": size}
    if missing := [option for option, value in wanted.items() if value is None]:
        raise click.UsageError(
            f"--data: not given; give it, or {', '.join(missing)} as well, for images that come later"
        )
    if minutes is not None:
        raise click.UsageError("--minutes: needs --data, as steps are timed on real images")
    recipe = recipe_unseen(int(channels or 1), size or [], method=common["method"], encoder=encoder)
    path = write_bundle(target, _settings(recipe, classes or [], options, common))
    follow = f"monai-diffclf train {shlex.quote(str(path))} --data FOLDER"
    lines = ["No images were looked at: the number of epochs is not fitted to any.", *_recipe_lines(recipe)]
    result = {"path": str(path), "seen": None, "recipe": recipe.to_dict(), "floor": None, "next": follow}
    finish(result, "\n".join([*lines, "", f"Next: {follow}", str(path)]))


def _floor(trial: Bundle, progress: bool) -> Floor:
    """The floor on the validation images, as the network will see them."""
    train, judged = (_spread(trial.get(f"{split}#datalist")) for split in ("train", "validate"))
    return pixel_floor(train, judged, trial.classes, read=lambda item: trial.read(item)[0], progress=progress)


def _spread(items: list[Any]) -> list[Any]:
    step = -(-len(items) // _FLOOR_IMAGES)
    return items[::step]


def _report(path: Path, seen: ImagesSeen, recipe: Recipe, floor: Floor | None, time: StepTime) -> None:
    follow = f"monai-diffclf train {shlex.quote(str(path))}"
    training, evaluation = recipe.training_seconds(time), recipe.evaluation_seconds(time)
    result = {
        "path": str(path),
        "seen": seen.to_dict(),
        "recipe": recipe.to_dict(),
        "floor": floor,
        "seconds_per_step": time.step,
        "training_seconds": training,
        "evaluation_seconds": evaluation,
        "encoding_seconds": recipe.before_seconds(time),
        "next": follow,
    }
    lines = ["Images", *(f"  {line}" for line in seen.lines()), *_recipe_lines(recipe)]
    if floor is not None:
        lines += ["", "Simple classifiers on 16 px, judged on validation: the floor"]
        lines += [f"  {line}" for line in floor_table(floor)]
    after = "" if evaluation is None else f", evaluation about {_minutes(evaluation)}"
    lines += [
        "",
        f"Time on this machine: training about {_minutes(training)} ({_parts(recipe, time)}){after}.",
        f"Next: {follow}",
        str(path),
    ]
    finish(result, "\n".join(lines))


def _parts(recipe: Recipe, time: StepTime) -> str:
    before = recipe.before_seconds(time)
    encoding = f"{_minutes(before)} before the first step, " if before else ""
    return f"{encoding}{time.step:.2f} s a step"


def _recipe_lines(recipe: Recipe) -> list[str]:
    lines = ["", "Recipe", *(f"  - {reason}" for reason in recipe.reasons)]
    return [*lines, *(["", "Beware"] if recipe.warnings else []), *(f"  - {text}" for text in recipe.warnings)]


def _minutes(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{seconds / 3600:.1f} h"
