# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""``monai-diffclf report``: one page about a run that was evaluated."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from tqdm import tqdm

from ..bundle import Bundle, find_bundle
from ..classification import LevelWeights
from ..fitting.fit_findings import has_findings
from ..networks import network_hash
from ..report import ReportData, write_report
from ..report.curves import classify
from ..report.gallery import choose_images
from ..report.run_folder import RunFolder, check_weights, read_run
from ..report.run_report import report_of_run
from ..storage.outputs import Outputs
from .options import bundle_argument, data_option, device_option, run_option
from .results import command_options, finish
from .runs import Started, open_run, run_folder

__all__ = ["command"]

_FILES = ("train.json", "evaluate.json")
_BATCH = 4
_NO_IMAGES = "Without the images of the test set the report shows no pictures and no maps; name them by --data."


@click.command("report")
@bundle_argument
@run_option
@data_option
@device_option
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The page to write; default: report.html in RUN.",
)
@command_options
def command(
    bundle: str,
    run: Path | None,
    data: str | None,
    device: str | None,
    output: Path | None,
    progress: bool,
    debug: bool,
) -> None:
    """Write a page about a run that was evaluated: results, errors, uncertainty, data and settings.

    BUNDLE is the bundle that was trained. Nothing is fetched by the page, and it can be handed on as it is.
    """
    root = find_bundle(bundle)
    folder = run_folder(root, run)
    if has_findings(folder):
        raise ValueError(
            f"--run: expected a run of classes, got one of several findings, of which no page is made; {folder} has "
            "results.json and a folder evaluation/finding_N with the tables of each"
        )
    again = "evaluate it: " + shlex.join(
        [
            "monai-diffclf",
            "evaluate",
            bundle,
            *(["--run", str(run)] if run else []),
            *(["--data", data] if data else []),
        ]
    )
    found = read_run(folder, command=again)
    opened = _open(root, found, data, device)
    check_weights(found, network_hash(opened.network), opened.checkpoint, command=again)
    settings = opened.decision
    weighting = settings.get("weighting", "uniform")
    if not isinstance(weighting, str | LevelWeights):
        raise ValueError(f"weighting: expected the name of a weighting in {root}, got {type(weighting).__name__}")
    title = f"{opened.name}: {len(found.classes)} classes told apart"
    page = report_of_run(found, weighting=weighting, temperature=settings.get("temperature"), title=title)
    page = _with_pictures(page, opened, needed=data is not None, progress=progress)
    target = output or folder / "report.html"
    if output is None:  # so that it goes when the run gets other weights
        Outputs(folder, "report").add([target.name])
    path = write_report(target, page).resolve()
    without = [] if page.run is None else list(page.run.missing)
    finish({"path": str(path), "without": without}, "\n".join([*without, str(path)]))


def _open(root: Path, found: RunFolder, data: str | None, device: str | None) -> Bundle:
    """The bundle with the run's weights, where it has some of its own, and the evaluation's draws."""
    given: dict[str, Any] = {"classes": found.classes, "num_draws": found.stored.errors.num_draws}
    images = data or Started.of(found.folder).data
    given |= {} if images is None else {"dataset_dir": Path(images)}
    given |= {} if device is None else {"device": device}
    return open_run(root, _FILES, found.folder, **given)


def _with_pictures(page: ReportData, bundle: Bundle, *, needed: bool, progress: bool) -> ReportData:
    """The page with pictures and maps of the images that its gallery shows, where they are at hand.

    Raises:
        ValueError: when they are ``needed`` and are not at hand.
    """
    result = classify(page.errors, next(iter(page.rules)), page.weighting)
    chosen = [i for group in choose_images(page.labels, result).values() for i in group]
    try:
        items = _items(bundle, page, chosen)
        images = bundle.read(items)
        maps = _maps(bundle, page, images, chosen, progress=progress)
    except (ValueError, OSError) as error:
        if needed:
            raise
        return _without(page, f"{_NO_IMAGES} ({error})")
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        return _without(page, "Of volumes the report shows no pictures.")
    return replace(page, images=images.numpy(), shown=chosen, error_maps=maps)


def _without(page: ReportData, text: str) -> ReportData:
    if page.run is None:
        return page
    return replace(page, run=replace(page.run, missing=[*page.run.missing, text]))


def _items(bundle: Bundle, page: ReportData, chosen: Sequence[int]) -> list[dict[str, Any]]:
    """The chosen images' items of the data set, found by their names."""
    keys = [list(page.keys or [])[i] for i in chosen]
    known: dict[str, dict[str, Any]] = {}
    # How a folder is split depends on options that the evaluation may have been given.
    for split in ("test", "validation", "train"):
        if all(key in known for key in keys):
            break
        try:
            items = bundle.get("load")(bundle.get("dataset_dir"), split)
        except (ValueError, OSError):
            if split == "test":
                raise
            continue
        known = {str(item.get("key", "")): dict(item) for item in items} | known
    if lost := [key for key in keys if key not in known]:
        raise ValueError(
            f"--data: expected the images that were evaluated in {bundle.get('dataset_dir')}, found none called "
            f"{lost[0]}"
        )
    return [known[key] for key in keys]


def _maps(
    bundle: Bundle, page: ReportData, images: torch.Tensor, chosen: Sequence[int], *, progress: bool
) -> np.ndarray[Any, Any] | None:
    """Error maps [S, K, H, W] of the images; None where their errors cannot be split so.

    Raises:
        ValueError: when the images are not those that were evaluated.
    """
    maps, errors = [], []
    inferer = bundle.get("evaluate#inferer")
    with tqdm(total=len(images), unit=" images", desc="maps", file=sys.stderr, disable=not progress) as bar:
        for part in images.split(_BATCH):
            with torch.no_grad():
                made = inferer.classify(part.to(bundle.device), bundle.network, error_maps=True)
            maps.append(made.error_maps)
            errors.append(made.errors.values.cpu())
            bar.update(len(part))
    differing = page.errors[torch.tensor(chosen)].differing(torch.cat(errors)).tolist()
    if other := [i for i, differs in zip(chosen, differing, strict=True) if differs]:
        raise ValueError(
            f"--data: {list(page.keys or [])[other[0]]} is not the image that was evaluated under this name; evaluate "
            "again, or name the data set that was evaluated"
        )
    if any(part is None for part in maps) or maps[0].ndim != 4:
        return None
    return torch.cat(maps).float().cpu().numpy()
