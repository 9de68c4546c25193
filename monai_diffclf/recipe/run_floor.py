# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The floor beside the result of a run: would logistic regression on a few pixels have done as well?"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from .._class_names import classes_of_finding
from .._text_path import text_path
from ..bundle import Bundle, open_bundle
from ..data.label_vectors import has_findings
from ..storage.atomic_file import replace_text
from ..storage.outputs import Outputs
from .pixel_floor import METRICS, PIXELS, Floor, Items, PixelClassifiers, Reader, shrunk

__all__ = ["FILE_NAME", "floor_lines", "floor_table", "floor_text", "write_floor"]

FILE_NAME = "floor.json"
_NAMES = {"logistic_regression": "logistic regression", "extra_trees": "ExtraTrees"}
_RESULTS = {"macro_auc": "auc", "accuracy": "accuracy", "balanced_accuracy": "balanced_accuracy"}


def write_floor(
    bundle: Bundle | str | os.PathLike[str], run: str | os.PathLike[str], *, progress: bool = False
) -> dict[str, Any]:
    """Fit the classifiers of `pixel_floor` to a run's training images, and judge them on validation and test.

    They see what the network sees: images that the bundle has read, cropped, resized and scaled, without augmentation.

    Args:
        bundle: a bundle, opened with ``train.json`` and ``evaluate.json``, or its folder.
        run: folder of the run; ``floor.json`` is written there.
        progress: whether to show progress bars.

    Returns:
        what was written: for "validation" and "test" each classifier's ``macro_auc``, ``accuracy`` and
        ``balanced_accuracy``, with ``pixels``, the side of the images in pixels; of several findings the same for each
        by its name, of the images of which it is known.

    Raises:
        ValueError: when a split is absent, or an image cannot be read.
    """
    opened = bundle if isinstance(bundle, Bundle) else open_bundle(bundle, "train.json", "evaluate.json")
    train = opened.get("train#datalist")
    splits = {"validation": opened.get("validate#datalist"), "test": opened.get("test#datalist")}

    def read(item: Mapping[str, Any]) -> torch.Tensor:
        return opened.read(item)[0]

    floor: dict[str, Any] = {}
    if has_findings(train):
        floor = _of_findings(train, splits, opened.classes, read, progress=progress)
    else:
        fitted = PixelClassifiers.fit(train, opened.classes, read=read, progress=progress)
        floor = {
            name: {**fitted.judge(items, progress=progress), "pixels": fitted.pixels} for name, items in splits.items()
        }
    folder = text_path(run, "run")
    Outputs(folder, "floor").add([FILE_NAME])  # so that it goes when an evaluation begins anew
    replace_text(folder / FILE_NAME, json.dumps(floor, indent=2, allow_nan=False) + "\n")
    return floor


def _of_findings(
    train: Items, splits: Mapping[str, Items], findings: Sequence[str], read: Reader, *, progress: bool
) -> dict[str, dict[str, Any]]:
    """The floor of each finding by split and name; every image is read once."""
    small = {name: shrunk(items, read, progress=progress) for name, items in {**splits, "train": train}.items()}
    floor: dict[str, dict[str, Any]] = {name: {} for name in splits}
    for number, finding in enumerate(findings):
        own = {name: _of_finding(items, number) for name, items in small.items()}
        fitted = PixelClassifiers.fit(own["train"], classes_of_finding(finding), read=lambda item: item["image"])
        for name in splits:
            floor[name][finding] = {**fitted.judge(own[name]), "pixels": fitted.pixels}
    return floor


def _of_finding(items: Items, number: int) -> list[dict[str, Any]]:
    """The images of which a finding is known, labelled by its absence and presence."""
    labelled = [{**item, "label": int(item["label"][number])} for item in items]
    return [item for item in labelled if item["label"] in (0, 1)]


def floor_text(run: str | os.PathLike[str]) -> str:
    """A run's floor beside its results, from ``floor.json`` and ``results.json``, as a table and a sentence in words.

    Raises:
        ValueError: when one of the files is absent or something else.
    """
    folder = text_path(run, "run")
    return "\n".join(floor_lines(_read(folder / FILE_NAME), _read(folder / "results.json")))


def floor_lines(floor: Mapping[str, Any], results: Mapping[str, Any], finding: str = "") -> list[str]:
    r"""The lines of `floor_text`.

    Args:
        floor: as `write_floor` gives it.
        results: as `monai_diffclf.handlers.write_results` gives them.
        finding: the one of several that both are of.

    Example:
        >>> of = lambda auc: {"macro_auc": auc, "accuracy": 0.9, "balanced_accuracy": 0.9}
        >>> value = {name: {"value": 0.85} for name in ("auc", "accuracy", "balanced_accuracy")}
        >>> floor = {"test": {"logistic_regression": of(0.9), "extra_trees": of(0.8), "pixels": 16}}
        >>> print(*floor_lines(floor, {"test": {"diffusion_mean": value}}), sep="\n")
        test                                macro AUC  accuracy  balanced accuracy
          diffusion_mean                        0.850     0.850              0.850
          logistic regression on 16 px          0.900     0.900              0.900
          ExtraTrees on 16 px                   0.800     0.900              0.900
          The simpler model is better on these images: macro AUC 0.850, 0.900 of logistic regression. Use it, or ...
    """
    lines: list[str] = []
    for split in ("validation", "test"):
        if split not in floor:
            continue
        if "pixels" not in floor[split]:
            for finding, own in floor[split].items():
                lines += floor_lines({split: own}, {split: _models_of(results.get(split, {}), finding)}, finding)
            continue
        lines.append(_head(f"{split}, {finding}" if finding else split))
        models = {
            name: {metric: entry[key]["value"] for metric, key in _RESULTS.items()}
            for name, entry in results.get(split, {}).items()
        }
        pixels = floor[split]["pixels"]
        floors = {name: floor[split][name] for name in _NAMES if name in floor[split]}
        lines += [_row(name, values) for name, values in models.items()]
        lines += [_row(f"{_NAMES[name]} on {pixels} px", values) for name, values in floors.items()]
        if models:
            lines.append(f"  {_verdict([entry['auc'] for entry in results[split].values()], floors)}")
    return lines


def _models_of(results: Mapping[str, Any], finding: str) -> dict[str, Any]:
    """The results of one finding of several, by the names of the classifiers."""
    split = ((name.partition(", "), entry) for name, entry in results.items())
    return {model: entry for (model, _, asked), entry in split if asked == finding}


def floor_table(floor: Floor) -> list[str]:
    r"""The lines of a table of one split's floor.

    Example:
        >>> values = {"macro_auc": 0.9, "accuracy": 0.8, "balanced_accuracy": 0.75}
        >>> print(*floor_table({"extra_trees": values}), sep="\n")
                                            macro AUC  accuracy  balanced accuracy
          ExtraTrees on 16 px                   0.900     0.800              0.750
    """
    return [_head(""), *(_row(f"{_NAMES[name]} on {PIXELS} px", floor[name]) for name in _NAMES if name in floor)]


def _head(split: str) -> str:
    return f"{split:34s}{'macro AUC':>11s}{'accuracy':>10s}{'balanced accuracy':>19s}"


def _row(name: str, values: Mapping[str, float | None]) -> str:
    cells = ["-" if values[metric] is None else f"{values[metric]:.3f}" for metric in METRICS]
    return f"  {name:32s}{cells[0]:>11s}{cells[1]:>10s}{cells[2]:>19s}"


def _verdict(found: Sequence[Mapping[str, float]], floors: Mapping[str, Any]) -> str:
    """Whether the trained model is worth its cost, by macro AUC and, where it is known, its interval."""
    known = {name: values["macro_auc"] for name, values in floors.items() if values["macro_auc"] is not None}
    if not known:
        return "The floor has no AUC, as a class is absent."
    best = max(known, key=lambda name: known[name])
    own, below = max(found, key=lambda auc: auc["value"]), known[best]
    low, high = own.get("low", own["value"]), own.get("high", own["value"])
    interval = f" ({low:.3f} to {high:.3f})" if "low" in own else ""
    numbers = f"macro AUC {own['value']:.3f}{interval}, {below:.3f} of {_NAMES[best]}"
    if round(below, 3) > round(high, 3):
        return f"The simpler model is better on these images: {numbers}. Use it, or more or better images."
    if round(below, 3) < round(low, 3):
        return f"Above the floor: {numbers}."
    return f"No better than a simple model as far as these images tell: {numbers}."


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"run: expected {path}, which an evaluation writes: {error}") from error
