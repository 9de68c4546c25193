# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The pictures of a run's report: the images that it shows, found by their names, and their maps, made again."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from ..bundle import Bundle
from ..fitting.evaluated_labels import check_evaluated_labels
from ..report import ReportData
from ..report.curves import classify
from ..report.findings_gallery import choose_of_findings
from ..report.gallery import choose_images

__all__ = ["add_pictures"]

_BATCH = 4
_NO_IMAGES = "Without the images of the test set the report shows no pictures and no maps; name them by --data."
Pages = Mapping[str, ReportData]


def add_pictures(
    pages: Pages, bundle: Bundle, *, findings: bool, needed: bool, progress: bool
) -> dict[str, ReportData]:
    """The pages with pictures and maps of the images that their galleries show, where these are at hand.

    Args:
        pages: of several findings a page each by their names; otherwise one.
        bundle: the bundle as the run was evaluated, with its weights.
        findings: whether the pages are of several findings.
        needed: whether to end with an error where the images are not at hand.
        progress: whether to show a progress bar.

    Raises:
        ValueError: when they are ``needed`` and are not at hand, or others lie under their names; when they are at hand
            with other labels than those evaluated.
    """
    chosen = choose_of_findings(pages) if findings else _chosen(next(iter(pages.values())))
    try:
        images = bundle.read(_items(bundle, chosen))
        if images.ndim != 4 or images.shape[1] not in (1, 3):
            made = _without(pages, "Of volumes the report shows no pictures.")
        else:
            maps, errors = _classified(bundle, images, progress=progress)
            made = {
                name: _with(page, chosen, images, *_of_page(maps, errors, number if findings else None))
                for number, (name, page) in enumerate(pages.items())
            }
    except (ValueError, OSError) as error:
        if needed:
            raise
        return _without(pages, f"{_NO_IMAGES} ({error})")
    items = _split(bundle, "test")
    for number, page in enumerate(pages.values()):
        check_evaluated_labels(list(page.keys or []), page.labels, items, finding=number if findings else None)
    return made


def _chosen(page: ReportData) -> list[str]:
    result = classify(page.errors, next(iter(page.rules)), page.weighting)
    return [list(page.keys or [])[i] for group in choose_images(page.labels, result).values() for i in group]


def _without(pages: Pages, text: str) -> dict[str, ReportData]:
    """The pages without pictures, which they say."""
    return {
        name: page if page.run is None else replace(page, run=replace(page.run, missing=[*page.run.missing, text]))
        for name, page in pages.items()
    }


def _items(bundle: Bundle, keys: Sequence[str]) -> list[dict[str, Any]]:
    """The chosen images' items of the data set, found by their names."""
    known: dict[str, dict[str, Any]] = {}
    # How a folder is split depends on options that the evaluation may have been given.
    for split in ("test", "validation", "train"):
        if all(key in known for key in keys):
            break
        try:
            items = _split(bundle, split)
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


def _split(bundle: Bundle, split: str) -> Sequence[Mapping[str, Any]]:
    """The datalist of a split: of the data set's reader, or as the bundle makes its own images."""
    if "load" in bundle.parser:
        items: Sequence[Mapping[str, Any]] = bundle.get("load")(bundle.get("dataset_dir"), split)
    else:
        items = bundle.get(f"{ {'validation': 'validate'}.get(split, split) }#datalist")
    return items


def _classified(bundle: Bundle, images: torch.Tensor, *, progress: bool) -> tuple[torch.Tensor | None, torch.Tensor]:
    """Error maps of the images, None where their errors cannot be split so, and their errors."""
    maps, errors = [], []
    inferer = bundle.get("evaluate#inferer")
    with tqdm(total=len(images), unit=" images", desc="maps", file=sys.stderr, disable=not progress) as bar:
        for part in images.split(_BATCH):
            with torch.no_grad():
                made = inferer.classify(part.to(bundle.device), bundle.network, error_maps=True)
            maps.append(made.error_maps)
            errors.append(made.errors.values.cpu())
            bar.update(len(part))
    whole = None if any(part is None for part in maps) else torch.cat(maps).float().cpu()
    return whole, torch.cat(errors)


def _of_page(
    maps: torch.Tensor | None, errors: torch.Tensor, finding: int | None
) -> tuple[torch.Tensor | None, torch.Tensor]:
    """What is a page's of maps and errors: of several findings those of its own."""
    if finding is None:
        return maps, errors
    return None if maps is None else maps[:, finding], errors[:, 2 * finding : 2 * finding + 2]


def _with(
    page: ReportData, chosen: Sequence[str], images: torch.Tensor, maps: torch.Tensor | None, errors: torch.Tensor
) -> ReportData:
    """A page with the pictures of those of the chosen images that it is of.

    Raises:
        ValueError: when the images are not those that were evaluated.
    """
    place = {key: number for number, key in enumerate(page.keys or [])}
    own = [i for i, key in enumerate(chosen) if key in place]
    shown = [place[chosen[i]] for i in own]
    differing = page.errors[torch.tensor(shown)].differing(errors[own]).tolist()
    if other := [chosen[i] for i, differs in zip(own, differing, strict=True) if differs]:
        raise ValueError(
            f"--data: {other[0]} is not the image that was evaluated under this name; evaluate again, or name the data "
            "set that was evaluated"
        )
    fits = maps is not None and maps.ndim == 4
    return replace(
        page,
        images=images[own].numpy(),
        shown=shown,
        error_maps=np.asarray(maps[own]) if fits and maps is not None else None,
    )
