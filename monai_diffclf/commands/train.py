# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""``monai-diffclf train``: train a bundle, or go on with a training that was stopped."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

import click

from ..bundle import find_bundle
from ..bundle.agreement import check_agreement
from ..networks.model_description import read_model_note
from ..run import run_bundle
from ..run.default_kinds import Kind, kind_of_default
from ..run.options import read_config
from ..run.several import run_in_processes
from .options import (
    bundle_argument,
    config_option,
    data_option,
    device_option,
    processes_option,
    read_settings,
    set_option,
)
from .results import command_options, finish
from .runs import Started, check_data, check_outside, check_settings, laid_over, run_folder

__all__ = ["command"]

_FILES = ("train.json",)
_NAMES = {
    "dataset_dir": "--data",
    "output_dir": "--output",
    "seed": "--seed",
    "max_epochs": "--epochs",
    "device": "--device",
    "initial_weights": "--from",
}


@click.command("train")
@bundle_argument
@data_option
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="RUN",
    help="Folder of the run; default: the bundle's runs/seed_0, with the seed's number.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, metavar="N", help="Seed of all random numbers.")
@click.option("--epochs", type=click.IntRange(min=1), metavar="N", help="Passes through the training images.")
@click.option(
    "--from",
    "initial",
    type=click.Path(exists=True, path_type=Path),
    metavar="MODEL",
    help="Begin with the weights in a file, or in the folder of a run or bundle; default: anew.",
)
@device_option
@processes_option
@config_option
@set_option
@command_options
def command(
    bundle: str,
    data: str | None,
    output: Path | None,
    seed: int,
    epochs: int | None,
    initial: Path | None,
    device: str | None,
    num_processes: int,
    configs: tuple[str, ...],
    settings: tuple[str, ...],
    progress: bool,
    debug: bool,
) -> None:
    """Train a bundle, or go on with a training that was stopped: run the same command again.

    BUNDLE is a folder that new-bundle made, or the name of a shipped bundle. The run's folder gets the best weights
    (model.pt) and what they are of (model.json).
    """
    root, typed = find_bundle(bundle), read_settings(settings)
    check_settings(typed, _NAMES)
    check_agreement(root)
    files = (*_FILES, *laid_over(root, configs))
    folder = run_folder(root, output, seed=seed)
    dataset = check_data(root, files, data)
    images = dataset or read_config([root / "configs" / name for name in files]).get("dataset_dir")
    if isinstance(images, str) and os.path.isabs(images):
        check_outside("--output", folder, Path(images), f"the images in {images}")
    values: dict[str, Any] = {"output_dir": folder, "seed": seed, "max_epochs": epochs, "device": device}
    values["initial_weights"] = None if initial is None else _weights(initial)
    values["dataset_dir"] = None if dataset is None else Path(dataset)
    started = Started(dataset, _whole_paths(typed, root, files), configs)
    if num_processes == 1:
        run_bundle(
            root,
            files,
            values,
            typed=typed,
            names=_NAMES,
            ready=lambda _: started.save(folder),
            progress=progress,
        )
    else:
        files = (*files, "multi_gpu_train.json")
        values["progress"] = None if progress else False
        run_in_processes(root, files, values, num_processes, typed=typed, names=_NAMES, debug=debug)
        started.save(folder)
    note = read_model_note(folder / "model.pt")
    again = ["monai-diffclf", "evaluate", bundle]
    again += [] if folder == run_folder(root) else ["--run", str(output or folder)]
    result = {"path": str(folder), **{name: note.get(name) for name in ("metric", "value", "epoch")}}
    result["next"] = shlex.join(again)
    best = (
        "" if note.get("value") is None else f"best {note['metric']} {note['value']:.4f}, after epoch {note['epoch']}\n"
    )
    finish(result, f"{best}next: {result['next']}\n{folder}")


def _whole_paths(typed: dict[str, str], root: Path, files: tuple[str, ...]) -> dict[str, str]:
    """Settings as they are kept with the run: paths as whole ones, as later commands run in other folders."""
    config = read_config([root / "configs" / name for name in files])

    def kept(name: str, value: str) -> str:
        try:
            is_path = kind_of_default(config, name) is Kind.PATH
        except KeyError:  # refused, with the nearest name, before anything is kept
            is_path = False
        whole = os.path.abspath(os.path.expanduser(value))
        return whole if is_path and os.path.exists(whole) else value

    return {name: kept(name, value) for name, value in typed.items()}


def _weights(path: Path) -> Path:
    """The file of weights that a file or folder names.

    Raises:
        ValueError: when the folder has none.
    """
    if path.is_file():
        return path.resolve()
    found = [path / name for name in ("model.pt", "models/model.pt") if (path / name).is_file()]
    if not found:
        raise ValueError(f"--from: expected a file of weights, or a folder with model.pt, got {path}")
    return found[0].resolve()
