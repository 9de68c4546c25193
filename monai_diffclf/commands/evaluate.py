# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""``monai-diffclf evaluate``: measure on validation and test images how good a training is."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from ..bundle import Bundle, find_bundle, open_bundle
from ..handlers import read_results
from ..recipe import floor_lines, write_floor
from ..run import run_bundle
from ..run.several import run_in_processes
from .options import (
    bundle_argument,
    data_option,
    device_option,
    draws_option,
    processes_option,
    read_settings,
    run_option,
    set_option,
)
from .results import command_options, finish
from .runs import (
    Started,
    check_data,
    check_settings,
    decides_by_errors,
    keep_decision,
    laid_over,
    run_folder,
    run_seed,
    run_settings,
)

__all__ = ["command"]

_FILES = ("train.json", "evaluate.json")
_NAMES = {
    "dataset_dir": "--data",
    "output_dir": "--run",
    "num_draws": "--draws",
    "device": "--device",
}


@click.command("evaluate")
@bundle_argument
@run_option
@data_option
@draws_option
@device_option
@processes_option
@set_option
@command_options
def command(
    bundle: str,
    run: Path | None,
    data: str | None,
    draws: int | None,
    device: str | None,
    num_processes: int,
    settings: tuple[str, ...],
    progress: bool,
    debug: bool,
) -> None:
    """Measure on validation and test images how good a training is, beside what simple classifiers reach on pixels.

    BUNDLE is the bundle that was trained. Data and settings are those of the training where they are not given. Where
    the bundle has not been trained, the weights that it ships are measured. Run the same command again to go on.

    Rule, weighting and temperature given by --set are kept with the run: fit and report go by them, and classify by
    those of the fit.
    """
    root, typed = find_bundle(bundle), read_settings(settings)
    check_settings(typed, _NAMES)
    folder = run_folder(root, run)
    started = Started.of(folder)
    files = (*_FILES, *laid_over(root, started.configs, option="--run"))
    dataset = check_data(root, files, data or started.data)
    typed = {**started.settings, **typed}
    values: dict[str, Any] = {
        **_weights(root, folder, files, named=run is not None),
        "num_draws": draws,
        "device": device,
    }
    values |= {"output_dir": folder, "dataset_dir": None if dataset is None else Path(dataset)}
    values = {name: value for name, value in values.items() if name not in typed}
    if num_processes == 1:
        parser = run_bundle(root, files, values, typed=typed, names=_NAMES, progress=progress)
        opened = Bundle(root=root, parser=parser)
    else:
        shared = (*files, "multi_gpu_evaluate.json")
        shown = {**values, "progress": None if progress else False}
        run_in_processes(root, shared, shown, num_processes, typed=typed, names=_NAMES, debug=debug)
        opened = open_bundle(root, *files, **{name: value for name, value in values.items() if value is not None})
    keep_decision(folder, typed)
    floor = _floor(opened, folder, progress=progress)
    results = read_results(folder / "results.json")
    again = ["monai-diffclf", "fit", bundle, *([] if run is None else ["--run", str(run)])]
    result: dict[str, Any] = {"path": str(folder), "results": str(folder / "results.json")}
    result |= {"next": shlex.join(again)} if decides_by_errors(opened) else {}
    result["floor"] = floor
    result.update({name: results[name] for name in ("validation", "test") if name in results})
    table = "\n".join(floor_lines(floor, results) if floor else _lines(results))
    following = f"next: {result['next']}\n" if "next" in result else ""
    finish(result, f"{table}\n{following}{folder}")


def _weights(root: Path, folder: Path, files: tuple[str, ...], *, named: bool) -> dict[str, Any]:
    """Which weights are measured, and what they ask for.

    Raises:
        ValueError: when a folder was named that holds no training, or the bundle ships no weights.
    """
    if (folder / "model.pt").is_file():
        return {**run_settings(root, folder, *files), "seed": run_seed(folder)}
    shipped = root / "models" / "model.pt"
    more = "it was stopped before its first validation: go on with it by monai-diffclf train"
    if not (folder / "checkpoint.pt").is_file():
        more = "train first: monai-diffclf train"
        if shipped.is_file() and not named:
            print(f"no training in {folder}: measuring the weights that {root.name} ships", file=sys.stderr)
            return {"checkpoint": shipped, "seed": run_seed(shipped.parent)}
    raise ValueError(f"--run: expected the folder of a training, which holds model.pt, got {folder}; {more}")


def _floor(bundle: Bundle, folder: Path, *, progress: bool) -> dict[str, Any]:
    """What simple classifiers reach; nothing where the training images are not at hand."""
    try:
        return write_floor(bundle, folder, progress=progress)
    except (ValueError, OSError) as error:
        print(f"no floor of simple classifiers: {error}", file=sys.stderr)
        return {}


def _lines(results: dict[str, Any]) -> list[str]:
    """The results without a floor, a line a model."""
    lines = []
    for split in ("validation", "test"):
        for model, entry in results.get(split, {}).items():
            parts = [
                f"{name.replace('_', ' ')} {entry[name]['value']:.3f}"
                for name in ("auc", "accuracy", "balanced_accuracy")
            ]
            lines.append(f"{split} {model}: {', '.join(parts)}")
    return lines
